//! What SockJS's published suite asks a server for: places that echo, and one that goes away at once. Over the very
//! transports of the service, and its WebSockets; one binary for every event. It is deployed nowhere but for the suite.

use std::rc::Rc;

use futures::channel::mpsc::Receiver;
use gateway::Management;
use lambda::{Config, HttpEvent, Origins, System, Worker, init_logs};
use lambda_runtime::{Error, FunctionResponse, LambdaEvent, run, service_fn};
use protocol::{ConnectionId, Domain, RequestId, Subscriber, SubscriberId};
use serde_json::{Value, json};
use service::{
    Identity,
    ports::{
        Closing, Environment as _, Fault, Framing, Job, Probe, Pushes as _, SessionId,
        Sessions as _, TokenHash, Workers as _,
    },
};
use sockjs::{Close, codes, frame};
use store::{DynamoStore, Tables};
use tokio::task::LocalSet;
use transports::{App, Body, Opened, Settings, Site, Transports};

use core::time::Duration;

/// The place that goes away.
const CLOSE: &str = "close";
/// What it says.
const GO_AWAY: Close = Close {
    code: 3000,
    reason: "Go away!",
};
/// The suite's limit: its streams end after 4 KiB.
const RESPONSE_LIMIT: usize = 4096;
/// How long a WebSocket is waited for, and how often it is looked for.
const PATIENCE: i64 = 10;
const LOOK: Duration = Duration::from_millis(5);

/// The places, over their sessions.
struct Places {
    sessions: DynamoStore,
}

/// The places' WebSockets.
struct Sockets {
    management: Management,
    worker: Worker,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    init_logs();
    let config = Config::from_env()?;
    let tables = Tables {
        sessions: Config::required("SESSIONS_TABLE")?,
        ..Tables::default()
    };
    let connections = Config::required("CONNECTIONS_ENDPOINT")?;
    let endpoint = config.dynamodb_endpoint();
    let client = config.signing_client(&endpoint)?;
    let store = DynamoStore::new(client, endpoint, tables);
    let sockets = Rc::new(Sockets {
        management: Management::new(config.signing_client(&connections)?, &connections),
        worker: Worker::from_env(&config)?,
    });
    let transports = Rc::new(Transports {
        app: Places {
            sessions: store.clone(),
        },
        sessions: store,
        environment: System,
        site: site(),
    });
    let served = run(service_fn(|event: LambdaEvent<Value>| {
        let request = RequestId(event.context.request_id.clone());
        let (transports, sockets) = (Rc::clone(&transports), Rc::clone(&sockets));
        async move { answer(transports, &sockets, event.payload, request).await }
    }));
    let local = LocalSet::new();
    local.run_until(served).await
}

/// The places that the suite knows.
fn site() -> Site {
    let place = |name: &str| Settings {
        prefix: format!("/{name}"),
        websocket: true,
        legacy: true,
        cookies: false,
        client_url: "/sockjs.min.js".to_owned(),
        response_limit: RESPONSE_LIMIT,
        info_floor: Duration::ZERO,
    };
    Site {
        mounts: vec![
            place("echo"),
            place(CLOSE),
            Settings {
                websocket: false,
                ..place("disabled_websocket_echo")
            },
            Settings {
                cookies: true,
                ..place("cookie_needed_echo")
            },
        ],
        origins: Origins::parse("*"),
        secret: std::env::var("ORIGIN_SECRET")
            .ok()
            .filter(|it| !it.is_empty()),
        doorbell: None,
        watch: Some(Duration::from_millis(20)),
    }
}

/// Any event: a request by HTTP, of the WebSocket API's authorizer, of a WebSocket, or an own job.
async fn answer(
    transports: Rc<Transports<Places, DynamoStore, System>>,
    sockets: &Sockets,
    event: Value,
    request: RequestId,
) -> Result<FunctionResponse<Value, Body>, Error> {
    if event.pointer("/requestContext/http").is_some() {
        let event: HttpEvent = serde_json::from_value(event)?;
        let answer = transports.answer(event, request).await;
        return Ok(FunctionResponse::StreamingResponse(answer));
    }
    let answer = if event.get("job").is_some() {
        sockets.opened(&serde_json::from_value(event)?).await;
        Value::Null
    } else if event.get("methodArn").is_some() {
        allow(&event)
    } else {
        sockets.event(&event).await?;
        json!({"statusCode": 200})
    };
    Ok(FunctionResponse::<Value, Receiver<_>>::BufferedResponse(
        answer,
    ))
}

