//! Direct access to the tables of a local gateway, outside the rights of any function.

mod names;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use local_gateway::template::Template;
use signing::SigningClient;
use store::DynamoStore;
use tests::Site;
use trust::Trust;

use names::names;

/// Returns a store over the tables.
pub(crate) fn store(site: &Site) -> Result<DynamoStore> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let template = Template::read(&root.join("template.yaml"), &BTreeMap::new())?;
    let tables = names(&template);
    let credentials = Credentials::new("test", "test", None, None, "test");
    let endpoint = site.urls.dynamodb.clone();
    let endpoint = endpoint.context("the deployment has no DynamoDB URL")?;
    let client = SigningClient::new(credentials, template.region, Trust::of(&endpoint))?;
    Ok(DynamoStore::new(client, endpoint, tables))
}
