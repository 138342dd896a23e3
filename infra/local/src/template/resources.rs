//! Walks the resources: honours what runs locally, knows what need not, refuses the rest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::intrinsics::{Scope, resource_type, scalar};
use super::{Template, apis, distribution, functions, tables, yaml};

/// What stands for something only an AWS account has: rights, logs, alarms, queues for dead letters.
const NOT_NEEDED_LOCALLY: [&str; 8] = [
    "AWS::ApiGateway::Account",
    // A distribution finds its functions by itself.
    "AWS::CloudFront::Function",
    "AWS::CloudWatch::",
    "AWS::IAM::",
    "AWS::Lambda::Permission",
    "AWS::Logs::",
    "AWS::SQS::Queue",
    "AWS::SecretsManager::Secret",
];

const HTTP_API: &str = "AWS::Serverless::HttpApi";

/// What is wrong, and with which logical id.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) place: String,
    pub(super) text: String,
}

/// One resource with its `Globals` merged in and every intrinsic function applied on demand.
#[derive(Debug)]
pub(super) struct Resource<'a> {
    pub(super) id: &'a str,
    pub(super) scope: &'a Scope<'a>,
    pub(super) metadata: Option<&'a Value>,
    pub(super) properties: Map<String, Value>,
}

/// A parsed template and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) document: &'a Value,
    /// Its own path and those of the templates that it is nested in.
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

/// Adds what is in `source` to what has been read.
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
        .ok_or_else(|| at("Resources")("the template has none".to_owned()))?;
    let scope = Scope::new(document, resources, parameters, &region).map_err(at("Parameters"))?;
    // Functions first: routes and authorizers are told apart by their ARNs.
    let (function_resources, others): (Vec<_>, Vec<_>) = resources
        .iter()
        .partition(|(_, resource)| resource_type(resource) == "AWS::Serverless::Function");
    for (id, resource) in function_resources.into_iter().chain(others) {
        add(template, source, &scope, id, resource).map_err(at(id))?;
    }
    // SAM makes an API by itself for events that name none: what it is like stands in Globals alone.
    let is_http_api = |resource: &Value| resource_type(resource) == HTTP_API;
    if !resources.values().any(is_http_api) {
        let implicit = json!({ "Type": HTTP_API });
        add(template, source, &scope, "ServerlessHttpApi", &implicit).map_err(at("Globals"))?;
    }
    Ok(())
}

/// The resources of a stack in this one, if its template is a file beside this one.
fn add_stack(
    template: &mut Template,
    resource: &Resource<'_>,
    within: &[PathBuf],
) -> Result<(), String> {
    let url = resource
        .text("TemplateURL")?
        .ok_or("it has no TemplateURL")?;
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
        return Err("its Properties are no mapping".to_owned());
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
        "" => Err("it has no Type".to_owned()),
        _ => Err(format!(
            "the local gateway cannot stand in for {kind}; leave it to another template"
        )),
    }
}

/// SAM's rule for Globals: maps are merged, lists are joined, anything else is replaced.
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

impl Resource<'_> {
    /// The property `name`, resolved.
    pub(super) fn get(&self, name: &str) -> Result<Option<Value>, String> {
        let value = self
            .properties
            .get(name)
            .map(|value| self.scope.resolve(value))
            .transpose();
        let value = value.map_err(|problem| format!("{name}: {problem}"))?;
        Ok(value.filter(|value| !value.is_null()))
    }

    /// The property `name` as a text.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, String> {
        self.get(name)?
            .map(|value| self.scope.text(&value))
            .transpose()
            .map_err(|problem| format!("{name}: {problem}"))
    }

    /// The property `name` as a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u32>, String> {
        self.text(name)?
            .map(|text| {
                text.parse()
                    .map_err(|_| format!("{name}: `{text}` is no number"))
            })
            .transpose()
    }

    /// Refuses properties that are neither honoured nor known to mean nothing locally.
    pub(super) fn allow(&self, honoured: &[&str], without_effect: &[&str]) -> Result<(), String> {
        allow(&self.properties, honoured, without_effect)
    }
}

/// Refuses properties that are neither honoured nor known to mean nothing locally.
pub(super) fn allow(
    properties: &Map<String, Value>,
    honoured: &[&str],
    without_effect: &[&str],
) -> Result<(), String> {
    let known = |name: &&String| {
        honoured.contains(&name.as_str()) || without_effect.contains(&name.as_str())
    };
    match properties.keys().find(|name| !known(name)) {
        Some(name) => Err(format!(
            "the local gateway cannot honour its property {name}"
        )),
        None => Ok(()),
    }
}
