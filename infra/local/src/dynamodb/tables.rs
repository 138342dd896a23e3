//! Creates the template's tables in the database if they are absent. Existing tables must match the template.

use std::collections::BTreeSet;

use dynoxide::{Database, DynoxideError};
use serde_json::{Value, json};

use super::units::Tally;
use super::{EngineError, operations};
use crate::template::Table;

/// Creates `table` if it is absent and enables its time to live. Fails if it exists with another schema.
pub(super) fn ensure(database: &Database, table: &Table) -> Result<(), EngineError> {
    let failed = |error: DynoxideError| EngineError::Create {
        table: table.name.clone(),
        problem: error.to_string(),
    };
    let call = |operation: &str, request: &Value| {
        operations::perform(database, &Tally::default(), operation, &request.to_string())
    };
    let name = json!({ "TableName": table.name });
    match call("DescribeTable", &name) {
        Ok(described) => {
            let described: Value = serde_json::from_str(&described).unwrap_or_default();
            compare(table, described.get("Table").unwrap_or(&Value::Null))?;
        }
        Err(DynoxideError::ResourceNotFoundException(_)) => {
            call("CreateTable", &table.definition).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    let Some(attribute) = &table.ttl_attribute else {
        return Ok(());
    };
    let described = call("DescribeTimeToLive", &name).map_err(failed)?;
    if described.contains("\"ENABLED\"") {
        return Ok(());
    }
    let request = json!({
        "TableName": table.name,
        "TimeToLiveSpecification": { "AttributeName": attribute, "Enabled": true },
    });
    call("UpdateTimeToLive", &request).map_err(failed)?;
    Ok(())
}

fn compare(table: &Table, described: &Value) -> Result<(), EngineError> {
    for (field, what) in [
        ("KeySchema", "keys"),
        ("AttributeDefinitions", "key attributes"),
        ("GlobalSecondaryIndexes", "indexes"),
        ("LocalSecondaryIndexes", "indexes"),
    ] {
        if essence(described.get(field)) != essence(table.definition.get(field)) {
            return Err(EngineError::Changed {
                table: table.name.clone(),
                what,
            });
        }
    }
    Ok(())
}

/// Returns a list without its order, and its indexes without their state and sizes.
fn essence(list: Option<&Value>) -> BTreeSet<String> {
    let entries = list.and_then(Value::as_array);
    entries
        .into_iter()
        .flatten()
        .map(|entry| match entry.get("IndexName") {
            Some(name) => {
                json!([name, entry.get("KeySchema"), entry.get("Projection")]).to_string()
            }
            None => entry.to_string(),
        })
        .collect()
}
