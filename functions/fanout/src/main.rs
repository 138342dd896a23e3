//! The asynchronous worker: what nobody should wait for. An error makes Lambda repeat the job.

use gateway::{Clients, Management};
use lambda::{Config, System, Worker, init_logs, measured};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn};
use service::{Service, ports::Job};
use store::{DynamoStore, Tables, client};
use tracing::Instrument as _;

type Fanout = Service<DynamoStore, Clients<DynamoStore, System>, Worker, System>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    init_logs();
    let config = Config::from_env()?;
    let tables = Tables {
        tokens: Config::required("TOKENS_TABLE")?,
        subscribers: Config::required("SUBSCRIBERS_TABLE")?,
        channels: Config::required("CHANNELS_TABLE")?,
        events: Config::required("EVENTS_TABLE")?,
        sessions: Config::required("SESSIONS_TABLE")?,
    };
    let connections = Config::required("CONNECTIONS_ENDPOINT")?;
    let endpoint = config.dynamodb_endpoint();
    let client = client(endpoint, config.region.clone(), config.credentials.clone());
    let store = DynamoStore::new(client, tables);
    let sockets = Management::new(config.signing_client(&connections)?, &connections);
    let service = Service {
        store: store.clone(),
        gateway: Clients::new(sockets, store, System),
        workers: Worker::from_env(&config)?,
        environment: System,
    };
    run(service_fn(|event: LambdaEvent<_>| {
        measured(event, |it: Job| {
            // A job is ids and numbers.
            let span = tracing::info_span!("job", job = ?it);
            work(&service, it).instrument(span)
        })
    }))
    .await
}

async fn work(service: &Fanout, job: Job) -> Result<(), Diagnostic> {
    service.work(&job).await.map_err(|fault| Diagnostic {
        error_type: "Store".to_owned(),
        error_message: fault.to_string(),
    })
}
