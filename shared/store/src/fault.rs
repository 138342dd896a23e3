//! Maps failures to faults. No fault carries the text of a source error, because that text may quote an item.

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use service::ports::Fault;
use signing::SendError;

use crate::client::Failure;

/// Returns the fault for a failure that has no special meaning for the caller's operation.
pub(crate) fn fault<E: ProvideErrorMetadata>(failure: &Failure<E>) -> Fault {
    match failure {
        Failure::Unwritten | Failure::Unanswered(SendError::Unsendable) => Fault::Refused(
            "cannot build the DynamoDB request: check region and credentials".to_owned(),
        ),
        Failure::Unanswered(SendError::NotSent) => {
            Fault::Refused("cannot reach DynamoDB".to_owned())
        }
        Failure::Unanswered(SendError::Lost) => {
            Fault::Unknown("no response from DynamoDB".to_owned())
        }
        Failure::Service(said, status) => {
            by_code(said.code().unwrap_or("error without a code"), *status)
        }
        Failure::Unreadable => Fault::Unknown("unreadable response from DynamoDB".to_owned()),
    }
}

/// Returns the fault for an error code of DynamoDB.
fn by_code(code: &str, status: u16) -> Fault {
    match code {
        "ConditionalCheckFailedException" | "TransactionConflictException" => Fault::Conflict,
        // DynamoDB is still executing an earlier attempt of the same transaction.
        "TransactionInProgressException" => Fault::Unknown(code.to_owned()),
        // The request is wrong or the item would become too large. A retry does not help.
        "ValidationException" => Fault::Corrupt(code.to_owned()),
        _ if status >= 500 => Fault::Unknown(code.to_owned()),
        _ => Fault::Refused(code.to_owned()),
    }
}
