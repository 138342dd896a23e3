//! What the SDK's errors mean to callers. No text of a source error passes: it may quote an item.

use core::error::Error;
use std::io;

use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use service::ports::Fault;

/// The fault behind an error to which the caller's operation gives no meaning of its own.
pub(crate) fn fault<E: ProvideErrorMetadata + Error + 'static>(
    error: &SdkError<E, HttpResponse>,
) -> Fault {
    match error {
        SdkError::ConstructionFailure(_) => Fault::Refused(
            "the request could not be built: check region and credentials".to_owned(),
        ),
        SdkError::TimeoutError(_) => Fault::Unknown("no answer from DynamoDB in time".to_owned()),
        SdkError::DispatchFailure(_) if was_not_sent(error) => {
            Fault::Refused("DynamoDB was not reached".to_owned())
        }
        SdkError::DispatchFailure(_) => {
            Fault::Unknown("the connection to DynamoDB broke".to_owned())
        }
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or("an error without a code");
            by_code(code, service.raw().status().as_u16())
        }
        _ => Fault::Unknown("the answer of DynamoDB could not be read".to_owned()),
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

/// Whether no byte of the request can have arrived.
fn was_not_sent(error: &(dyn Error + 'static)) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(
            kind,
            Some(
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
            )
        ) {
            return true;
        }
        source = error.source();
    }
    false
}
