//! SockJS over HTTP for the messaging service. A session is a connection of its subscriber, like a WebSocket.

use std::rc::Rc;

use gateway::Clients;
use jwt::WithIssuer;
use lambda::{Config, HttpEvent, System, Worker, init_logs, measured};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use protocol::RequestId;
use service::{
    ConnectError, Identity, IncomingConnection, IncomingMessage, Service,
    ports::{Fault, Framing, SessionId, TokenHash},
};
use sockjs_http::{Answer, App, Opened, Site, Transports};
use store::{DynamoStore, Tables};
use tokio::task::LocalSet;

struct Messaging(Service<DynamoStore, Clients<DynamoStore, System>, Worker, WithIssuer<System>>);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    init_logs();
    let config = Config::from_env()?;
    let tables = Tables::all(Config::required)?;
    let connections = Config::required("CONNECTIONS_ENDPOINT")?;
    let endpoint = config.dynamodb_endpoint();
    let client = config.signing_client(&endpoint)?;
    let store = DynamoStore::new(client, endpoint, tables);
    let signing = config.signing_client(&connections)?;
    let service = Service {
        store: store.clone(),
        gateway: Clients::new(signing, &connections, store.clone(), System),
        workers: Worker::from_env(&config)?,
        environment: WithIssuer::from_env(System)?,
    };
    let transports = Rc::new(Transports {
        app: Messaging(service),
        sessions: store,
        environment: System,
        site: Site::from_env(),
    });
    let served = run(service_fn(|event: LambdaEvent<HttpEvent>| {
        let request = RequestId(event.context.request_id.clone());
        let transports = Rc::clone(&transports);
        // A stream continues after its head was sent. The next invocation reports those measurements.
        async move {
            let answer = transports.answer(event.payload, request);
            Ok::<Answer, Error>(measured(&event.context.request_id, answer).await)
        }
    }));
    LocalSet::new().run_until(served).await
}

impl App for Messaging {
    async fn token(&self, event: &HttpEvent) -> Result<Option<TokenHash>, Fault> {
        match event.bearer() {
            Some(bearer) => self.0.token_hash(bearer.expose()).await,
            None => Ok(None),
        }
    }

    async fn identity(&self, event: &HttpEvent) -> Result<Option<Identity>, Fault> {
        match event.bearer() {
            Some(bearer) => self.0.authenticate(bearer.expose(), Framing::Session).await,
            None => Ok(None),
        }
    }

    async fn open(&self, id: &SessionId, identity: &Identity) -> Result<Opened, Fault> {
        let incoming = IncomingConnection {
            identity: identity.clone(),
            connection: id.connection(),
        };
        match self.0.connect(&incoming).await {
            Ok(()) => Ok(Opened::Yes),
            Err(ConnectError::Token) => Ok(Opened::Refused),
            Err(ConnectError::Fault(fault)) => Err(fault),
        }
    }

    async fn message(
        &self,
        id: &SessionId,
        identity: &Identity,
        request: RequestId,
        text: String,
    ) -> Result<(), Fault> {
        let incoming = IncomingMessage {
            identity: identity.clone(),
            connection: id.connection(),
            request,
            body: text,
        };
        // The client already has its ack, so a later failure must not end its session.
        if let Err(fault) = self.0.message(&incoming).await {
            tracing::error!(%fault, "message failed after ack");
        }
        Ok(())
    }

    async fn close(&self, id: &SessionId, identity: &Identity) -> Result<(), Fault> {
        self.0
            .disconnect(&identity.subscriber.connection(id.connection()))
            .await
    }
}
