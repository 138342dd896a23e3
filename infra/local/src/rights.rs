//! Permissions: checks every request that a function signs against the statements of its policy.
//!
//! A function is identified by its access key, which is part of every signature. The signatures themselves are not
//! checked. Requests that are unsigned or signed with another key do not come from a function and are allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::template::{ACCOUNT, Statement, Template};

/// The prefix of a function's access key. The logical id follows.
const KEY: &str = "local-";

/// The permissions of all functions, and the decisions made so far. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    region: String,
    statements: BTreeMap<String, Option<Vec<Statement>>>,
    /// Caches decisions by function, action and resource, because functions repeat the same requests.
    decided: Mutex<Decided>,
}

type Decided = BTreeMap<String, BTreeMap<String, BTreeMap<String, bool>>>;

/// A request of a function that needs a permission.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Use {
    /// The function's logical id.
    pub function: String,
    /// For example `dynamodb:GetItem`.
    pub action: String,
    /// The ARN of the resource, without the id of a connection.
    pub resource: String,
    /// True if the function's policy allows it. If false, the request was refused.
    pub allowed: bool,
}

/// A function lacks a permission.
#[derive(Debug, thiserror::Error)]
#[error("{function} is not authorized to perform: {action} on resource: {resource}")]
pub struct Denied {
    function: String,
    action: String,
    resource: String,
}

impl Rights {
    /// Returns the permissions that the template grants.
    #[must_use]
    pub fn new(template: &Template) -> Self {
        let functions = &template.functions;
        let statements = functions
            .iter()
            .map(|(id, function)| (id.clone(), function.rights.clone()))
            .collect();
        Self {
            inner: Arc::new(Inner {
                region: template.region.clone(),
                statements,
                decided: Mutex::default(),
            }),
        }
    }

    /// Returns the ARN of a resource in the template's region.
    #[must_use]
    pub fn arn(&self, service: &str, resource: &str) -> String {
        let region = &self.inner.region;
        format!("arn:aws:{service}:{region}:{ACCOUNT}:{resource}")
    }

    /// Checks that the signer of a request with these headers may perform `action` on `resource`.
    ///
    /// # Errors
    /// Fails with [`Denied`] if the signer is a function whose policy does not allow it. The first such denial is
    /// logged.
    pub fn check(&self, headers: &HeaderMap, action: &str, resource: &str) -> Result<(), Denied> {
        let Some(function) = signer(headers) else {
            return Ok(());
        };
        let Some(Some(statements)) = self.inner.statements.get(function) else {
            return Ok(());
        };
        let known = self.known(function, action, resource);
        let allowed = known.unwrap_or_else(|| {
            statements
                .iter()
                .any(|statement| statement.allows(action, resource))
        });
        if known.is_none() {
            self.remember(function, action, resource, allowed);
        }
        if allowed {
            return Ok(());
        }
        let denied = Denied {
            function: function.to_owned(),
            action: action.to_owned(),
            resource: resource.to_owned(),
        };
        if known.is_none() {
            tracing::error!("{denied}; the function's Policies in the template do not allow it");
        }
        Err(denied)
    }

    /// Returns every distinct request that functions have made so far.
    #[must_use]
    pub fn used(&self) -> BTreeSet<Use> {
        let mut used = BTreeSet::new();
        for (function, actions) in &*self.lock() {
            for (action, resources) in actions {
                used.extend(resources.iter().map(|(resource, allowed)| Use {
                    function: function.clone(),
                    action: action.clone(),
                    resource: resource.clone(),
                    allowed: *allowed,
                }));
            }
        }
        used
    }

    fn known(&self, function: &str, action: &str, resource: &str) -> Option<bool> {
        let decided = self.lock();
        decided.get(function)?.get(action)?.get(resource).copied()
    }

