//! `$default`: handles one client message. All responses go out through the gateway. The return value of this function
//! reaches no client.

use std::rc::Rc;

use gateway::Clients;
use jwt::WithIssuer;
use lambda::{Config, System, WebSocketEvent, Worker, init_logs, serve};
use lambda_runtime::{Diagnostic, Error};
use serde_json::{Value, json};
use service::{IncomingMessage, Service};
use store::{DynamoStore, Tables};
use tracing::Instrument as _;

type Message = Service<DynamoStore, Clients<DynamoStore, System>, Worker, WithIssuer<System>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    init_logs();
    let config = Config::from_env()?;
    let tables = Tables::all(Config::required)?;
    let connections = Config::required("CONNECTIONS_ENDPOINT")?;
    let endpoint = config.dynamodb_endpoint();
    let client = config.signing_client(&endpoint)?;
    let store = DynamoStore::new(client, endpoint, tables);
    let signing = config.signing_client(&connections)?;
    let service = Service {
        store: store.clone(),
        gateway: Clients::new(signing, &connections, store, System),
        workers: Worker::from_env(&config)?,
        environment: WithIssuer::from_env(System)?,
    };
    serve(service, |service, event: WebSocketEvent| {
        let span = event.span();
        message(service, event).instrument(span)
    })
    .await
}

async fn message(service: Rc<Message>, event: WebSocketEvent) -> Result<Value, Diagnostic> {
    let WebSocketEvent::Client(event) = event else {
        return Ok(json!({"statusCode": 200}));
    };
    let identity = event.identity()?;
    let connection = event.connection().clone();
    let request = event.request().clone();
    // A binary frame is malformed. An empty text is malformed too, so it stands for one.
    let body = event.text().unwrap_or_default();
    let incoming = IncomingMessage {
        identity,
        connection,
        request,
        body,
    };
    // The client already has its ack. If this function failed, API Gateway would send the client a frame of its own.
    if let Err(fault) = service.receive(&incoming).await {
        tracing::error!(%fault, "message failed after ack");
    }
    Ok(json!({"statusCode": 200}))
}
