//! Sends requests to DynamoDB and parses the responses.
//!
//! The types of requests, responses and errors are the SDK's, and so are the serializers and deserializers. The SDK's
//! client is not used: for each request it assembles its configuration, interceptors and endpoint rules again, which is
//! more than half of the request's CPU time. Instead the pooled client that also posts to API Gateway sends the request.
//! The SDK's own signer signs it, and the rules below decide on retries.

use core::{error::Error, fmt::Debug, time::Duration};
use std::sync::LazyLock;

use aws_sdk_dynamodb::{
    error::{BuildError, ProvideErrorMetadata},
    operation,
};
use aws_smithy_runtime_api::{
    client::{
        interceptors::context::Input,
        orchestrator::{HttpRequest, HttpResponse},
        runtime_plugin::RuntimePlugin as _,
        ser_de::{
            DeserializeResponse as _, SerializeRequest as _, SharedRequestSerializer,
            SharedResponseDeserializer,
        },
    },
    http::StatusCode,
};
use aws_smithy_types::{
    body::SdkBody,
    config_bag::{ConfigBag, FrozenLayer},
};
use bytes::Bytes;
use http::Method;
use signing::{Call, SendError, SigningClient};

/// Attempts of a request that may be repeated, including the first.
const ATTEMPTS: u32 = 3;
/// The longest wait before the second attempt. The wait before the third is at most twice as long.
const BACKOFF: Duration = Duration::from_millis(50);
/// The time limit of one attempt. It is far above the time of any healthy response, so that a lost packet costs a retry
/// and not the invocation.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Error codes with a status below 500 that mean throttling
/// (docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html, 2026-11).
const PATIENCE: [&str; 4] = [
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "LimitExceededException",
];

/// Error codes that describe the stored items: a condition failed or a transaction was cancelled.
const VERDICTS: [&str; 2] = [
    "ConditionalCheckFailedException",
    "TransactionCanceledException",
];

/// Decides if a request may be repeated when its outcome is unknown. A request that was throttled or never arrived may
/// always be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The request is idempotent.
    Safe,
    /// A second execution would be wrong, or its response would hide the effect of the first.
    Never,
}

/// Why a request has no output.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    /// DynamoDB's error, with the status of the response.
    Service(E, u16),
    /// There is no response. The `SendError` says if DynamoDB may have received the request.
    Unanswered(SendError),
    /// The response cannot be parsed as one of DynamoDB's.
    Unreadable,
    /// The request cannot be built or serialized.
    Unwritten,
}

impl<E: ProvideErrorMetadata> Failure<E> {
    /// Returns true if the outcome is unknown: DynamoDB may or may not have executed the request.
    fn is_doubtful(&self) -> bool {
        match self {
            Self::Service(error, status) => {
                *status >= 500 || error.code() == Some("TransactionInProgressException")
            }
            Self::Unanswered(SendError::Lost) | Self::Unreadable => true,
            Self::Unanswered(SendError::NotSent | SendError::Unsendable) | Self::Unwritten => false,
        }
    }

    /// Returns true if the error describes the stored items. It then also settles the outcome of earlier attempts.
    fn is_verdict(&self) -> bool {
        matches!(self, Self::Service(error, _) if error.code().is_some_and(|it| VERDICTS.contains(&it)))
    }

    /// Returns true if another attempt may succeed.
    fn may_pass(&self) -> bool {
        let is_throttled = |error: &E| error.code().is_some_and(|it| PATIENCE.contains(&it));
        self.is_doubtful()
            || matches!(self, Self::Unanswered(SendError::NotSent))
            || matches!(self, Self::Service(error, _) if is_throttled(error))
    }
}

/// The input of one of DynamoDB's operations.
pub(crate) trait Request: Debug + Send + Sync + Sized + 'static {
    /// The response of a successful request.
    type Output: Debug + Send + Sync + 'static;
    /// The errors DynamoDB may return.
    type Error: ProvideErrorMetadata + Error + Send + Sync + 'static;

    /// Returns the SDK's serializer of the request and deserializer of the response.
    fn codec() -> Option<&'static FrozenLayer>;
}

macro_rules! request {
    ($module:ident, $operation:ident, $input:ident, $output:ident, $error:ident) => {
        impl Request for operation::$module::$input {
            type Output = operation::$module::$output;
            type Error = operation::$module::$error;

            fn codec() -> Option<&'static FrozenLayer> {
                static CODEC: LazyLock<Option<FrozenLayer>> =
                    LazyLock::new(|| operation::$module::$operation::new().config());
                CODEC.as_ref()
            }
        }
    };
}

