//! Faults of DynamoDB, which the engine itself never causes.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::fault::{Faults, Kind};

const LONGEST_DELAY: Duration = Duration::from_millis(300);

/// The effect of faults on one request.
#[derive(Debug)]
pub(super) enum Strike {
    /// The request is performed and answered after this delay.
    Perform(Duration),
    /// The request is performed after this delay, but never answered.
    LoseReply(Duration),
    /// The request is not performed. This is the response.
    Instead(Duration, StatusCode, String),
}

impl Strike {
    /// Returns the delay of the request.
    pub(super) fn delay(&self) -> Duration {
        match self {
            Self::Perform(delay) | Self::LoseReply(delay) | Self::Instead(delay, ..) => *delay,
        }
    }
}

/// Decides the faults of one request. Requests that manage tables have none.
pub(super) fn strike(faults: &Faults, operation: &str, body: &str) -> Strike {
    let on_items = operation.contains("Item") || operation == "Query";
    if !on_items {
        return Strike::Perform(Duration::ZERO);
    }
    let delay = if faults.strikes(Kind::DelayDynamodb) {
        faults.delay(Kind::DelayDynamodb, LONGEST_DELAY)
    } else {
        Duration::ZERO
    };
    let writes = ["PutItem", "UpdateItem", "DeleteItem"].contains(&operation);
    let transacts = operation.starts_with("Transact");
    if faults.strikes(Kind::FailDynamodb) {
        let (status, json) = failure(faults.heads(Kind::FailDynamodb), operation, body);
        return Strike::Instead(delay, status, json);
    }
    if (writes || transacts) && faults.strikes(Kind::ConflictDynamodb) {
        return Strike::Instead(delay, StatusCode::BAD_REQUEST, conflict(transacts, body));
    }
    if faults.strikes(Kind::LoseDynamodbReply) {
        return Strike::LoseReply(delay);
    }
    Strike::Perform(delay)
}

fn failure(throttled: bool, operation: &str, body: &str) -> (StatusCode, String) {
    if !throttled {
        let json = error("InternalServerError", "Internal server error");
        return (StatusCode::INTERNAL_SERVER_ERROR, json);
    }
    // A throttled batch succeeds and returns the unprocessed items.
    let left_out = match operation {
        "BatchGetItem" => Some(("UnprocessedKeys", json!({ "Responses": {} }))),
        "BatchWriteItem" => Some(("UnprocessedItems", json!({}))),
        _ => None,
    };
    if let Some((name, Value::Object(mut answer))) = left_out
        && let Ok(mut request) = serde_json::from_str::<Value>(body)
        && let Some(items) = request.get_mut("RequestItems")
    {
        answer.insert(name.to_owned(), items.take());
        return (StatusCode::OK, Value::Object(answer).to_string());
    }
    let message = "The level of configured provisioned throughput for the table was exceeded.";
    (
        StatusCode::BAD_REQUEST,
        error("ProvisionedThroughputExceededException", message),
    )
}

/// Returns the error of a conflict. In a transaction, the first item is in conflict. A single write has its own error.
fn conflict(transacts: bool, body: &str) -> String {
    if !transacts {
        return error(
            "TransactionConflictException",
            "Transaction is ongoing for the item",
        );
    }
    let request: Option<Value> = serde_json::from_str(body).ok();
    let items = request.and_then(|request| request.get("TransactItems")?.as_array().map(Vec::len));
    let others = items.unwrap_or(1).saturating_sub(1);
    let reasons: Vec<_> = std::iter::once(json!({
        "Code": "TransactionConflict",
        "Message": "Transaction is ongoing for the item",
    }))
    .chain(std::iter::repeat_n(json!({ "Code": "None" }), others))
    .collect();
    let codes: Vec<_> = std::iter::once("TransactionConflict")
        .chain(std::iter::repeat_n("None", others))
        .collect();
    json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": format!(
            "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
            codes.join(", ")
        ),
        "CancellationReasons": reasons,
    })
    .to_string()
}

fn error(name: &str, message: &str) -> String {
    json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": message })
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn always(kind: Kind) -> Faults {
        Faults::new(&[Fault { kind, rate: 1.0 }], 1)
    }

    #[test]
    fn conflict_has_reason_per_item() {
        let body = r#"{"TransactItems":[{"Put":{}},{"Put":{}},{"Delete":{}}]}"#;
        let Strike::Instead(_, status, json) =
            strike(&always(Kind::ConflictDynamodb), "TransactWriteItems", body)
        else {
            panic!("the write should conflict");
        };
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(json["CancellationReasons"].as_array().unwrap().len(), 3);
        assert_eq!(
            json["CancellationReasons"][0]["Code"],
            "TransactionConflict"
        );
    }

    #[test]
    fn reads_and_table_requests_are_exempt() {
        assert!(matches!(
            strike(&always(Kind::ConflictDynamodb), "GetItem", "{}"),
            Strike::Perform(_)
        ));
        assert!(matches!(
            strike(&always(Kind::FailDynamodb), "DescribeTable", "{}"),
            Strike::Perform(_)
        ));
    }

    #[test]
    fn throttled_batch_returns_its_keys() {
        let (status, json) = failure(
            true,
            "BatchGetItem",
            r#"{"RequestItems":{"T":{"Keys":[{"a":{"S":"x"}}]}}}"#,
        );
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(json["UnprocessedKeys"]["T"]["Keys"][0]["a"]["S"], "x");
    }
}
