//! `AWS::Serverless::WebSocketApi` and `AWS::Serverless::HttpApi`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::intrinsics::{Scope, resource_type, scalar};
use super::resources::Resource;
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
            "the local gateway runs one WebSocket API, and there is {} already",
            other.id
        ));
    }
    let selection = resource
        .text("RouteSelectionExpression")?
        .ok_or("it has no RouteSelectionExpression")?;
    let routes = resource.get("Routes")?;
    let routes = routes
        .as_ref()
        .and_then(Value::as_object)
        .ok_or("it has no Routes")?;
    let mut functions = BTreeMap::new();
    for (key, route) in routes {
        let function =
            route_function(template, route).map_err(|problem| format!("route {key}: {problem}"))?;
        functions.insert(key.clone(), function);
    }
    template.web_socket = Some(WebSocketApi {
        id: resource.id.to_owned(),
        api_id: resource.scope.physical_id(resource.id)?,
        // SAM's own default.
        stage: resource
            .text("StageName")?
            .unwrap_or_else(|| "default".to_owned()),
        authorizer: authorizer(template, resource)?,
        routes: functions,
        selection,
    });
    Ok(())
}

/// Accepts an HTTP API whose routes stand at the functions.
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

/// Accepts what says that an HTTP API is signed for or open, which here is the same; `authorizer` is where it says which.
pub(super) fn check_auth(auth: &Value, authorizer: &str, others: &[&str]) -> Result<(), String> {
    let properties = auth.as_object().ok_or("its Auth is no mapping")?;
    for (name, value) in properties {
        if name != authorizer && !others.contains(&name.as_str()) {
            return Err(format!(
                "the local gateway cannot honour {name} of its Auth"
            ));
        }
        let who = scalar(value).unwrap_or_default();
        if name == authorizer && who != "AWS_IAM" && who != "NONE" {
            return Err(format!(
                "the local gateway cannot stand in for the authorizer {who}"
            ));
        }
    }
    Ok(())
}

impl Scope<'_> {
    /// The stage of the HTTP API whose id is `api_id`.
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
    let properties = route.as_object().ok_or("it is no mapping")?;
    if let Some(name) = properties
        .keys()
        .find(|name| !["FunctionArn", "OperationName"].contains(&name.as_str()))
    {
        return Err(format!("the local gateway cannot honour {name}"));
    }
    let arn = properties
        .get("FunctionArn")
        .and_then(Value::as_str)
        .ok_or("it has no FunctionArn")?;
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
            let arn = text("AuthArn").ok_or("its Auth has no AuthArn")?;
            let sources = auth.get("IdentitySource").and_then(Value::as_array);
            Ok(Some(Authorizer {
                function: function_of(template, &arn)?,
                identity_sources: sources.into_iter().flatten().filter_map(scalar).collect(),
            }))
        }
        Some(other) => Err(format!(
            "the local gateway cannot stand in for AuthType {other}"
        )),
    }
}

fn function_of(template: &Template, arn: &str) -> Result<String, String> {
    template
        .functions
        .values()
        .find(|function| function.arn == arn)
        .map(|function| function.id.clone())
        .ok_or_else(|| format!("{arn} is no function of the template"))
}
