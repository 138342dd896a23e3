//! The `$connect` authorizer. It returns the identity of the bearer token's subscriber, or fails with `Unauthorized`.

use std::rc::Rc;

use jwt::WithIssuer;
use lambda::{
    AuthorizerEvent, Config, Origins, System, allow, failed, init_logs, serve, unauthorized,
};
use lambda_runtime::{Diagnostic, Error};
use serde_json::Value;
use service::{
    Service,
    ports::{Measure, Metrics as _},
};
use store::{DynamoStore, Tables};

type Authorizer = Service<DynamoStore, (), (), WithIssuer<System>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    init_logs();
    let config = Config::from_env()?;
    let tables = Tables {
        tokens: Config::required("TOKENS_TABLE")?,
        sessions: Config::required("SESSIONS_TABLE")?,
        ..Tables::default()
    };
    let endpoint = config.dynamodb_endpoint();
    let client = config.signing_client(&endpoint)?;
    let service = Service {
        store: DynamoStore::new(client, endpoint, tables),
        gateway: (),
        workers: (),
        environment: WithIssuer::from_env(System)?,
    };
    serve((service, Origins::from_env()), authorize).await
}

/// Authorizes a handshake. Every refusal is the same error, so that the client cannot distinguish unknown, expired and
/// invalidated tokens.
async fn authorize(
    authorizer: Rc<(Authorizer, Origins)>,
    event: AuthorizerEvent,
) -> Result<Value, Diagnostic> {
    let (service, origins) = &*authorizer;
    // A page of a foreign origin would connect in the name of the user who views it.
    if !origins.allow(event.origin()) {
        return Err(unauthorized());
    }
    let bearer = event.bearer().ok_or_else(unauthorized)?;
    let token = bearer.expose();
    let identity = match event.doorbell() {
        Some(of) => service.authenticate_doorbell(token, &of).await,
        None => service.authenticate(token, event.framing()).await,
    };
    // Lambda counts a refusal as an error too, so its own error count does not show faults.
    let identity = identity.map_err(|fault| {
        service.environment.measure(Measure::AuthorizerFault);
        failed(fault)
    })?;
    let identity = identity.ok_or_else(unauthorized)?;
    Ok(allow(&event, &identity))
}
