//! Every operation of the API that the engine has, by its name in `x-amz-target`.

use dynoxide::{Database, DynoxideError, Result};
use serde::de::DeserializeOwned;

/// Performs `operation` and gives its answer as JSON.
pub(super) fn perform(database: &Database, operation: &str, body: &str) -> Result<String> {
    macro_rules! by_name {
        ($($name:literal => $method:ident,)*) => {
            match operation {
                "TransactWriteItems" => {
                    let mut request: dynoxide::actions::transact_write_items::TransactWriteItemsRequest =
                        read(body)?;
                    // The engine scans all tokens of ten minutes for each request that has one, and every SDK sends
                    // one. Without, a repeated request is applied again or fails its conditions.
                    request.client_request_token = None;
                    write(&database.transact_write_items(request)?)
                }
                $($name => write(&database.$method(read(body)?)?),)*
                _ => Err(DynoxideError::UnsupportedCapability(operation.to_owned())),
            }
        };
    }
    by_name! {
        "BatchGetItem" => batch_get_item,
        "BatchWriteItem" => batch_write_item,
        "CreateTable" => create_table,
        "DeleteItem" => delete_item,
        "DeleteTable" => delete_table,
        "DescribeTable" => describe_table,
        "DescribeTimeToLive" => describe_time_to_live,
        "ExecuteStatement" => execute_statement,
        "GetItem" => get_item,
        "ListTables" => list_tables,
        "ListTagsOfResource" => list_tags_of_resource,
        "PutItem" => put_item,
        "Query" => query,
        "Scan" => scan,
        "TagResource" => tag_resource,
        "TransactGetItems" => transact_get_items,
        "UntagResource" => untag_resource,
        "UpdateItem" => update_item,
        "UpdateTable" => update_table,
        "UpdateTimeToLive" => update_time_to_live,
    }
}

fn read<T: DeserializeOwned>(body: &str) -> Result<T> {
    serde_json::from_str(body).map_err(|error| refusal(&error.to_string()))
}

fn write<T: serde::Serialize>(response: &T) -> Result<String> {
    serde_json::to_string(response)
        .map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// The engine marks the class of an error in its text; without a mark, a wrong type is a matter of serialization and
/// anything else one of validation, as on AWS.
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
