//! Reads every resource of a template. Adds the supported ones, ignores those without a local effect, and refuses the
//! rest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::resource::{Problem, Resource};
use super::scope::Scope;
use super::values::{resource_type, scalar};
use super::{Template, apis, distribution, functions, tables, yaml};

/// Prefixes of types that only an AWS account needs, such as permissions, logs, alarms and dead-letter queues.
const NOT_NEEDED_LOCALLY: [&str; 8] = [
    "AWS::ApiGateway::Account",
    // The distribution reads its functions itself.
    "AWS::CloudFront::Function",
    "AWS::CloudWatch::",
    "AWS::IAM::",
    "AWS::Lambda::Permission",
    "AWS::Logs::",
    "AWS::SQS::Queue",
    "AWS::SecretsManager::Secret",
];

const HTTP_API: &str = "AWS::Serverless::HttpApi";

/// A parsed template and its path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) document: &'a Value,
    /// The path of this template, then those of the templates that it is nested in.
    pub(super) paths: &'a [PathBuf],
}

/// Reads a template.
pub(super) fn read(
    source: Source<'_>,
    parameters: &BTreeMap<String, String>,
    region: &str,
) -> Result<Template, Problem> {
    let mut template = Template {
        region: region.to_owned(),
        functions: BTreeMap::new(),
        web_socket: None,
        http_routes: Vec::new(),
        distribution: None,
        tables: Vec::new(),
        schedules: Vec::new(),
    };
    read_into(&mut template, source, parameters)?;
    distribution::check_routes(&template)?;
    Ok(template)
}

/// Adds the resources in `source` to `template`.
fn read_into(
    template: &mut Template,
    source: Source<'_>,
    parameters: &BTreeMap<String, String>,
) -> Result<(), Problem> {
    let document = source.document;
    let region = template.region.clone();
    let at = |place: &str| {
        let place = place.to_owned();
        move |text: String| Problem { place, text }
    };
    let resources = document
        .get("Resources")
        .and_then(Value::as_object)
        .ok_or_else(|| at("Resources")("the template has no resources".to_owned()))?;
    let scope = Scope::new(document, resources, parameters, &region).map_err(at("Parameters"))?;
    // Add the functions first, because routes and authorizers refer to them by ARN.
    let (function_resources, others): (Vec<_>, Vec<_>) = resources
        .iter()
        .partition(|(_, resource)| resource_type(resource) == "AWS::Serverless::Function");
    for (id, resource) in function_resources.into_iter().chain(others) {
        add(template, source, &scope, id, resource).map_err(at(id))?;
    }
    // SAM creates an implicit HTTP API for events without an ApiId. Only Globals configures it.
    let is_http_api = |resource: &Value| resource_type(resource) == HTTP_API;
    if !resources.values().any(is_http_api) {
        let implicit = json!({ "Type": HTTP_API });
        add(template, source, &scope, "ServerlessHttpApi", &implicit).map_err(at("Globals"))?;
    }
    Ok(())
}

/// Adds the resources of a nested stack, if its template is a local file.
fn add_stack(
    template: &mut Template,
    resource: &Resource<'_>,
    within: &[PathBuf],
) -> Result<(), String> {
    let url = resource
        .text("TemplateURL")?
        .ok_or("TemplateURL is missing")?;
    if url.contains("://") {
        return Ok(());
    }
    let dir = within.first().and_then(|path| path.parent());
    let path = std::fs::canonicalize(dir.unwrap_or(Path::new(".")).join(&url))
        .map_err(|error| format!("{url}: {error}"))?;
    if within.contains(&path) {
        return Err(format!("the stack {url} is nested in itself"));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{url}: {error}"))?;
    let document = yaml::parse(&text).map_err(|error| format!("{url}: {error}"))?;
    // The properties of the stack set the parameters of the nested template.
    let parameters = resource.get("Parameters")?;
    let parameters = parameters.as_ref().and_then(Value::as_object);
    let parameters: BTreeMap<_, _> = parameters
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), scalar(value)?)))
        .collect();
    let paths = [&[path], within].concat();
    let source = Source {
        document: &document,
        paths: &paths,
    };
    read_into(template, source, &parameters).map_err(|problem| {
        format!(
            "{url}: {}: {}",
            yaml::place(&text, &problem.place),
            problem.text
        )
    })
}

fn add(
    template: &mut Template,
    source: Source<'_>,
    scope: &Scope<'_>,
    id: &str,
    resource: &Value,
) -> Result<(), String> {
    if let Some(condition) = resource.get("Condition").and_then(Value::as_str)
        && !scope.holds(condition)?
    {
        return Ok(());
    }
    // Merge the resource's own properties over those of Globals.
    let kind = resource_type(resource);
    let globals = kind
        .strip_prefix("AWS::Serverless::")
        .and_then(|section| source.document.get("Globals")?.get(section));
    let mut properties = globals
        .cloned()
        .unwrap_or_else(|| Value::Object(Map::new()));
    if let Some(own) = resource.get("Properties") {
        merge(&mut properties, own);
    }
    let Value::Object(properties) = properties else {
        return Err("Properties is not a mapping".to_owned());
    };
    let resource = Resource {
        id,
        scope,
        metadata: resource.get("Metadata"),
        properties,
    };
    match kind {
        "AWS::Serverless::Function" => functions::add(template, &resource),
        "AWS::Serverless::WebSocketApi" => apis::add_web_socket(template, &resource),
        HTTP_API => apis::check_http(&resource),
        "AWS::CloudFormation::Stack" => add_stack(template, &resource, source.paths),
        "AWS::CloudFront::Distribution" => distribution::add(template, &resource),
        "AWS::DynamoDB::Table" => tables::add(template, &resource),
        _ if NOT_NEEDED_LOCALLY
            .iter()
            .any(|known| kind.starts_with(known)) =>
        {
            Ok(())
        }
        "" => Err("Type is missing".to_owned()),
        _ => Err(format!(
            "the local gateway does not support {kind}; move it to another template"
        )),
    }
}

/// Merges `over` into `base` by SAM's rule for Globals: maps are merged, lists are concatenated, other values are
/// replaced.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(key) {
                    Some(slot) => merge(slot, value),
                    None => {
                        base.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(base), Value::Array(over)) => base.extend(over.iter().cloned()),
        (base, over) => *base = over.clone(),
    }
}
