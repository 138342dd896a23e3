//! The store over the embedded engine, with the tables of template.yaml.

#[path = "../tables/names.rs"]
mod names;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use aws_credential_types::Credentials;
use local_gateway::{
    dynamodb::{Engine, EngineOptions},
    fault::{Fault, Faults},
    rights::Rights,
    template::Template,
};
use signing::SigningClient;
use store::DynamoStore;
use trust::Trust;

use names::names;

/// A running engine in memory, and a store over it.
pub(crate) struct Running {
    engine: Engine,
    /// A store over all tables.
    pub(crate) store: DynamoStore,
}

impl Running {
    /// Starts an engine that injects `faults`. `seed` determines when.
    pub(crate) async fn start(faults: &[Fault], seed: u64) -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let template = Template::read(&root.join("template.yaml"), &BTreeMap::new())?;
        let tables = names(&template);
        let engine = Engine::start(EngineOptions {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            data: None,
            tables: template.tables,
            faults: Faults::new(faults, seed),
            rights: Rights::default(),
        })
        .await?;
        // The client signs requests, although the engine checks no signature.
        let credentials = Credentials::new("test", "test", None, None, "test");
        let client = SigningClient::new(credentials, "us-east-1".to_owned(), Trust::Plain)?;
        Ok(Self {
            store: DynamoStore::new(client, engine.url(), tables),
            engine,
        })
    }

    /// Stops the engine.
    pub(crate) async fn stop(self) {
        self.engine.shut_down().await;
    }
}
