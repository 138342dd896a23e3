//! How a request gets to DynamoDB and what comes back.
//!
//! The requests, the answers and the errors are the SDK's, and so is what writes and reads them. Between the two the SDK's client
//! puts its configuration, its interceptors and its rules for endpoints together anew for each request, which is more than
//! half of what a request takes. Here a request is sent by the pooled client that pushes take as well, signed by the
//! SDK's own signer, and repeated by the rules below.

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

use crate::requests::Repeat;

/// Attempts of what may be repeated, the first included.
const ATTEMPTS: u32 = 3;
/// Before the second attempt, at most; before the third twice as long.
const BACKOFF: Duration = Duration::from_millis(50);
/// One attempt: far above any healthy answer, so that a lost packet costs a repeat and not the invocation.
const ATTEMPT: Duration = Duration::from_secs(3);
/// What asks for patience, of the errors that DynamoDB says with a status below 500
/// (docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html, 2026-11).
const PATIENCE: [&str; 4] = [
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "LimitExceededException",
];

/// What is said of what stands there.
const VERDICTS: [&str; 2] = [
    "ConditionalCheckFailedException",
    "TransactionCanceledException",
];

/// Why there is no output.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    /// What DynamoDB said, with the answer's status.
    Service(E, u16),
    /// There is no answer; whether DynamoDB has the request only the kind tells.
    Unanswered(SendError),
    /// The answer is none of DynamoDB's.
    Unreadable,
    /// The request lacks something.
    Unwritten,
}

impl<E: ProvideErrorMetadata> Failure<E> {
    /// Whether the request may have been carried out for all that is known.
    fn is_doubtful(&self) -> bool {
        match self {
            Self::Service(error, status) => {
                *status >= 500 || error.code() == Some("TransactionInProgressException")
            }
            Self::Unanswered(SendError::Lost) | Self::Unreadable => true,
            Self::Unanswered(SendError::NotSent | SendError::Unsendable) | Self::Unwritten => false,
        }
    }

    /// Whether it tells what stands there, which is the truth also of what an earlier attempt did.
    fn is_verdict(&self) -> bool {
        matches!(self, Self::Service(error, _) if error.code().is_some_and(|it| VERDICTS.contains(&it)))
    }

    /// Whether another attempt may do better.
    fn may_pass(&self) -> bool {
        let is_throttled = |error: &E| error.code().is_some_and(|it| PATIENCE.contains(&it));
        self.is_doubtful()
            || matches!(self, Self::Unanswered(SendError::NotSent))
            || matches!(self, Self::Service(error, _) if is_throttled(error))
    }
}

/// The input of one of DynamoDB's operations.
pub(crate) trait Request: Debug + Send + Sync + Sized + 'static {
    /// What it is answered with.
    type Output: Debug + Send + Sync + 'static;
    /// What DynamoDB may say instead.
    type Error: ProvideErrorMetadata + Error + Send + Sync + 'static;

    /// What the SDK writes the request with and reads the answer with.
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

    /// Sends a request, and again what may be repeated and may pass: what certainly was not carried out always may. An
    /// attempt of unknown outcome leaves the whole of it unknown, unless a later one tells what stands.
    pub(crate) async fn send<R: Request>(
        &self,
        input: Result<R, BuildError>,
        repeat: Repeat,
    ) -> Result<R::Output, Failure<R::Error>> {
        let input = input.map_err(|_| Failure::Unwritten)?;
        let request = write(input).ok_or(Failure::Unwritten)?;
        // Each time the same: a transaction's token is part of it.
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
            // Boxed: it is large, and deep inside the futures of the flows.
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

/// The request for an input, without an address and unsigned.
fn write<R: Request>(input: R) -> Option<HttpRequest> {
    let writer = R::codec()?.load::<SharedRequestSerializer>()?;
    writer
        .serialize_input(Input::erase(input), &mut ConfigBag::base())
        .ok()
}

/// What an answer says.
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
            // The SDK makes an error of a good answer too that it cannot read; then the request was carried out.
            let said = said.filter(|_| !code.is_success());
            Err(said.map_or(Failure::Unreadable, |it| Failure::Service(it, status)))
        }
    }
}

/// Waits before the next attempt, each client for another time.
async fn back_off(attempt: u32) {
    let most = BACKOFF.saturating_mul(attempt);
    tokio::time::sleep(most.mul_f64(fastrand::f64())).await;
}
