//! Reads the deployment template as CloudFormation and SAM read it.

mod apis;
mod conditions;
mod distribution;
mod events;
mod functions;
mod intrinsics;
mod parameters;
mod policies;
mod resource;
mod resources;
mod scope;
mod secrets;
mod tables;
mod values;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The account of every local resource.
pub const ACCOUNT: &str = "123456789012";
/// The stack's name: the value of `AWS::StackName` and the prefix of generated names.
pub const STACK: &str = "messaging";

/// The parts of a template that run locally, with every intrinsic function resolved.
#[derive(Debug, Clone)]
pub struct Template {
    /// The region, which is also part of every ARN.
    pub region: String,
    /// Functions by logical id.
    pub functions: BTreeMap<String, Function>,
    /// The WebSocket API, if the template has one.
    pub web_socket: Option<WebSocketApi>,
    /// Routes of the HTTP APIs, in the order of their functions' logical ids.
    pub http_routes: Vec<HttpRoute>,
    /// The CloudFront distribution in front of the APIs and function URLs, if the template has one.
    pub distribution: Option<Distribution>,
    pub tables: Vec<Table>,
    pub schedules: Vec<Schedule>,
}

/// One function and its configuration.
#[derive(Debug, Clone)]
pub struct Function {
    /// The logical id.
    pub id: String,
    /// The physical name, `<stack>-<logical id>` unless the template names it.
    pub name: String,
    /// The ARN without a qualifier.
    pub arn: String,
    /// The cargo binary with the function's code.
    pub binary: String,
    /// The template's `Handler`. The gateway only passes it on.
    pub handler: String,
    /// After this time an invocation fails and its instance is killed.
    pub timeout: Duration,
    /// Memory in MB. The function can read it, but it is not enforced.
    pub memory_mb: u32,
    /// The template's variables, resolved.
    pub environment: BTreeMap<String, String>,
    /// `ReservedConcurrentExecutions`. Further invocations are throttled.
    pub reserved_concurrency: Option<usize>,
    /// How often a failed asynchronous invocation is retried.
    pub event_retries: u32,
    /// The invoke mode of the function's own URL, if it has one.
    pub url: Option<InvokeMode>,
    /// The statements of the function's policies. `None` if a role or policies outside the template define its
    /// permissions.
    pub rights: Option<Vec<Statement>>,
}

/// How a function URL returns the function's response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvokeMode {
    /// The response is sent when it is complete.
    Buffered,
    /// The response is sent piece by piece as it arrives.
    Streaming,
}

/// One statement of a policy. It always allows: a template with a `Deny` statement is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The `Sid`.
    pub id: Option<String>,
    /// For example `dynamodb:GetItem`.
    pub actions: Vec<String>,
    /// ARNs.
    pub resources: Vec<String>,
}

/// The WebSocket API.
#[derive(Debug, Clone)]
pub struct WebSocketApi {
    /// The logical id.
    pub id: String,
    /// The API id that `Ref` returns and that events contain.
    pub api_id: String,
    /// The stage, which is also the path of its URL.
    pub stage: String,
    /// The authorizer of `$connect`.
    pub authorizer: Option<Authorizer>,
    /// Logical ids of functions by route key.
    pub routes: BTreeMap<String, String>,
    /// The route selection expression, e.g. `$request.body.type`.
    pub selection: String,
}

/// A Lambda authorizer of a WebSocket API.
#[derive(Debug, Clone)]
pub struct Authorizer {
    /// The function's logical id.
    pub function: String,
    /// For example `route.request.querystring.access_token`. The authorizer runs only if all of them are present. If
    /// the list is empty, it always runs.
    pub identity_sources: Vec<String>,
}

/// One route of an HTTP API.
#[derive(Debug, Clone)]
pub struct HttpRoute {
    /// The method in upper case, or `ANY`.
    pub method: String,
    /// The path with its parameters, e.g. `/v1/{proxy+}`, or `$default` for all other requests.
    pub path: String,
    /// The function's logical id.
    pub function: String,
    /// The API id that events contain.
    pub api_id: String,
    /// The stage, `$default` unless the template names one.
    pub stage: String,
}

/// A CloudFront distribution.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// Origins by id.
    pub origins: BTreeMap<String, Origin>,
    /// Cache behaviours. The first whose pattern matches handles a request. The last is the default, `*`.
    pub behaviours: Vec<Behaviour>,
}