    fn remember(&self, function: &str, action: &str, resource: &str, allowed: bool) {
        let mut decided = self.lock();
        let actions = decided.entry(function.to_owned()).or_default();
        let resources = actions.entry(action.to_owned()).or_default();
        resources.insert(resource.to_owned(), allowed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Decided> {
        self.inner
            .decided
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the access key of a function.
#[must_use]
pub fn access_key(function: &str) -> String {
    format!("{KEY}{function}")
}

/// Returns the logical id in `Credential=local-ID/date/region/service/aws4_request`.
fn signer(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (_, credential) = authorization.split_once("Credential=")?;
    credential.split('/').next()?.strip_prefix(KEY)
}

/// The fields of a DynamoDB request that name its tables. The rest, which may be long, is skipped.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    table_name: Option<String>,
    index_name: Option<String>,
    request_items: BTreeMap<String, IgnoredAny>,
    transact_items: Vec<BTreeMap<String, Part>>,
}

/// One action of a transaction.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Part {
    table_name: String,
}

/// Returns each action of a DynamoDB request with its table or index, for example `(dynamodb:Query,
/// Tokens/index/by-time)`. Returns nothing if `request` cannot be parsed.
///
/// A transaction has no permission of its own: each of its parts needs one (DynamoDB developer guide, "Using IAM with
/// transactions", 2026-08).
#[must_use]
pub fn needed(operation: &str, request: &str) -> Vec<(String, String)> {
    let Request {
        table_name,
        index_name,
        request_items,
        transact_items,
    } = serde_json::from_str(request).unwrap_or_default();
    let right = |action: &str, table: &str| {
        let table = table.rsplit_once(":table/").map_or(table, |(_, name)| name);
        (format!("dynamodb:{action}"), table.to_owned())
    };
    match operation {
        "TransactWriteItems" | "TransactGetItems" => transact_items
            .iter()
            .flatten()
            .map(|(kind, part)| {
                let action = match kind.as_str() {
                    "ConditionCheck" => "ConditionCheckItem",
                    "Delete" => "DeleteItem",
                    "Get" => "GetItem",
                    "Put" => "PutItem",
                    _ => "UpdateItem",
                };
                right(action, &part.table_name)
            })
            .collect(),
        "BatchGetItem" | "BatchWriteItem" => request_items
            .keys()
            .map(|table| right(operation, table))
            .collect(),
        _ => table_name
            .map(|table| match index_name {
                Some(index) => right(operation, &format!("{table}/index/{index}")),
                None => right(operation, &table),
            })
            .into_iter()
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn signed(function: &str) -> HeaderMap {
        let credential = format!(
            "AWS4-HMAC-SHA256 Credential={}/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
            access_key(function)
        );
        HeaderMap::from_iter([(
            header::AUTHORIZATION,
            HeaderValue::from_str(&credential).unwrap(),
        )])
    }

    fn rights() -> Rights {
        let statement = Statement {
            id: Some("T".to_owned()),
            actions: vec!["dynamodb:GetItem".to_owned()],
            resources: vec!["arn:aws:dynamodb:r:1:table/T".to_owned()],
        };
        Rights {
            inner: Arc::new(Inner {
                region: "r".to_owned(),
                statements: BTreeMap::from([
                    ("F".to_owned(), Some(vec![statement])),
                    ("Unchecked".to_owned(), None),
                ]),
                decided: Mutex::default(),
            }),
        }
    }

    #[test]
    fn policy_limits_function() {
        let rights = rights();
        let table = "arn:aws:dynamodb:r:1:table/T";
        assert!(
            rights
                .check(&signed("F"), "dynamodb:GetItem", table)
                .is_ok()
        );
        let denied = rights.check(&signed("F"), "dynamodb:PutItem", table);
        assert_eq!(
            denied.unwrap_err().to_string(),
            "F is not authorized to perform: dynamodb:PutItem on resource: arn:aws:dynamodb:r:1:table/T"
        );
        let index = format!("{table}/index/i");
        assert!(
            rights
                .check(&signed("F"), "dynamodb:GetItem", &index)
                .is_err()
        );
        assert_eq!(rights.used().len(), 3);
        for other in [signed("Unchecked"), signed("Unknown"), HeaderMap::new()] {
            assert!(rights.check(&other, "dynamodb:PutItem", table).is_ok());
        }
        assert_eq!(
            rights.used().len(),
            3,
            "only requests of functions are recorded"
        );
    }

    #[test]
    fn transaction_needs_permissions_of_parts() {
        let part = json!({ "TableName": "T" });
        let request = json!({ "TransactItems": [{ "Put": part }, { "ConditionCheck": part }, { "Update": part }] });
        let needed = needed("TransactWriteItems", &request.to_string());
        let actions: Vec<_> = needed.iter().map(|(action, _)| action.as_str()).collect();
        assert_eq!(
            actions,
            [
                "dynamodb:PutItem",
                "dynamodb:ConditionCheckItem",
                "dynamodb:UpdateItem"
            ]
        );
    }

    #[test]
    fn index_query_and_batch_name_resources() {
        let query = json!({ "TableName": "T", "IndexName": "i" });
        assert_eq!(
            needed("Query", &query.to_string()),
            [("dynamodb:Query".to_owned(), "T/index/i".to_owned())]
        );
        let batch = json!({ "RequestItems": { "A": {}, "B": {} } });
        let right = "dynamodb:BatchGetItem".to_owned();
        assert_eq!(
            needed("BatchGetItem", &batch.to_string()),
            [(right.clone(), "A".to_owned()), (right, "B".to_owned())]
        );
    }
}
