//! The expiry run, once a minute. It ends expired tokens and connections, warns those that end soon, and starts the worker
//! for logs with undelivered events.

use std::rc::Rc;

use gateway::Clients;
use lambda::{Config, System, Worker, failed, init_logs, serve};
use lambda_runtime::{Diagnostic, Error};
use serde::de::IgnoredAny;
use service::Service;
use store::{DynamoStore, Tables};

type Expire = Service<DynamoStore, Clients<DynamoStore, System>, Worker, System>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    init_logs();
    let config = Config::from_env()?;
    let tables = Tables {
        tokens: Config::required("TOKENS_TABLE")?,
        subscribers: Config::required("SUBSCRIBERS_TABLE")?,
        channels: Config::required("CHANNELS_TABLE")?,
        sessions: Config::required("SESSIONS_TABLE")?,
        ..Tables::default()
    };
    let connections = Config::required("CONNECTIONS_ENDPOINT")?;
    let endpoint = config.dynamodb_endpoint();
    let client = config.signing_client(&endpoint)?;
    let store = DynamoStore::new(client, endpoint, tables);
    let signing = config.signing_client(&connections)?;
    let service = Service {
        store: store.clone(),
        gateway: Clients::new(signing, &connections, store, System),
        workers: Worker::from_env(&config)?,
        environment: System,
    };
    // The content of EventBridge's event does not matter. The clock and the checkpoint determine what is due.
    serve(service, |service, _: IgnoredAny| expire(service)).await
}

async fn expire(service: Rc<Expire>) -> Result<(), Diagnostic> {
    service.expire().await.map_err(failed)
}