/// Lets everybody in; what the edge says of the path goes on with each event.
fn allow(event: &Value) -> Value {
    let parameter = |name: &str| {
        let found = event
            .pointer("/queryStringParameters")
            .and_then(|it| it.get(name));
        found.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    json!({
        "principalId": "anybody",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{
                "Action": "execute-api:Invoke",
                "Effect": "Allow",
                "Resource": event.get("methodArn"),
            }],
        },
        "context": {"mount": parameter("mount"), "framing": parameter("framing")},
    })
}

impl Sockets {
    /// Something happens on a WebSocket.
    async fn event(&self, event: &Value) -> Result<(), Fault> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        let connection = text("/requestContext/connectionId").unwrap_or_default();
        let connection = ConnectionId(connection.to_owned());
        let mount = text("/requestContext/authorizer/mount").unwrap_or_default();
        let framing = match text("/requestContext/authorizer/framing") {
            Some("sockjs") => Framing::Sockjs,
            _ => Framing::Raw,
        };
        match text("/requestContext/eventType") {
            // It is up only once this has returned.
            Some("CONNECT") => {
                let subscriber = subscriber("socket", mount);
                self.worker
                    .start(&Job::Connected {
                        subscriber,
                        connection,
                        token: TokenHash::of("anybody"),
                        framing,
                    })
                    .await?;
            }
            Some("MESSAGE") => {
                let body = text("/body").unwrap_or_default();
                self.echo(&connection, framing, body).await;
            }
            _ => {}
        }
        Ok(())
    }

    async fn echo(&self, connection: &ConnectionId, framing: Framing, text: &str) {
        if framing == Framing::Raw {
            self.management.post(connection, framing, &[text]).await;
            return;
        }
        match frame::decode_text(text) {
            Ok(messages) => {
                let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
                if !messages.is_empty() {
                    self.management.post(connection, framing, &messages).await;
                }
            }
            // Abruptly, as the suite has it: without a last frame.
            Err(_) => {
                self.management
                    .close_saying(connection, codes::BROKEN_FRAMING)
                    .await;
            }
        }
    }

    /// A WebSocket was let in: once it is up its client is told that its session is open, and perhaps at once that it ends.
    async fn opened(&self, job: &Job) {
        let Job::Connected {
            subscriber,
            connection,
            framing,
            ..
        } = job
        else {
            return;
        };
        let ends = System.now().plus_seconds(PATIENCE);
        while self.management.probe(connection).await != Probe::Up {
            if System.now() > ends {
                return;
            }
            System.sleep(LOOK).await;
        }
        if *framing == Framing::Sockjs {
            self.management.open_session(connection).await;
        }
        if subscriber.id.as_str() == CLOSE {
            match framing {
                // The service cannot say why to a client without frames: nor can this on AWS.
                Framing::Raw => self.management.close_saying(connection, GO_AWAY).await,
                framing => {
                    let framing = *framing;
                    self.management
                        .drop_connection(connection, framing, GO_AWAY)
                        .await;
                }
            }
        }
    }
}

/// The one subscriber of a place.
#[expect(
    clippy::expect_used,
    reason = "the names of the places are ids, and this runs for the suite alone"
)]
fn subscriber(domain: &str, mount: &str) -> Subscriber {
    let name = mount.trim_start_matches('/');
    Subscriber {
        domain: Domain::parse(domain).expect("it is an id"),
        id: SubscriberId::parse(if name.is_empty() { "echo" } else { name }).expect("it is an id"),
    }
}

/// The place that a path is in.
fn place(event: &HttpEvent) -> &str {
    event.path().split('/').nth(1).unwrap_or_default()
}

impl App for Places {
    async fn token(&self, event: &HttpEvent) -> Result<Option<TokenHash>, Fault> {
        Ok(Some(TokenHash::of(place(event))))
    }

    async fn identity(&self, event: &HttpEvent) -> Result<Option<Identity>, Fault> {
        Ok(Some(Identity {
            subscriber: subscriber("http", place(event)),
            token: TokenHash::of(place(event)),
            token_expires: System.now().plus_seconds(24 * 60 * 60),
            jti: None,
            framing: Framing::Session,
        }))
    }

    async fn open(&self, id: &SessionId, identity: &Identity) -> Result<Opened, Fault> {
        if identity.subscriber.id.as_str() == CLOSE {
            let closing = Closing {
                code: GO_AWAY.code,
                reason: GO_AWAY.reason.to_owned(),
            };
            let now = System.now();
            self.sessions.close_session(id, &closing, now).await?;
        }
        Ok(Opened::Yes)
    }

    async fn message(
        &self,
        id: &SessionId,
        _: &Identity,
        _: RequestId,
        text: String,
    ) -> Result<(), Fault> {
        let now = System.now();
        self.sessions.push_to_session(id, &[&text], now).await?;
        Ok(())
    }

    async fn close(&self, _: &SessionId, _: &Identity) -> Result<(), Fault> {
        Ok(())
    }
}
