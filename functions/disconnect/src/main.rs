//! `$disconnect`: forgets the connection, and starts the worker to publish the subscriber's presence if that changes.

use std::rc::Rc;

use lambda::{Config, System, WebSocketEvent, Worker, failed, init_logs, serve};
use lambda_runtime::{Diagnostic, Error};
use serde_json::{Value, json};
use service::Service;
use store::{DynamoStore, Tables};
use tracing::Instrument as _;

type Disconnect = Service<DynamoStore, (), Worker, System>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    init_logs();
    let config = Config::from_env()?;
    let tables = Tables {
        tokens: Config::required("TOKENS_TABLE")?,
        subscribers: Config::required("SUBSCRIBERS_TABLE")?,
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
        disconnect(service, event).instrument(span)
    })
    .await
}

async fn disconnect(service: Rc<Disconnect>, event: WebSocketEvent) -> Result<Value, Diagnostic> {
    let WebSocketEvent::Client(event) = event else {
        return Ok(json!({"statusCode": 200}));
    };
    let subscriber = event.identity()?.subscriber;
    service
        .disconnect(&subscriber.connection(event.connection().clone()))
        .await
        .map_err(failed)?;
    Ok(json!({"statusCode": 200}))
}
