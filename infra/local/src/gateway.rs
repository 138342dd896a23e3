//! Starts all parts in order, returns their URLs, and stops them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Request, StatusCode, Uri};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::build::{self, BuildError};
use crate::cli::Options;
use crate::distribution::{Distribution, DistributionError};
use crate::dynamodb::{Engine, EngineError, EngineOptions};
use crate::edge::{self, Edge};
use crate::fault::Faults;
use crate::function_url::FunctionUrls;
use crate::guard::{self, Guard};
use crate::http_api::HttpApi;
use crate::lambda::{Lambda, LambdaOptions};
use crate::management;
use crate::metrics::Metrics;
use crate::ready::{self, Urls};
use crate::rights::Rights;
use crate::schedule::{ScheduleError, Schedules};
use crate::server::{self, Answer, ListenError, Unanswered};
use crate::template::{Template, TemplateError, WebSocketApi};
use crate::websocket::connection::Lifetime;
use crate::websocket::{self, WebSockets};

/// "Idle Connection Timeout: 10 minutes", API Gateway quotas page.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// "Connection duration for WebSocket API: 2 hours", API Gateway quotas page.
const LONGEST: Duration = Duration::from_secs(2 * 60 * 60);
/// How long a shutdown waits for the `$disconnect` of the open connections.
const GRACE: Duration = Duration::from_secs(5);

/// How long the gateway tries to connect to the database of `--dynamodb-endpoint`.
const DATABASE: Duration = Duration::from_secs(2);

/// The running gateway.
#[derive(Debug)]
pub struct Gateway {
    urls: Urls,
    fronts: Vec<AbortHandle>,
    sockets: Option<WebSockets>,
    lambda: Lambda,
    schedules: Schedules,
    engine: Option<Engine>,
    ready_file: Option<PathBuf>,
}

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("cannot start Lambda: {0}")]
    Lambda(io::Error),
    #[error(transparent)]
    Distribution(#[from] DistributionError),
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error(
        "no server answers at {0}, the --dynamodb-endpoint: start DynamoDB there first, or omit the option"
    )]
    Database(String),
    #[error("--fault {0} applies only to the embedded DynamoDB: omit it or --dynamodb-endpoint")]
    Fault(&'static str),
    #[error("cannot write the ready file {path}: {source}", path = .path.display())]
    ReadyFile { path: PathBuf, source: io::Error },
    #[error("cannot get the address of a listener: {0}")]
    Address(io::Error),
}

impl Gateway {
    /// Starts all parts. When it returns, all of them can serve.
    ///
    /// # Errors
    /// Fails if the template, the build, a port or the database is unusable. Parts that had started are stopped.
    pub async fn start(options: &Options) -> Result<Self, StartError> {
        let template_path = find_upwards(options.template());
        let parameters: BTreeMap<_, _> = options.parameters.iter().cloned().collect();
        let template = Template::read(&template_path, &parameters)?;
        let faults = Faults::new(&options.faults, options.seed);
        let rights = Rights::new(&template);
        let metrics = Metrics::default();

        // Check first what can fail without a build, such as a taken port or an absent database.
        faults_can_strike(options)?;
        ready_file_has_a_folder(options)?;
        let ports = Ports::listen(options).await?;
        warn_beyond_loopback(options);
        // Remove the file only after the ports are known to be free: it may belong to another running gateway.
        remove_stale_ready_file(options)?;
        database_answers(options).await?;
        let engine = start_engine(options, &template, &faults, &rights).await?;
        let dynamodb_url = match (&engine, &options.dynamodb_endpoint) {
            (Some(engine), _) => engine.url(),
            (None, url) => url.clone().unwrap_or_default(),
        };
        let executables = executables(options, &template, &template_path).await?;

        // Start Lambda with all URLs that the functions' variables contain.
        let stage_address = ports.stage.local_addr().map_err(StartError::Address)?;
        let edge_address = ports.edge.local_addr().map_err(StartError::Address)?;
        let function_urls = FunctionUrls::listen(&template)
            .await
            .map_err(StartError::Address)?;
        let lambda = Lambda::start(
            ports.lambda,
            LambdaOptions {
                functions: template.functions.clone(),
                executables,
                region: template.region.clone(),
                dynamodb_url: dynamodb_url.clone(),
                replacements: stage_urls(&template, stage_address)
                    .chain(function_urls.replacements())
                    .collect(),
                max_instances: options.max_instances,
                concurrency: options.concurrency,
                retry_delay: options.retry_delay(),
                verbose: options.verbose,
                tells_leaving: options.tells_leaving(),
                faults: faults.clone(),
                rights: rights.clone(),
                metrics: metrics.clone(),
            },
        )
        .await
        .map_err(StartError::Lambda)?;
        let schedules = Schedules::start(&template.schedules, &template.region, &lambda)?;

        // Serve the function URLs, the WebSocket API's port and the public port.
        let sockets = template
            .web_socket
            .as_ref()
            .map(|api| sockets(options, &template, api, stage_address, &faults, &lambda));
        let mut fronts = function_urls.serve(&lambda);
        if let Some(sockets) = &sockets {
            fronts.push(serve_stage(ports.stage, sockets.clone(), faults, rights));
        }
        let api = HttpApi::new(template.http_routes.clone(), lambda.clone());
        let distribution = Distribution::new(&template, sockets.as_ref(), &api, &lambda)?;
        let (websocket, sockjs) = edge_paths(options, sockets.as_ref(), distribution.as_ref());
        let edge = Edge {
            distribution,
            sockets: sockets.clone(),
            api,
            metrics,
            guard: Guard::new(options.host, &options.allow_hosts, &options.allow_origins),
        };
        fronts.push(server::serve(ports.edge, move |request, source| {
            let edge = edge.clone();
            async move { Ok(edge.answer(request, source).await) }
        }));

        // Everything can serve: write the ready file.
        let urls = Urls::new(
            edge_address,
            stage_address,
            &template,
            websocket,
            sockjs,
            dynamodb_url,
            lambda.url(),
        );
        let gateway = Self {
            urls,
            fronts,
            sockets,
            lambda,
            schedules,
            engine,
            ready_file: options.ready_file.clone(),
        };
        if let Some(path) = &gateway.ready_file {
            gateway
                .urls
                .write(path)
                .map_err(|source| StartError::ReadyFile {
                    path: path.clone(),
                    source,
                })?;
        }
        Ok(gateway)
    }

