//! The asynchronous worker: runs jobs for which no client waits. If a job fails, Lambda retries it.

use std::rc::Rc;

use gateway::Clients;
use lambda::{Config, System, Worker, failed, init_logs, serve};
use lambda_runtime::{Diagnostic, Error};
use service::{Service, ports::Job};
use store::{DynamoStore, Tables};
use tracing::Instrument as _;

type Work = Service<DynamoStore, Clients<DynamoStore, System>, Worker, System>;

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
        environment: System,
    };
    serve(service, |service, job: Job| {
        // A job contains only ids and numbers, so it may be logged.
        let span = tracing::info_span!("job", ?job);
        work(service, job).instrument(span)
    })
    .await
}

async fn work(service: Rc<Work>, job: Job) -> Result<(), Diagnostic> {
    service.work(&job).await.map_err(failed)
}
