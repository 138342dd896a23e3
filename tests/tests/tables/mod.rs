//! The tables of a local gateway, written to by nobody's right.

mod names;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use aws_credential_types::Credentials;
use local_gateway::template::Template;
use store::DynamoStore;
use tests::Site;

use names::names;

/// The store over them.
pub(crate) fn store(site: &Site) -> Result<DynamoStore> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let template = Template::read(&root.join("template.yaml"), &BTreeMap::new())?;
    let tables = names(&template);
    let credentials = Credentials::new("test", "test", None, None, "test");
    let client = store::client(site.urls.dynamodb.clone(), template.region, credentials);
    Ok(DynamoStore::new(client, tables))
}