    /// Returns the URLs of all parts.
    #[must_use]
    pub fn urls(&self) -> &Urls {
        &self.urls
    }

    /// Stops all parts in order: new requests, the connections with their `$disconnect`, the functions, the database.
    pub async fn shut_down(self) {
        if let Some(path) = &self.ready_file {
            let _ = std::fs::remove_file(path);
        }
        drop(self.schedules);
        for front in &self.fronts {
            front.abort();
        }
        if let Some(sockets) = &self.sockets {
            sockets.shut_down(GRACE).await;
        }
        self.lambda.shut_down().await;
        if let Some(engine) = self.engine {
            engine.shut_down().await;
        }
    }
}

struct Ports {
    edge: TcpListener,
    stage: TcpListener,
    lambda: TcpListener,
}

impl Ports {
    /// Listens on all ports. Only the public port may be reachable from other machines.
    async fn listen(options: &Options) -> Result<Self, ListenError> {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let stage = options.beside(options.websocket_port, 1);
        let lambda = options.beside(options.lambda_port, 2);
        Ok(Self {
            edge: server::listen(options.host, options.port, "the public port", "--port").await?,
            stage: server::listen(local, stage, "the WebSocket API", "--websocket-port").await?,
            lambda: server::listen(local, lambda, "Lambda", "--lambda-port").await?,
        })
    }
}

/// Warns if other machines may reach the public port.
fn warn_beyond_loopback(options: &Options) {
    if !options.host.is_loopback() {
        eprintln!(
            "warning: --host {} opens the public port to other machines. A client there can issue tokens, read \
             everything and delete everything, because the HTTP API needs no credentials here.",
            options.host
        );
    }
}

/// Fails if the folder of the ready file does not exist.
fn ready_file_has_a_folder(options: &Options) -> Result<(), StartError> {
    let Some(path) = &options.ready_file else {
        return Ok(());
    };
    let folder = ready::folder(path);
    if folder.is_dir() {
        return Ok(());
    }
    Err(StartError::ReadyFile {
        path: path.clone(),
        source: io::Error::other(format!("there is no folder {}", folder.display())),
    })
}

