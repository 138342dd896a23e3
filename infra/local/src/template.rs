//! The deployment template, read as CloudFormation and SAM would read it.

mod apis;
mod conditions;
mod distribution;
mod events;
mod functions;
mod intrinsics;
mod policies;
mod resources;
mod secrets;
mod tables;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The account every local resource belongs to.
pub const ACCOUNT: &str = "123456789012";
/// The stack's name, as `AWS::StackName` and in front of generated names.
pub const STACK: &str = "messaging";

/// What of a template runs locally, with every intrinsic function resolved.
#[derive(Debug, Clone)]
pub struct Template {
    /// The region, also of every ARN.
    pub region: String,
    /// Functions by logical id.
    pub functions: BTreeMap<String, Function>,
    /// The WebSocket API, if the template has one.
    pub web_socket: Option<WebSocketApi>,
    /// Routes of the HTTP APIs, in the order of their functions' logical ids.
    pub http_routes: Vec<HttpRoute>,
    /// The CloudFront distribution in front of all that, if the template has one.
    pub distribution: Option<Distribution>,
    /// DynamoDB tables.
    pub tables: Vec<Table>,
    /// What invokes functions on a timer.
    pub schedules: Vec<Schedule>,
}

/// One function and how it is configured.
#[derive(Debug, Clone)]
pub struct Function {
    /// The logical id.
    pub id: String,
    /// The physical name, `<stack>-<logical id>` unless the template names it.
    pub name: String,
    /// The ARN without a qualifier.
    pub arn: String,
    /// The cargo binary that is its code.
    pub binary: String,
    /// What the template calls its handler; nothing here depends on it.
    pub handler: String,
    /// After this long an invocation is ended and its instance killed.
    pub timeout: Duration,
    /// Memory in MB; told to the function, not enforced.
    pub memory_mb: u32,
    /// Variables of the template, resolved.
    pub environment: BTreeMap<String, String>,
    /// `ReservedConcurrentExecutions`: what exceeds it is throttled.
    pub reserved_concurrency: Option<usize>,
    /// How often a failed asynchronous invocation is repeated.
    pub event_retries: u32,
    /// How the function's own URL invokes it, if it has one.
    pub url: Option<InvokeMode>,
    /// What its policies allow; none if the template leaves that to a role, or to policies that are not written out.
    pub rights: Option<Vec<Statement>>,
}

/// How a function URL hands on what its function answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvokeMode {
    /// When it is whole.
    Buffered,
    /// As it comes.
    Streaming,
}

/// One statement of a policy. It allows; what denies is refused when the template is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its `Sid`.
    pub id: Option<String>,
    /// Such as `dynamodb:GetItem`.
    pub actions: Vec<String>,
    /// ARNs.
    pub resources: Vec<String>,
}

/// The WebSocket API.
#[derive(Debug, Clone)]
pub struct WebSocketApi {
    /// The logical id.
    pub id: String,
    /// The API id, as `Ref` gives it and as events carry it.
    pub api_id: String,
    /// The stage, also the path of its URL.
    pub stage: String,
    /// Who decides about `$connect`.
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
    /// E.g. `route.request.querystring.access_token`; all must be there, none means it always runs.
    pub identity_sources: Vec<String>,
}

/// One route of an HTTP API.
#[derive(Debug, Clone)]
pub struct HttpRoute {
    /// The method in upper case, or `ANY`.
    pub method: String,
    /// The path with its parameters, e.g. `/v1/{proxy+}`; `$default` for everything else.
    pub path: String,
    /// The function's logical id.
    pub function: String,
    /// The API id, as events carry it.
    pub api_id: String,
    /// The stage, `$default` unless the template names one.
    pub stage: String,
}

/// A CloudFront distribution.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// Origins by id.
    pub origins: BTreeMap<String, Origin>,
    /// Cache behaviours; the first whose pattern matches has a request. The last is the default, `*`.
    pub behaviours: Vec<Behaviour>,
}

/// Where a distribution sends requests.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The host.
    pub domain: String,
    /// What is put in front of paths; empty, or with a slash at its beginning and none at its end.
    pub path: String,
    /// Headers that are added, or replaced.
    pub headers: Vec<(String, String)>,
}

/// What a distribution does with the paths of a pattern.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// The pattern: `*` stands for any characters, `?` for one.
    pub pattern: String,
    /// The origin's id.
    pub origin: String,
    /// Methods that it takes.
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
    /// AttributeDefinitions, KeySchema and GlobalSecondaryIndexes.
    pub definition: serde_json::Value,
    /// The attribute that says when an item expires.
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
    /// The payload, when the template gives one.
    pub input: Option<String>,
    /// The `source` of a payload the template does not give.
    pub source: &'static str,
}

/// Why a template cannot be run locally.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file could not be read.
    #[error("cannot read the template {path}: {source}. Name another with --template.", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not YAML.
    #[error("{path} is not a template: {source}", path = .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_yaml_ng::Error,
    },
    /// Something in it cannot be honoured.
    #[error("{path}: {place}: {problem}", path = .path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The logical id, with its line.
        place: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl Template {
    /// Reads the template at `path`; `parameters` override its defaults.
    ///
    /// # Errors
    /// When it is no template, or has something that cannot be run locally.
    pub fn read(path: &Path, parameters: &BTreeMap<String, String>) -> Result<Self, TemplateError> {
        let text = std::fs::read_to_string(path).map_err(|source| TemplateError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let document = yaml::parse(&text).map_err(|source| TemplateError::Syntax {
            path: path.to_owned(),
            source,
        })?;
        // AWS_REGION moves the ARNs too, so that a developer's other tools agree with them.
        let region = std::env::var("AWS_REGION").unwrap_or_else(|_| "us-east-1".to_owned());
        // Stacks are looked for beside it, and it is known again among them.
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

    /// The WebSocket API's URL as the template's functions know it, without a slash at its end.
    #[must_use]
    pub fn connections_url(&self) -> Option<String> {
        let api = self.web_socket.as_ref()?;
        Some(format!(
            "https://{}.execute-api.{}.amazonaws.com/{}",
            api.api_id, self.region, api.stage
        ))
    }

    /// The URL of the function `id` as the template's functions know it, with a slash at its end.
    #[must_use]
    pub fn function_url(&self, id: &str) -> String {
        function_url(id, &self.region)
    }
}

/// Whether the public port has this path for HTTP APIs, whatever else there is.
pub(crate) fn is_under_v1(path: &str) -> bool {
    path == "/v1" || path.starts_with("/v1/")
}

/// On AWS the host is random; here it only has to be told apart.
fn function_url(id: &str, region: &str) -> String {
    format!("https://{}.lambda-url.{region}.on.aws/", id.to_lowercase())
}
