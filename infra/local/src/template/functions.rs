//! `AWS::Serverless::Function`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::resource::Resource;
use super::values::scalar;
use super::{ACCOUNT, Function, InvokeMode, Template, events, policies};

/// Properties that are applied.
const HONOURED: [&str; 13] = [
    "Environment",
    "EventInvokeConfig",
    "Events",
    "FunctionName",
    "FunctionUrlConfig",
    "Handler",
    "LoggingConfig",
    "MemorySize",
    "Policies",
    "ReservedConcurrentExecutions",
    "Role",
    "Runtime",
    "Timeout",
];

/// Properties of packaging, deployment and observation, which have no effect locally.
const WITHOUT_EFFECT: [&str; 12] = [
    "Architectures",
    "AutoPublishAlias",
    "CodeUri",
    "DeadLetterQueue",
    "DeploymentPreference",
    "Description",
    "EphemeralStorage",
    "PermissionsBoundary",
    "ProvisionedConcurrencyConfig",
    "RuntimeManagementConfig",
    "Tags",
    "Tracing",
];

/// Adds a function with its routes and schedules.
pub(super) fn add(template: &mut Template, resource: &Resource<'_>) -> Result<(), String> {
    resource.allow(&HONOURED, &WITHOUT_EFFECT)?;
    if let Some(runtime) = resource.text("Runtime")?
        && !runtime.starts_with("provided")
    {
        return Err(format!(
            "the runtime {runtime} is not supported; the local gateway runs provided.* functions built by cargo"
        ));
    }
    let name = resource.scope.physical_id(resource.id)?;
    let region = resource.scope.region;
    let function = Function {
        id: resource.id.to_owned(),
        arn: format!("arn:aws:lambda:{region}:{ACCOUNT}:function:{name}"),
        name,
        binary: binary(resource),
        handler: resource.text("Handler")?.unwrap_or_default(),
        // Lambda's defaults are 3 s and 128 MB. They apply if neither the function nor Globals has a value.
        timeout: Duration::from_secs(resource.number("Timeout")?.unwrap_or(3).into()),
        memory_mb: resource.number("MemorySize")?.unwrap_or(128),
        environment: environment(resource)?,
        reserved_concurrency: resource
            .number("ReservedConcurrentExecutions")?
            .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        event_retries: event_retries(resource)?,
        url: invoke_mode(resource)?,
        rights: policies::statements(resource)?,
    };
    if let Some(events) = resource.get("Events")? {
        let events = events.as_object().ok_or("Events is not a mapping")?;
        for (name, event) in events {
            events::add(template, resource, name, event)
                .map_err(|problem| format!("event {name}: {problem}"))?;
        }
    }
    template.functions.insert(function.id.clone(), function);
    Ok(())
}

fn binary(resource: &Resource<'_>) -> String {
    resource
        .metadata
        .and_then(|metadata| metadata.pointer("/BuildProperties/Binary")?.as_str())
        .unwrap_or(resource.id)
        .to_owned()
}

fn environment(resource: &Resource<'_>) -> Result<BTreeMap<String, String>, String> {
    let environment = resource.get("Environment")?.unwrap_or_default();
    let variables = environment.get("Variables").and_then(Value::as_object);
    // Lambda itself sets AWS_LAMBDA_LOG_FORMAT. The log level comes from the developer's RUST_LOG.
    let logging = resource.get("LoggingConfig")?.unwrap_or_default();
    let format = logging
        .get("LogFormat")
        .map(|format| ("AWS_LAMBDA_LOG_FORMAT".to_owned(), format.clone()));
    variables
        .cloned()
        .into_iter()
        .flatten()
        .chain(format)
        .map(|(name, value)| {
            let value =
                scalar(&value).ok_or_else(|| format!("the variable {name} is not a text"))?;
            Ok((name, value))
        })
        .collect()
}

fn invoke_mode(resource: &Resource<'_>) -> Result<Option<InvokeMode>, String> {
    let Some(config) = resource.get("FunctionUrlConfig")? else {
        return Ok(None);
    };
    // With Cors, the URL itself would answer preflight requests, which this gateway does not do.
    if config.get("Cors").is_some() {
        return Err("the local gateway does not support Cors in FunctionUrlConfig".to_owned());
    }
    match config.get("InvokeMode").and_then(scalar).as_deref() {
        None | Some("BUFFERED") => Ok(Some(InvokeMode::Buffered)),
        Some("RESPONSE_STREAM") => Ok(Some(InvokeMode::Streaming)),
        Some(other) => Err(format!(
            "InvokeMode must be BUFFERED or RESPONSE_STREAM, not `{other}`"
        )),
    }
}

fn event_retries(resource: &Resource<'_>) -> Result<u32, String> {
    let config = resource.get("EventInvokeConfig")?;
    let attempts = config
        .as_ref()
        .and_then(|config| scalar(config.get("MaximumRetryAttempts")?));
    match attempts {
        // The default is two retries (Lambda developer guide, asynchronous invocation).
        None => Ok(2),
        Some(text) => text
            .parse()
            .map_err(|_| format!("MaximumRetryAttempts: `{text}` is not a number")),
    }
}