/// Removes the ready file of a killed gateway, which a reader could mistake for this gateway's.
fn remove_stale_ready_file(options: &Options) -> Result<(), StartError> {
    let Some(path) = &options.ready_file else {
        return Ok(());
    };
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StartError::ReadyFile {
            path: path.clone(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Fails if a fault of DynamoDB is requested together with an external database, to which it cannot be applied.
fn faults_can_strike(options: &Options) -> Result<(), StartError> {
    let of_dynamodb = options
        .faults
        .iter()
        .find(|fault| fault.kind.is_of_dynamodb());
    match of_dynamodb {
        Some(fault) if options.dynamodb_endpoint.is_some() => {
            Err(StartError::Fault(fault.kind.name()))
        }
        _ => Ok(()),
    }
}

/// Fails if `--dynamodb-endpoint` is set and no server accepts a connection there.
async fn database_answers(options: &Options) -> Result<(), StartError> {
    let Some(endpoint) = &options.dynamodb_endpoint else {
        return Ok(());
    };
    let answers = async {
        let url: Uri = endpoint.parse().ok()?;
        let port = url.port_u16().unwrap_or(match url.scheme_str() {
            Some("https") => 443,
            _ => 80,
        });
        let host = url.host()?.trim_matches(['[', ']']);
        TcpStream::connect((host, port)).await.ok()
    };
    match timeout(DATABASE, answers).await {
        Ok(Some(_)) => Ok(()),
        _ => Err(StartError::Database(endpoint.clone())),
    }
}

async fn start_engine(
    options: &Options,
    template: &Template,
    faults: &Faults,
    rights: &Rights,
) -> Result<Option<Engine>, EngineError> {
    if options.dynamodb_endpoint.is_some() {
        return Ok(None);
    }
    let options = EngineOptions {
        host: Ipv4Addr::LOCALHOST.into(),
        port: options.beside(options.dynamodb_port, 3),
        data: options.data.clone(),
        tables: template.tables.clone(),
        faults: faults.clone(),
        rights: rights.clone(),
    };
    Engine::start(options).await.map(Some)
}

async fn executables(
    options: &Options,
    template: &Template,
    template_path: &Path,
) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    let binaries: BTreeSet<_> = template
        .functions
        .values()
        .map(|function| function.binary.clone())
        .collect();
    match &options.functions {
        Some(dir) => build::ready_made(dir, &binaries),
        None => {
            let dir = template_path
                .parent()
                .filter(|dir| !dir.as_os_str().is_empty());
            build::build(dir.unwrap_or(Path::new(".")), &binaries, options.release).await
        }
    }
}

fn sockets(
    options: &Options,
    template: &Template,
    api: &WebSocketApi,
    address: SocketAddr,
    faults: &Faults,
    lambda: &Lambda,
) -> WebSockets {
    let options = websocket::Options {
        api: api.clone(),
        region: template.region.clone(),
        domain_name: address.to_string(),
        lifetime: Lifetime {
            idle: IDLE.div_f64(options.clock_scale),
            max: LONGEST.div_f64(options.clock_scale),
        },
        in_order: options.in_order,
        close_reasons: options.sockjs_conformance,
        faults: faults.clone(),
    };
    WebSockets::new(options, lambda.clone())
}

/// Returns the paths of the raw WebSocket and of SockJS. The distribution of another template may have neither.
fn edge_paths(
    options: &Options,
    sockets: Option<&WebSockets>,
    distribution: Option<&Distribution>,
) -> (Option<&'static str>, Option<&'static str>) {
    let leads_there = distribution.is_none_or(|found| found.leads_to_stage(edge::WEBSOCKET));
    let websocket = sockets.filter(|_| leads_there).map(|_| edge::WEBSOCKET);
    let sockjs = match distribution {
        // The suite appends its own paths.
        Some(_) if options.sockjs_conformance => Some(""),
        Some(_) => websocket.map(|_| "/messaging"),
        None => None,
    };
    (websocket, sockjs)
}

/// Returns pairs of the stage's URL on AWS and its local URL, for `@connections` and for clients.
fn stage_urls(template: &Template, address: SocketAddr) -> impl Iterator<Item = (String, String)> {
    let api = template.web_socket.as_ref();
    let pair = api.zip(template.connections_url()).map(|(api, url)| {
        let here = format!("://{address}/{}", api.stage);
        let there = url.trim_start_matches("https").to_owned();
        [("https", "http"), ("wss", "ws")]
            .map(|(secure, plain)| (format!("{secure}{there}"), format!("{plain}{here}")))
    });
    pair.into_iter().flatten()
}

/// Serves the WebSocket API's own port, which has only the stage and its `@connections`.
fn serve_stage(
    listener: TcpListener,
    sockets: WebSockets,
    faults: Faults,
    rights: Rights,
) -> AbortHandle {
    server::serve(listener, move |request, source| {
        let (sockets, faults, rights) = (sockets.clone(), faults.clone(), rights.clone());
        async move { stage(&sockets, &faults, &rights, request, source).await }
    })
}

async fn stage(
    sockets: &WebSockets,
    faults: &Faults,
    rights: &Rights,
    request: Request<Incoming>,
    source: IpAddr,
) -> Result<Answer, Unanswered> {
    let path = request.uri().path();
    if guard::is_rebound(request.headers()) {
        return Ok(forbidden());
    }
    if management::is_management(path) {
        // Functions and SDKs post to connections, and on AWS they sign their requests. Pages cannot.
        if guard::is_from_a_page(request.headers()) {
            return Ok(forbidden());
        }
        return management::answer(sockets, faults, rights, request).await;
    }
    if sockets.is_at(path) {
        return Ok(sockets.upgrade(request, source).await);
    }
    Ok(forbidden())
}

fn forbidden() -> Answer {
    server::json(StatusCode::FORBIDDEN, r#"{"message":"Forbidden"}"#)
}

/// Finds a relative template in this folder or in the folders above it, as cargo finds its manifest.
fn find_upwards(template: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let found = here
        .ancestors()
        .map(|dir| dir.join(template))
        .find(|path| path.is_file());
    match found {
        Some(path) if template.is_relative() => path,
        _ => template.to_owned(),
    }
}
