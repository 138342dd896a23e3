//! The HTTP front of the engine. Each request is one operation, to which faults may apply.

use dynoxide::{Database, DynoxideError};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;

use super::faults::{self, Strike};
use super::operations;
use super::units::Tally;
use crate::fault::Faults;
use crate::guard;
use crate::listen::{self, BodyError};
use crate::rights::{self, Denied, Rights};
use crate::server::{self, Answer, Unanswered};

const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
/// The service's limit for a request, 16 MB (DynamoDB developer guide, quotas).
const LARGEST_REQUEST: usize = 16 * 1024 * 1024;

/// Answers requests.
pub(super) struct Front {
    pub(super) database: Database,
    pub(super) faults: Faults,
    pub(super) tally: Tally,
    pub(super) rights: Rights,
}

impl Front {
    /// Answers one request. Fails if a fault withholds the response or the body is cut off.
    pub(super) async fn handle(&self, request: Request<Incoming>) -> Result<Answer, Unanswered> {
        if guard::is_from_a_page(request.headers()) {
            return Ok(bare_error("AccessDeniedException"));
        }
        if request.method() == Method::GET && request.uri().path() == "/_local/units" {
            return Ok(server::json(StatusCode::OK, self.tally.to_json()));
        }
        if request.method() != Method::POST {
            return Ok(server::with_type(
                StatusCode::OK,
                "text/plain",
                "healthy: dynamodb.local ",
            ));
        }
        // Identify the operation.
        let target = request
            .headers()
            .get("x-amz-target")
            .and_then(|target| target.to_str().ok());
        let operation = target
            .and_then(|target| target.strip_prefix("DynamoDB_20120810."))
            .map(str::to_owned);
        let Some(operation) = operation else {
            return Ok(bare_error("UnknownOperationException"));
        };
        let (head, body) = request.into_parts();
        let body = match listen::body(body, LARGEST_REQUEST).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => return Ok(too_large()),
            Err(BodyError::Broken) => return Err(Unanswered),
        };
        let Ok(body) = std::str::from_utf8(&body) else {
            return Ok(bare_error("SerializationException"));
        };
        // Check the permissions before any fault, as DynamoDB refuses such requests first.
        if let Err(denied) = self.check(&head.headers, &operation, body) {
            return Ok(access_denied(&denied));
        }
        let strike = faults::strike(&self.faults, &operation, body);
        if !strike.delay().is_zero() {
            // Sleep only if there is a delay: a sleep of zero still waits for the timer's next millisecond.
            tokio::time::sleep(strike.delay()).await;
        }
        // Perform the operation, unless a fault replaces it. A lost reply is withheld afterwards.
        let withheld = matches!(strike, Strike::LoseReply(_));
        if let Strike::Instead(_, status, json) = strike {
            return Ok(reply(status, json));
        }
        let answer = match operations::perform(&self.database, &self.tally, &operation, body) {
            Ok(json) => reply(StatusCode::OK, json),
            Err(error) => failure(&error),
        };
        if withheld {
            Err(Unanswered)
        } else {
            Ok(answer)
        }
    }

    /// Checks that the signer has every permission that the request needs. The engine refuses requests that cannot be
    /// parsed.
    fn check(&self, headers: &HeaderMap, operation: &str, body: &str) -> Result<(), Denied> {
        for (action, table) in rights::needed(operation, body) {
            let resource = self.rights.arn("dynamodb", &format!("table/{table}"));
            self.rights.check(headers, &action, &resource)?;
        }
        Ok(())
    }
}

fn access_denied(denied: &Denied) -> Answer {
    let json = serde_json::json!({
        "__type": "com.amazon.coral.service#AccessDeniedException",
        "Message": denied.to_string(),
    });
    reply(StatusCode::BAD_REQUEST, json.to_string())
}

fn failure(error: &DynoxideError) -> Answer {
    let status = StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::BAD_REQUEST);
    reply(status, error.to_json())
}

fn too_large() -> Answer {
    failure(&DynoxideError::ValidationException(
        "Request size exceeds the limit of 16 MB".to_owned(),
    ))
}

fn bare_error(name: &str) -> Answer {
    let json = format!(r#"{{"__type":"com.amazon.coral.service#{name}"}}"#);
    reply(StatusCode::BAD_REQUEST, json)
}

fn reply(status: StatusCode, json: String) -> Answer {
    let mut answer = server::with_type(status, CONTENT_TYPE, json);
    let id = format!("{:032X}", rand::random::<u128>());
    if let Ok(id) = HeaderValue::from_str(&id) {
        answer
            .headers_mut()
            .insert(HeaderName::from_static("x-amzn-requestid"), id);
    }
    answer
}
