//! `AWS::Serverless::WebSocketApi` and `AWS::Serverless::HttpApi`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::resource::Resource;
use super::scope::Scope;
use super::values::{resource_type, scalar};
use super::{Authorizer, Template, WebSocketApi};

/// Adds the WebSocket API.
pub(super) fn add_web_socket(
    template: &mut Template,
    resource: &Resource<'_>,
) -> Result<(), String> {
    resource.allow(
        &["Auth", "RouteSelectionExpression", "Routes", "StageName"],
        &[
            "AccessLogSettings",
            "DefaultRouteSettings",
            "Description",
            "DisableExecuteApiEndpoint",
            "Domain",
            "IpAddressType",
            "Name",
            "RouteSettings",
            "Tags",
        ],
    )?;
    if let Some(other) = &template.web_socket {
        return Err(format!(
            "the local gateway supports one WebSocket API, and the template also has {}",
            other.id
        ));
    }
    let selection = resource
        .text("RouteSelectionExpression")?
        .ok_or("RouteSelectionExpression is missing")?;
    let routes = resource.get("Routes")?;
    let routes = routes
        .as_ref()
        .and_then(Value::as_object)
        .ok_or("Routes is missing or not a mapping")?;
    // Find the function of each route.
    let mut functions = BTreeMap::new();
    for (key, route) in routes {
        let function =
            route_function(template, route).map_err(|problem| format!("route {key}: {problem}"))?;
        functions.insert(key.clone(), function);
    }
    template.web_socket = Some(WebSocketApi {
        id: resource.id.to_owned(),
        api_id: resource.scope.physical_id(resource.id)?,
        // "default" is SAM's own default.
        stage: resource
            .text("StageName")?
            .unwrap_or_else(|| "default".to_owned()),
        authorizer: authorizer(template, resource)?,
        routes: functions,
        selection,
    });
    Ok(())
}

/// Checks that an HTTP API has only supported properties. Its routes are defined by the functions' events.
pub(super) fn check_http(resource: &Resource<'_>) -> Result<(), String> {
    resource.allow(
        &["Auth", "StageName"],
        &[
            "AccessLogSettings",
            "DefaultRouteSettings",
            "Description",
            "DisableExecuteApiEndpoint",
            "Domain",
            "FailOnWarnings",
            "Name",
            "RouteSettings",
            "Tags",
        ],
    )?;
    match resource.get("Auth")? {
        Some(auth) => check_auth(&auth, "DefaultAuthorizer", &["EnableIamAuthorizer"]),
        None => Ok(()),
    }
}

/// Checks that an `Auth` property is supported: either IAM or no authorizer, which is the same here. `authorizer` is
/// the name of the entry that selects the authorizer.
pub(super) fn check_auth(auth: &Value, authorizer: &str, others: &[&str]) -> Result<(), String> {
    let properties = auth.as_object().ok_or("Auth is not a mapping")?;
    for (name, value) in properties {
        if name != authorizer && !others.contains(&name.as_str()) {
            return Err(format!("the local gateway does not support {name} in Auth"));
        }
        let selected = scalar(value).unwrap_or_default();
        if name == authorizer && selected != "AWS_IAM" && selected != "NONE" {
            return Err(format!(
                "the local gateway does not support the authorizer {selected}"
            ));
        }
    }
    Ok(())
}

impl Scope<'_> {
    /// Returns the stage of the HTTP API whose id is `api_id`.
    pub(super) fn http_api_stage(&self, api_id: &str) -> Result<String, String> {
        for (id, resource) in self.resources() {
            if resource_type(resource) == "AWS::Serverless::HttpApi"
                && self.http_api_id(id) == api_id
            {
                let stage = resource.pointer("/Properties/StageName");
                return stage.map_or_else(|| Ok("$default".to_owned()), |stage| self.text(stage));
            }
        }
        Ok("$default".to_owned())
    }
}

fn route_function(template: &Template, route: &Value) -> Result<String, String> {
    let properties = route.as_object().ok_or("the route is not a mapping")?;
    if let Some(name) = properties
        .keys()
        .find(|name| !["FunctionArn", "OperationName"].contains(&name.as_str()))
    {
        return Err(format!("the local gateway does not support {name}"));
    }
    let arn = properties
        .get("FunctionArn")
        .and_then(Value::as_str)
        .ok_or("FunctionArn is missing")?;
    function_of(template, arn)
}

fn authorizer(template: &Template, resource: &Resource<'_>) -> Result<Option<Authorizer>, String> {
    let Some(auth) = resource.get("Auth")? else {
        return Ok(None);
    };
    let text = |name: &str| auth.get(name).and_then(scalar);
    match text("AuthType").as_deref() {
        None | Some("NONE") => Ok(None),
        Some("CUSTOM") => {
            let arn = text("AuthArn").ok_or("Auth has no AuthArn")?;
            let sources = auth.get("IdentitySource").and_then(Value::as_array);
            Ok(Some(Authorizer {
                function: function_of(template, &arn)?,
                identity_sources: sources.into_iter().flatten().filter_map(scalar).collect(),
            }))
        }
        Some(other) => Err(format!(
            "the local gateway does not support AuthType {other}"
        )),
    }
}

fn function_of(template: &Template, arn: &str) -> Result<String, String> {
    template
        .functions
        .values()
        .find(|function| function.arn == arn)
        .map(|function| function.id.clone())
        .ok_or_else(|| format!("{arn} is not a function of the template"))
}
