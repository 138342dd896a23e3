//! A write as data. The same write can be sent alone or in a transaction.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{
        AttributeValue, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure,
        TransactWriteItem, Update,
    },
};
use serde::Serialize;
use service::ports::Fault;

use crate::keys::{Item, Key};

/// The kind of a write.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Put(Item),
    Update(String),
    Delete,
    /// Writes nothing. Only the condition counts.
    Check,
}

/// One write of one item, with its condition.
///
/// Expressions name attributes by placeholders: `#ends_at` is the attribute `ends-at`. [`Write::name`] defines the
/// placeholders of variable names. Expressions therefore never contain a reserved word.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) key: Key,
    pub(crate) action: Action,
    pub(crate) condition: Option<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Write {
    /// Puts `item` under `key`, and adds `v`, the version of the item format.
    pub(crate) fn put(key: Key, item: &impl Serialize) -> Result<Self, Fault> {
        let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(item)
            .map_err(|_| Fault::Corrupt("item cannot be serialized".to_owned()))?;
        item.extend(key.attributes());
        item.insert("v".to_owned(), number(1));
        Ok(Self::new(key, Action::Put(item)))
    }

    pub(crate) fn update(key: Key, expression: impl Into<String>) -> Self {
        Self::new(key, Action::Update(expression.into()))
    }

    pub(crate) fn delete(key: Key) -> Self {
        Self::new(key, Action::Delete)
    }

    pub(crate) fn check(key: Key) -> Self {
        Self::new(key, Action::Check)
    }

    fn new(key: Key, action: Action) -> Self {
        Self {
            key,
            action,
            condition: None,
            names: HashMap::new(),
            values: HashMap::new(),
        }
    }

    /// Makes the write conditional on `condition`.
    pub(crate) fn when(mut self, condition: impl Into<String>) -> Self {
        self.condition = Some(condition.into());
        self
    }

    pub(crate) fn name(mut self, placeholder: impl Into<String>, name: impl Into<String>) -> Self {
        self.names.insert(placeholder.into(), name.into());
        self
    }

    pub(crate) fn value(mut self, placeholder: impl Into<String>, value: AttributeValue) -> Self {
        self.values.insert(placeholder.into(), value);
        self
    }

    /// Returns all names that the expressions use. Returns `None` instead of an empty map, which DynamoDB refuses.
    pub(crate) fn names(&self) -> Option<HashMap<String, String>> {
        let update = match &self.action {
            Action::Update(update) => update.as_str(),
            _ => "",
        };
        let condition = self.condition.as_deref().unwrap_or_default();
        let mut names = fixed_names(update);
        names.extend(fixed_names(condition));
        names.extend(self.names.clone());
        (!names.is_empty()).then_some(names)
    }

    /// Returns all values. Returns `None` instead of an empty map, which DynamoDB refuses.
    pub(crate) fn values(&self) -> Option<HashMap<String, AttributeValue>> {
        (!self.values.is_empty()).then(|| self.values.clone())
    }

    /// Requests the existing item only if the write has a condition that may fail.
    pub(crate) fn on_failure(&self) -> Option<ReturnValuesOnConditionCheckFailure> {
        self.condition
            .is_some()
            .then_some(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    /// Returns the write as a part of a transaction.
    pub(crate) fn in_transaction(&self, table: &str) -> Result<TransactWriteItem, BuildError> {
        let part = TransactWriteItem::builder();
        let (names, values) = (self.names(), self.values());
        let part = match &self.action {
            Action::Put(item) => part.put(
                Put::builder()
                    .table_name(table)
                    .set_item(Some(item.clone()))
                    .set_condition_expression(self.condition.clone())
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .set_return_values_on_condition_check_failure(self.on_failure())
                    .build()?,
            ),
            Action::Update(update) => part.update(
                Update::builder()
                    .table_name(table)
                    .set_key(Some(self.key.attributes()))
                    .update_expression(update)
                    .set_condition_expression(self.condition.clone())
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .set_return_values_on_condition_check_failure(self.on_failure())
                    .build()?,
            ),
            Action::Delete => part.delete(
                Delete::builder()
                    .table_name(table)
                    .set_key(Some(self.key.attributes()))
                    .set_condition_expression(self.condition.clone())
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .set_return_values_on_condition_check_failure(self.on_failure())
                    .build()?,
            ),
            Action::Check => part.condition_check(
                ConditionCheck::builder()
                    .table_name(table)
                    .set_key(Some(self.key.attributes()))
                    .set_condition_expression(self.condition.clone())
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values)
                    .set_return_values_on_condition_check_failure(self.on_failure())
                    .build()?,
            ),
        };
        Ok(part.build())
    }
}

/// Returns the placeholders of an expression, each with the attribute it spells: `#ends_at` is `ends-at`.
pub(crate) fn fixed_names(expression: &str) -> HashMap<String, String> {
    expression
        .split('#')
        .skip(1)
        .map(|rest| {
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let word = rest.get(..end).unwrap_or_default();
            (format!("#{word}"), word.replace('_', "-"))
        })
        .collect()
}

/// Returns a number attribute.
pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Returns a string attribute.
pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// Serializes a value into an attribute.
pub(crate) fn map(value: &impl Serialize) -> Result<AttributeValue, Fault> {
    serde_dynamo::aws_sdk_dynamodb_1::to_attribute_value(value)
        .map_err(|_| Fault::Corrupt("attribute cannot be serialized".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_name_their_attributes() {
        let names = fixed_names("SET #ends_at = :a, #map.#id = :b REMOVE #parked[0]");
        let expected = [
            ("#ends_at", "ends-at"),
            ("#map", "map"),
            ("#id", "id"),
            ("#parked", "parked"),
        ];
        assert_eq!(names.len(), expected.len());
        for (placeholder, name) in expected {
            assert_eq!(names.get(placeholder).map(String::as_str), Some(name));
        }
    }
}