request!(get_item, GetItem, GetItemInput, GetItemOutput, GetItemError);
request!(put_item, PutItem, PutItemInput, PutItemOutput, PutItemError);
request!(
    update_item,
    UpdateItem,
    UpdateItemInput,
    UpdateItemOutput,
    UpdateItemError
);
request!(
    delete_item,
    DeleteItem,
    DeleteItemInput,
    DeleteItemOutput,
    DeleteItemError
);
request!(query, Query, QueryInput, QueryOutput, QueryError);
request!(
    batch_get_item,
    BatchGetItem,
    BatchGetItemInput,
    BatchGetItemOutput,
    BatchGetItemError
);
request!(
    transact_write_items,
    TransactWriteItems,
    TransactWriteItemsInput,
    TransactWriteItemsOutput,
    TransactWriteItemsError
);

/// DynamoDB at one endpoint. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: SigningClient,
    endpoint: String,
}

impl Client {
    pub(crate) const fn new(http: SigningClient, endpoint: String) -> Self {
        Self { http, endpoint }
    }

    /// Sends a request and retries it if another attempt may succeed. With [`Repeat::Never`] it retries only if DynamoDB
    /// definitely did not execute the request. If the outcome of one attempt is unknown, the outcome of the whole call is
    /// unknown, unless a later attempt succeeds or returns an error that describes the stored items.
    pub(crate) async fn send<R: Request>(
        &self,
        input: Result<R, BuildError>,
        repeat: Repeat,
    ) -> Result<R::Output, Failure<R::Error>> {
        let input = input.map_err(|_| Failure::Unwritten)?;
        let request = write(input).ok_or(Failure::Unwritten)?;
        // All attempts send the same body, so that they carry the same transaction token.
        let headers: Vec<(&str, &str)> = request.headers().iter().collect();
        let body = Bytes::copy_from_slice(request.body().bytes().unwrap_or_default());
        let mut attempt = 1;
        let mut is_doubtful = false;
        loop {
            let call = Call {
                service: "dynamodb",
                method: Method::POST,
                url: &self.endpoint,
                headers: &headers,
                body: body.clone(),
                limit: ATTEMPT,
            };
            // Boxed because the future is large and nested deep inside the futures of the flows.
            let answered = match Box::pin(self.http.send(call)).await {
                Ok((status, body)) => read::<R>(status.as_u16(), body),
                Err(error) => Err(Failure::Unanswered(error)),
            };
            let failure = match answered {
                Ok(output) => return Ok(output),
                Err(failure) => failure,
            };
            let may_repeat = repeat == Repeat::Safe || !failure.is_doubtful();
            if !(may_repeat && failure.may_pass() && attempt < ATTEMPTS) {
                // An earlier attempt may have been executed: report the outcome as unknown.
                return Err(if is_doubtful && !failure.is_verdict() {
                    Failure::Unanswered(SendError::Lost)
                } else {
                    failure
                });
            }
            is_doubtful |= failure.is_doubtful();
            back_off(attempt).await;
            attempt += 1;
        }
    }
}

/// Serializes an input. The request has no address and no signature yet.
fn write<R: Request>(input: R) -> Option<HttpRequest> {
    let writer = R::codec()?.load::<SharedRequestSerializer>()?;
    writer
        .serialize_input(Input::erase(input), &mut ConfigBag::base())
        .ok()
}

/// Parses a response.
fn read<R: Request>(status: u16, body: Bytes) -> Result<R::Output, Failure<R::Error>> {
    let reader = R::codec().and_then(|it| it.load::<SharedResponseDeserializer>());
    let (Some(reader), Ok(code)) = (reader, StatusCode::try_from(status)) else {
        return Err(Failure::Unreadable);
    };
    let answer = HttpResponse::new(code, SdkBody::from(body));
    match reader.deserialize_nonstreaming_with_config(&answer, &ConfigBag::base()) {
        Ok(output) => output.downcast().map_err(|_| Failure::Unreadable),
        Err(error) => {
            let mut said = None;
            error.map_operation_error(|it| said = it.downcast().ok());
            // The SDK also returns an operation error if it cannot parse a successful response. DynamoDB executed that
            // request, so the failure is `Unreadable`.
            let said = said.filter(|_| !code.is_success());
            Err(said.map_or(Failure::Unreadable, |it| Failure::Service(it, status)))
        }
    }
}

/// Waits a random time before the next attempt.
async fn back_off(attempt: u32) {
    let most = BACKOFF.saturating_mul(attempt);
    tokio::time::sleep(most.mul_f64(fastrand::f64())).await;
}
