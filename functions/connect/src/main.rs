//! `$connect`: registers the connection. It cannot post, because the connection becomes active only after this function
//! has returned.

use std::rc::Rc;

use lambda::{Config, ConnectionEvent, System, WebSocketEvent, Worker, init_logs, serve};
use lambda_runtime::{Diagnostic, Error};
use serde_json::{Value, json};
use service::{ConnectError, DoorbellOf, IncomingConnection, Service};
use store::{DynamoStore, Tables};
use tracing::Instrument as _;

type Connect = Service<DynamoStore, (), Worker, System>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    init_logs();
    let config = Config::from_env()?;
    let tables = Tables {
        tokens: Config::required("TOKENS_TABLE")?,
        subscribers: Config::required("SUBSCRIBERS_TABLE")?,
        sessions: Config::required("SESSIONS_TABLE")?,
        ..Tables::default()
    };
    let endpoint = config.dynamodb_endpoint();
    let client = config.signing_client(&endpoint)?;
    let service = Service {
        store: DynamoStore::new(client, endpoint, tables),
        gateway: (),
        workers: Worker::from_env(&config)?,
        environment: System,
    };
    serve(service, |service, event: WebSocketEvent| {
        let span = event.span();
        connect(service, event).instrument(span)
    })
    .await
}

/// Handles `$connect`. The returned status becomes the status of the handshake.
async fn connect(service: Rc<Connect>, event: WebSocketEvent) -> Result<Value, Diagnostic> {
    match event {
        WebSocketEvent::Client(event) => register(&service, &event).await,
        WebSocketEvent::Doorbell { event, of } => hang_doorbell(&service, &event, of).await,
    }
}

/// Registers a client's connection.
async fn register(service: &Connect, event: &ConnectionEvent) -> Result<Value, Diagnostic> {
    let incoming = IncomingConnection {
        identity: event.identity()?,
        connection: event.connection().clone(),
    };
    match service.connect(&incoming).await {
        Ok(()) => Ok(event.accept()),
        Err(ConnectError::Token) => Ok(json!({"statusCode": 401})),
        Err(ConnectError::Fault(fault)) => {
            tracing::error!(%fault, "connect failed");
            Ok(json!({"statusCode": 503}))
        }
    }
}

/// Attaches a doorbell to its session. A doorbell is not registered as a connection of the subscriber.
async fn hang_doorbell(
    service: &Connect,
    event: &ConnectionEvent,
    of: Option<DoorbellOf>,
) -> Result<Value, Diagnostic> {
    let Some(of) = of else {
        return Ok(json!({"statusCode": 400}));
    };
    let identity = event.identity()?;
    match service
        .hang_doorbell(&identity, &of, event.connection())
        .await
    {
        Ok(true) => Ok(event.accept()),
        Ok(false) => Ok(json!({"statusCode": 410})),
        Err(fault) => {
            tracing::error!(%fault, "attaching doorbell failed");
            Ok(json!({"statusCode": 503}))
        }
    }
}
