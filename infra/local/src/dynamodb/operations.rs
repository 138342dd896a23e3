//! Dispatches the engine's operations by their name in `x-amz-target`.

use dynoxide::{Database, DynoxideError, Result};
use serde::de::DeserializeOwned;

use super::units::{self, Kind, Tally};

/// Performs `operation`, records its consumed capacity, and returns its response as JSON.
pub(super) fn perform(
    database: &Database,
    tally: &Tally,
    operation: &str,
    body: &str,
) -> Result<String> {
    // Always request the consumed capacity from the engine, but return it only if the caller requested it.
    macro_rules! perform {
        ($method:ident, $kind:ident, $request:expr) => {{
            let mut request = $request;
            let asked = units::is_asked(&request.return_consumed_capacity);
            if !asked {
                request.return_consumed_capacity = Some("TOTAL".to_owned());
            }
            let mut response = database
                .$method(request)
                .inspect_err(|error| tally.failed(Kind::$kind, error))?;
            tally.answered(Kind::$kind, &response.consumed_capacity);
            if !asked {
                response.consumed_capacity = None;
            }
            write(&response)
        }};
    }
    macro_rules! metered {
        ($method:ident, $request:ident, $kind:ident) => {
            perform!(
                $method,
                $kind,
                read::<dynoxide::actions::$method::$request>(body)?
            )
        };
    }
    match operation {
        "BatchGetItem" => metered!(batch_get_item, BatchGetItemRequest, Read),
        "BatchWriteItem" => metered!(batch_write_item, BatchWriteItemRequest, Write),
        "CreateTable" => write(&database.create_table(read(body)?)?),
        "DeleteItem" => metered!(delete_item, DeleteItemRequest, Write),
        "DeleteTable" => write(&database.delete_table(read(body)?)?),
        "DescribeTable" => write(&database.describe_table(read(body)?)?),
        "DescribeTimeToLive" => write(&database.describe_time_to_live(read(body)?)?),
        "ExecuteStatement" => write(&database.execute_statement(read(body)?)?),
        "GetItem" => metered!(get_item, GetItemRequest, Read),
        "ListTables" => write(&database.list_tables(read(body)?)?),
        "ListTagsOfResource" => write(&database.list_tags_of_resource(read(body)?)?),
        "PutItem" => metered!(put_item, PutItemRequest, Write),
        "Query" => metered!(query, QueryRequest, Read),
        "Scan" => metered!(scan, ScanRequest, Read),
        "TagResource" => write(&database.tag_resource(read(body)?)?),
        "TransactGetItems" => metered!(transact_get_items, TransactGetItemsRequest, Read),
        "TransactWriteItems" => {
            let mut request: dynoxide::actions::transact_write_items::TransactWriteItemsRequest =
                read(body)?;
            // Remove the token: for each request with one, the engine scans all tokens of the last ten minutes, and
            // every SDK sends one. Without it, a retried request is applied again or fails its conditions.
            request.client_request_token = None;
            perform!(transact_write_items, Write, request)
        }
        "UntagResource" => write(&database.untag_resource(read(body)?)?),
        "UpdateItem" => metered!(update_item, UpdateItemRequest, Write),
        "UpdateTable" => write(&database.update_table(read(body)?)?),
        "UpdateTimeToLive" => write(&database.update_time_to_live(read(body)?)?),
        _ => Err(DynoxideError::UnsupportedCapability(operation.to_owned())),
    }
}

fn read<T: DeserializeOwned>(body: &str) -> Result<T> {
    serde_json::from_str(body).map_err(|error| refusal(&error.to_string()))
}

fn write<T: serde::Serialize>(response: &T) -> Result<String> {
    serde_json::to_string(response)
        .map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// Converts a parse error. The engine marks the class of an error in its text. Without a mark, a wrong type is a
/// serialization error and anything else a validation error, as on AWS.
fn refusal(text: &str) -> DynoxideError {
    let text = text.rsplit_once(" at line ").map_or(text, |(text, _)| text);
    for mark in ["VALIDATION_REQUEST:", "VALIDATION:"] {
        if let Some(text) = text.strip_prefix(mark) {
            return DynoxideError::ValidationException(text.to_owned());
        }
    }
    if let Some(text) = text.strip_prefix("SERIALIZATION:") {
        return DynoxideError::SerializationException(text.to_owned());
    }
    if text.starts_with("invalid type") && !text.contains("null") || text.starts_with("expected") {
        return DynoxideError::SerializationException(text.to_owned());
    }
    DynoxideError::ValidationException(text.to_owned())
}
