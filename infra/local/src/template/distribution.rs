//! `AWS::CloudFront::Distribution` and its functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::resource::{Problem, Resource};
use super::scope::Scope;
use super::values::{resource_type, scalar};
use super::{Behaviour, Distribution, Origin, Template, is_under_v1};

/// Properties that are applied.
const HONOURED: [&str; 5] = [
    "CacheBehaviors",
    "CustomErrorResponses",
    "DefaultCacheBehavior",
    "Enabled",
    "Origins",
];

/// Properties that have no effect locally, such as host names, certificates, edge locations and logs.
const WITHOUT_EFFECT: [&str; 9] = [
    "Aliases",
    "Comment",
    "HttpVersion",
    "IPV6Enabled",
    "Logging",
    "PriceClass",
    "Tags",
    "ViewerCertificate",
    "WebACLId",
];

/// The managed policy without caching. The local gateway has no cache, so it supports no other policy.
const CACHING_DISABLED: &str = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad";
/// The managed policy that forwards everything of the client's request except `Host`.
const ALL_VIEWER_EXCEPT_HOST: &str = "b689b0a8-53d0-40ab-baf2-68738e2966ac";

/// The methods of a behaviour without `AllowedMethods`.
const DEFAULT_METHODS: [&str; 2] = ["GET", "HEAD"];

/// Adds the distribution.
pub(super) fn add(template: &mut Template, resource: &Resource<'_>) -> Result<(), String> {
    resource.allow(&["DistributionConfig"], &["Tags"])?;
    if template.distribution.is_some() {
        return Err(
            "the local gateway supports one distribution, and the template has another".to_owned(),
        );
    }
    let config = resource
        .get("DistributionConfig")?
        .ok_or("DistributionConfig is missing")?;
    let known = |name: &&String| {
        HONOURED.contains(&name.as_str()) || WITHOUT_EFFECT.contains(&name.as_str())
    };
    let names = config
        .as_object()
        .into_iter()
        .flat_map(|config| config.keys());
    if let Some(name) = names.into_iter().find(|name| !known(name)) {
        return Err(format!("the local gateway does not support {name}"));
    }
    let mut origins = BTreeMap::new();
    for value in list(&config, "Origins") {
        origins.insert(text(value, "Id")?, origin(value)?);
    }
    let mut behaviours = Vec::new();
    for value in list(&config, "CacheBehaviors") {
        behaviours.push(behaviour(
            resource.scope,
            text(value, "PathPattern")?,
            value,
        )?);
    }
    let default = config
        .get("DefaultCacheBehavior")
        .ok_or("DefaultCacheBehavior is missing")?;
    behaviours.push(behaviour(resource.scope, "*".to_owned(), default)?);
    if let Some(lost) = behaviours
        .iter()
        .find(|behaviour| !origins.contains_key(&behaviour.origin))
    {
        return Err(format!("there is no origin {}", lost.origin));
    }
    template.distribution = Some(Distribution {
        origins,
        behaviours,
    });
    Ok(())
}

/// Fails if a route is unreachable. A distribution and the HTTP APIs share one address here, and the distribution has
/// every path except `/v1`.
pub(super) fn check_routes(template: &Template) -> Result<(), Problem> {
    let Some(distribution) = &template.distribution else {
        return Ok(());
    };
    let leads_to = |api_id: &str| {
        let mut origins = distribution.origins.values();
        origins.any(|origin| origin.domain.split('.').next() == Some(api_id))
    };
    let lost = template
        .http_routes
        .iter()
        .find(|route| !is_under_v1(&route.path) && !leads_to(&route.api_id));
    lost.map_or(Ok(()), |route| {
        let text = format!(
            "with a distribution, the local gateway serves HTTP API routes only under /v1: {} is not, and its API is not an origin",
            route.path
        );
        Err(Problem {
            place: route.function.clone(),
            text,
        })
    })
}

fn origin(value: &Value) -> Result<Origin, String> {
    let mut headers = Vec::new();
    for header in list(value, "OriginCustomHeaders") {
        headers.push((text(header, "HeaderName")?, text(header, "HeaderValue")?));
    }
    Ok(Origin {
        domain: text(value, "DomainName")?,
        path: value.get("OriginPath").and_then(scalar).unwrap_or_default(),
        headers,
    })
}

fn behaviour(scope: &Scope<'_>, pattern: String, value: &Value) -> Result<Behaviour, String> {
    for (name, expected) in [
        ("CachePolicyId", CACHING_DISABLED),
        ("OriginRequestPolicyId", ALL_VIEWER_EXCEPT_HOST),
    ] {
        let given = value.get(name).and_then(scalar);
        if given.as_deref() != Some(expected) {
            return Err(format!(
                "behaviour {pattern}: the local gateway supports no {name} except {expected}"
            ));
        }
    }
    let methods: Vec<_> = list(value, "AllowedMethods").filter_map(scalar).collect();
    let mut viewer_request = None;
    for association in list(value, "FunctionAssociations") {
        match text(association, "EventType")?.as_str() {
            "viewer-request" => {
                viewer_request = Some(code(scope, &text(association, "FunctionARN")?)?);
            }
            other => {
                return Err(format!(
                    "the local gateway does not support functions of {other}"
                ));
            }
        }
    }
    Ok(Behaviour {
        pattern,
        origin: text(value, "TargetOriginId")?,
        methods: if methods.is_empty() {
            DEFAULT_METHODS.map(str::to_owned).into()
        } else {
            methods
        },
        viewer_request,
    })
}

/// Returns the source of the function with this ARN.
fn code(scope: &Scope<'_>, arn: &str) -> Result<Arc<str>, String> {
    let id = arn.rsplit('/').next().unwrap_or_default();
    let function = scope
        .resources()
        .get(id)
        .filter(|resource| resource_type(resource) == "AWS::CloudFront::Function")
        .ok_or_else(|| format!("{arn} is not a function of the template"))?;
    let code = function
        .pointer("/Properties/FunctionCode")
        .ok_or_else(|| format!("{id} has no FunctionCode"))?;
    Ok(scope.text(code)?.into())
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text(value: &Value, name: &str) -> Result<String, String> {
    value
        .get(name)
        .and_then(scalar)
        .ok_or_else(|| format!("there is no {name} in {value}"))
}
