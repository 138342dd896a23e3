//! `AWS::DynamoDB::Table`, converted to a CreateTable request.

use serde_json::{Map, Value, json};

use super::resource::Resource;
use super::{Table, Template};

/// Adds a table.
pub(super) fn add(template: &mut Template, resource: &Resource<'_>) -> Result<(), String> {
    resource.allow(
        &[
            "AttributeDefinitions",
            "GlobalSecondaryIndexes",
            "KeySchema",
            "LocalSecondaryIndexes",
            "TableName",
            "TimeToLiveSpecification",
        ],
        &[
            "BillingMode",
            "ContributorInsightsSpecification",
            "DeletionProtectionEnabled",
            "OnDemandThroughput",
            "PointInTimeRecoverySpecification",
            "ProvisionedThroughput",
            "SSESpecification",
            "TableClass",
            "Tags",
            "WarmThroughput",
        ],
    )?;
    let name = resource.scope.physical_id(resource.id)?;
    let mut definition = Map::from_iter([
        ("TableName".to_owned(), json!(name)),
        ("BillingMode".to_owned(), json!("PAY_PER_REQUEST")),
    ]);
    for required in ["AttributeDefinitions", "KeySchema"] {
        let value = resource
            .get(required)?
            .ok_or_else(|| format!("{required} is missing"))?;
        definition.insert(required.to_owned(), value);
    }
    for optional in ["GlobalSecondaryIndexes", "LocalSecondaryIndexes"] {
        if let Some(Value::Array(indexes)) = resource.get(optional)? {
            definition.insert(
                optional.to_owned(),
                indexes.into_iter().map(index).collect(),
            );
        }
    }
    template.tables.push(Table {
        id: resource.id.to_owned(),
        name,
        definition: Value::Object(definition),
        ttl_attribute: ttl_attribute(resource)?,
    });
    Ok(())
}

/// Removes the billing properties of an index.
fn index(index: Value) -> Value {
    let Value::Object(entries) = index else {
        return index;
    };
    let kept = ["IndexName", "KeySchema", "Projection"];
    Value::Object(
        entries
            .into_iter()
            .filter(|(name, _)| kept.contains(&name.as_str()))
            .collect(),
    )
}

fn ttl_attribute(resource: &Resource<'_>) -> Result<Option<String>, String> {
    let specification = resource.get("TimeToLiveSpecification")?;
    let enabled = specification.filter(|ttl| {
        ttl.get("Enabled")
            .is_some_and(|on| on == true || on == "true")
    });
    Ok(enabled.and_then(|ttl| Some(ttl.get("AttributeName")?.as_str()?.to_owned())))
}