/// A target of a distribution's requests.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The host.
    pub domain: String,
    /// The prefix of all paths. It is empty, or begins with a slash and does not end with one.
    pub path: String,
    /// Headers that are added to requests or replace those of the client.
    pub headers: Vec<(String, String)>,
}

/// How a distribution handles the paths of a pattern.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// The pattern. `*` matches any number of characters, `?` exactly one.
    pub pattern: String,
    /// The origin's id.
    pub origin: String,
    /// The allowed methods.
    pub methods: Vec<String>,
    /// The source of its viewer-request function.
    pub viewer_request: Option<Arc<str>>,
}

/// A DynamoDB table, as a CreateTable request needs it.
#[derive(Debug, Clone)]
pub struct Table {
    /// The logical id.
    pub id: String,
    /// The physical name.
    pub name: String,
    /// The CreateTable request: TableName, BillingMode, AttributeDefinitions, KeySchema and secondary indexes.
    pub definition: serde_json::Value,
    /// The attribute with the expiry time of an item.
    pub ttl_attribute: Option<String>,
}

/// A timer that invokes a function.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// The event's name in the template, for messages.
    pub name: String,
    /// The function's logical id.
    pub function: String,
    /// `rate(…)` or `cron(…)`.
    pub expression: String,
    /// The payload, if the template has one.
    pub input: Option<String>,
    /// The `source` of a generated payload.
    pub source: &'static str,
}

/// Why a template cannot run locally.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file could not be read.
    #[error("cannot read the template {path}: {source}. Name another with --template.", path = .path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The file is not YAML.
    #[error("{path} is not a template: {source}", path = .path.display())]
    Syntax {
        path: PathBuf,
        source: serde_yaml_ng::Error,
    },
    /// The template uses something that the gateway does not support.
    #[error("{path}: {place}: {problem}", path = .path.display())]
    Unsupported {
        path: PathBuf,
        /// The location: the logical id and its line.
        place: String,
        /// The problem and its remedy.
        problem: String,
    },
}

impl Template {
    /// Reads the template at `path`. `parameters` override its defaults.
    ///
    /// # Errors
    /// Fails if the file is not a template, or if it uses something that the gateway does not support.
    pub fn read(path: &Path, parameters: &BTreeMap<String, String>) -> Result<Self, TemplateError> {
        let text = std::fs::read_to_string(path).map_err(|source| TemplateError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let document = yaml::parse(&text).map_err(|source| TemplateError::Syntax {
            path: path.to_owned(),
            source,
        })?;
        // AWS_REGION also changes the ARNs, so that they match a developer's other tools.
        let region = std::env::var("AWS_REGION").unwrap_or_else(|_| "us-east-1".to_owned());
        // Nested stacks are found relative to this path. A canonical path detects a stack nested in itself.
        let paths = [path.canonicalize().unwrap_or_else(|_| path.to_owned())];
        let source = resources::Source {
            document: &document,
            paths: &paths,
        };
        let read = resources::read(source, parameters, &region);
        let mut template = read.map_err(|problem| TemplateError::Unsupported {
            path: path.to_owned(),
            place: yaml::place(&text, &problem.place),
            problem: problem.text,
        })?;
        secrets::resolve_all(&mut template);
        Ok(template)
    }

    /// Returns the WebSocket API's URL in the functions' variables, without a slash at the end.
    #[must_use]
    pub fn connections_url(&self) -> Option<String> {
        let api = self.web_socket.as_ref()?;
        Some(format!(
            "https://{}.execute-api.{}.amazonaws.com/{}",
            api.api_id, self.region, api.stage
        ))
    }

    /// Returns the URL of the function `id` in the functions' variables, with a slash at the end.
    #[must_use]
    pub fn function_url(&self, id: &str) -> String {
        function_url(id, &self.region)
    }
}

/// Returns true if the public port always routes this path to the HTTP APIs.
pub(crate) fn is_under_v1(path: &str) -> bool {
    path == "/v1" || path.starts_with("/v1/")
}

/// Returns the URL of a function. On AWS the host is random. Here it only has to be unique.
fn function_url(id: &str, region: &str) -> String {
    format!("https://{}.lambda-url.{region}.on.aws/", id.to_lowercase())
}
