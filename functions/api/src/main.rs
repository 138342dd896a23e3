//! The HTTP API for back ends: tokens, subscribers, channels.

mod problem;
mod routes;

use std::rc::Rc;

use gateway::Clients;
use jwt::WithIssuer;
use lambda::{Config, HttpEvent, System, Worker, init_logs, serve};
use lambda_runtime::{Diagnostic, Error};
use serde_json::Value;
use service::Service;
use store::{DynamoStore, Tables};

type Api = Service<DynamoStore, Clients<DynamoStore, System>, Worker, WithIssuer<System>>;

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
    serve(service, answer).await
}

async fn answer(service: Rc<Api>, event: HttpEvent) -> Result<Value, Diagnostic> {
    Ok(routes::route(&service, &event)
        .await
        .unwrap_or_else(Into::into))
}
