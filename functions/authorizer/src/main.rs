//! The `$connect` authorizer: a bearer token in, who it is out, or `Unauthorized`.

use std::rc::Rc;

use jwt::WithIssuer;
use lambda::{
    AuthorizerEvent, Config, Origins, System, allow, failed, init_logs, serve, unauthorized,
};
use lambda_runtime::{Diagnostic, Error};
use serde_json::Value;
use service::{
    Service,
    ports::{Environment as _, Measure},
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

/// Every refusal is the same error, so nobody learns whether a token is unknown, expired or invalidated.
async fn authorize(
    authorizer: Rc<(Authorizer, Origins)>,
    event: AuthorizerEvent,
) -> Result<Value, Diagnostic> {
    let (service, origins) = &*authorizer;
    // A page that may not connect would do so in the name of whoever looks at it.
    if !origins.allow(event.origin()) {
        return Err(unauthorized());
    }
    let bearer = event.bearer().ok_or_else(unauthorized)?;
    let token = bearer.expose();
    let identity = match event.doorbell() {
        Some(of) => service.authenticate_doorbell(token, &of).await,
        None => service.authenticate(token, event.framing()).await,
    };
    // To Lambda a refusal is an error as well, so that its own count tells nothing.
    let identity = identity.map_err(|fault| {
        service.environment.measure(Measure::AuthorizerFault);
        failed(fault)
    })?;
    let identity = identity.ok_or_else(unauthorized)?;
    Ok(allow(&event, &identity))
}
