//! The server that SockJS's published conformance suite requires: mounts that echo, and one that closes at once. It uses the
//! service's own transports and WebSockets. One binary handles every kind of event. It is deployed only for the suite.

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
        Clock as _, Closing, Fault, Framing, Job, Probe, Pushes as _, SessionId, Sessions as _,
        TokenHash, Workers as _,
    },
};
use sockjs::{Close, codes, frame};
use sockjs_http::{App, Body, Opened, Settings, Site, Transports};
use store::{DynamoStore, Tables};
use tokio::task::LocalSet;

use core::time::Duration;

/// The mount that closes at once.
const CLOSE: &str = "close";
/// The close code and reason of that mount.
const GO_AWAY: Close = Close {
    code: 3000,
    reason: "Go away!",
};
/// The suite's limit for streams: 4 KiB.
const RESPONSE_LIMIT: usize = 4096;
/// The time to wait for a WebSocket to become active in seconds, and the interval of the probes.
const PATIENCE: i64 = 10;
const LOOK: Duration = Duration::from_millis(5);

/// The mounts as an app.
struct Mounts {
    sessions: DynamoStore,
}

/// The WebSockets of the mounts.
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
        app: Mounts {
            sessions: store.clone(),
        },
        sessions: store,
        environment: System,
        site: site(),
    });
    let served = run(service_fn(|event: LambdaEvent<Value>| {
        let request = RequestId(event.context.request_id.clone());
        let (transports, sockets) = (Rc::clone(&transports), Rc::clone(&sockets));
        async move {
            let answer = answer(transports, &sockets, event.payload, request).await;
            answer.inspect_err(|error| tracing::error!(%error, "invocation failed"))
        }
    }));
    let local = LocalSet::new();
    local.run_until(served).await
}

/// Returns the mounts that the suite requires.
fn site() -> Site {
    let mount = |name: &str| Settings {
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
            mount("echo"),
            mount(CLOSE),
            Settings {
                websocket: false,
                ..mount("disabled_websocket_echo")
            },
            Settings {
                cookies: true,
                ..mount("cookie_needed_echo")
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

/// Handles any event: an HTTP request, an authorizer event, a WebSocket event, or a job of its own.
async fn answer(
    transports: Rc<Transports<Mounts, DynamoStore, System>>,
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

/// Allows every connection. The context passes the edge's query parameters to each later event.
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
    /// Handles a WebSocket event.
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
            // The connection becomes active only after this function has returned, so a job opens the session.
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
            // The suite requires an abrupt close, without a close frame.
            Err(_) => {
                self.management
                    .close_saying(connection, codes::BROKEN_FRAMING)
                    .await;
            }
        }
    }

    /// Waits until a new WebSocket is active, then sends the open frame. On the closing mount it then closes the WebSocket.
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
                // API Gateway cannot send a close code on a raw WebSocket, so this works only on the local gateway.
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

/// Returns the only subscriber of a mount.
#[expect(
    clippy::expect_used,
    reason = "the names of the mounts are valid ids, and this binary only runs for the suite"
)]
fn subscriber(domain: &str, mount: &str) -> Subscriber {
    let name = mount.trim_start_matches('/');
    Subscriber {
        domain: Domain::parse(domain).expect("it is an id"),
        id: SubscriberId::parse(if name.is_empty() { "echo" } else { name }).expect("it is an id"),
    }
}

/// Returns the name of the mount in a path.
fn mount(event: &HttpEvent) -> &str {
    event.path().split('/').nth(1).unwrap_or_default()
}

impl App for Mounts {
    async fn token(&self, event: &HttpEvent) -> Result<Option<TokenHash>, Fault> {
        Ok(Some(TokenHash::of(mount(event))))
    }

    async fn identity(&self, event: &HttpEvent) -> Result<Option<Identity>, Fault> {
        Ok(Some(Identity {
            subscriber: subscriber("http", mount(event)),
            token: TokenHash::of(mount(event)),
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
