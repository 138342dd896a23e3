//! The tables of a local gateway, written to by nobody's right.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use aws_credential_types::Credentials;
use local_gateway::template::Template;
use store::{DynamoStore, Tables};
use tests::Site;

/// The store over them.
pub(crate) fn store(site: &Site) -> Result<DynamoStore> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let template = Template::read(&root.join("template.yaml"), &BTreeMap::new())?;
    let name = |id: &str| {
        let table = template.tables.iter().find(|it| it.id == id);
        table.map_or_else(String::new, |it| it.name.clone())
    };
    let tables = Tables {
        tokens: name("Tokens"),
        subscribers: name("Subscribers"),
        channels: name("Channels"),
        events: name("Events"),
        sessions: name("Sessions"),
    };
    let credentials = Credentials::new("test", "test", None, None, "test");
    let client = store::client(site.urls.dynamodb.clone(), template.region, credentials);
    Ok(DynamoStore::new(client, tables))
}
