//! What failures mean to callers. No text of a source error passes: it may quote an item.

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use service::ports::Fault;
use signing::SendError;

use crate::client::Failure;

/// The fault behind a failure to which the caller's operation gives no meaning of its own.
pub(crate) fn fault<E: ProvideErrorMetadata>(failure: &Failure<E>) -> Fault {
    match failure {
        Failure::Unwritten | Failure::Unanswered(SendError::Unsendable) => Fault::Refused(
            "the request could not be built: check region and credentials".to_owned(),
        ),
        Failure::Unanswered(SendError::NotSent) => {
            Fault::Refused("DynamoDB was not reached".to_owned())
        }
        Failure::Unanswered(SendError::Lost) => {
            Fault::Unknown("no answer from DynamoDB".to_owned())
        }
        Failure::Service(said, status) => {
            by_code(said.code().unwrap_or("an error without a code"), *status)
        }
        Failure::Unreadable => {
            Fault::Unknown("the answer of DynamoDB could not be read".to_owned())
        }
    }
}

/// What DynamoDB itself said.
fn by_code(code: &str, status: u16) -> Fault {
    match code {
        "ConditionalCheckFailedException" | "TransactionConflictException" => Fault::Conflict,
        // The same transaction is being carried out by an earlier attempt.
        "TransactionInProgressException" => Fault::Unknown(code.to_owned()),
        // A defect, or an item that has no room for more: no repeat helps.
        "ValidationException" => Fault::Corrupt(code.to_owned()),
        _ if status >= 500 => Fault::Unknown(code.to_owned()),
        _ => Fault::Refused(code.to_owned()),
    }
}
