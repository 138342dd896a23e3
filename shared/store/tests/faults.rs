//! Faults and retries when DynamoDB fails, tested over a server with scripted replies.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failing test may panic"
)]

use core::time::Duration;
use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use protocol::{
    ChannelId, ChannelKey, ConnectionId, Domain, LogId, Subscriber, SubscriberId, Timestamp,
    change::Change,
};
use service::ports::{
    AllocateError, Allocation, Channels as _, Connections as _, Fault, Lease, Logs as _,
};
use signing::SigningClient;
use store::{DynamoStore, Tables};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use trust::Trust;

/// Makes a test fail instead of hanging.
const DEADLINE: Duration = Duration::from_secs(30);

/// The server's reaction to one request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reply {
    /// Responds with this status and body.
    With(u16, &'static str),
    /// Closes the connection.
    Close,
    /// Does not respond.
    Nothing,
}

const HEAD: &str = r#"{"Item":{"state":{"S":"active"},"sequence":{"N":"7"},"sent":{"N":"7"},"allocated-at":{"N":"0"}}}"#;
const NO_HEAD: &str = r#"{"Item":{"state":{"S":"the content"},"sequence":{"N":"7"}}}"#;
const BROKEN: Reply = Reply::With(500, r#"{"__type":"x#InternalServerError"}"#);
const THROTTLED: Reply = Reply::With(
    400,
    r#"{"__type":"x#ProvisionedThroughputExceededException"}"#,
);
const INVALID: Reply = Reply::With(400, r#"{"__type":"x#ValidationException"}"#);
const NONSENSE: Reply = Reply::With(200, "{\"Item\":");
const PROXY: Reply = Reply::With(502, "<html>");
const IN_THE_WAY: Reply = Reply::With(400, r#"{"__type":"x#TransactionConflictException"}"#);
const FAILED: Reply = Reply::With(400, r#"{"__type":"x#ConditionalCheckFailedException"}"#);
const TRANSACTION_IN_THE_WAY: Reply = Reply::With(
    400,
    r#"{"__type":"x#TransactionCanceledException","CancellationReasons":[{"Code":"TransactionConflict"}]}"#,
);
const TRANSACTION_THROTTLED: Reply = Reply::With(
    400,
    r#"{"__type":"x#TransactionCanceledException","CancellationReasons":[{"Code":"ThrottlingError"}]}"#,
);

const TRANSACTION_TOO_LARGE: Reply = Reply::With(
    400,
    r#"{"__type":"x#TransactionCanceledException","CancellationReasons":[{"Code":"ValidationError"}]}"#,
);

/// A server that plays its script, one reply per request. After the end of the script it repeats the last reply.
struct Server {
    store: DynamoStore,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(script: &'static [Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = store_at("http", listener.local_addr().unwrap().port());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, script, Arc::clone(&seen)));
            }
        });
        Self { store, requests }
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

async fn serve(mut connection: TcpStream, script: &'static [Reply], seen: Arc<Mutex<Vec<String>>>) {
    while let Some(request) = request(&mut connection).await {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request);
            seen.len()
        };
        match script[(number - 1).min(script.len() - 1)] {
            Reply::With(status, body) => {
                let answer = format!(
                    "HTTP/1.1 {status} x\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                if connection.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Reply::Close => return,
            Reply::Nothing => {}
        }
    }
}

/// Reads one whole request. Returns `None` at the end of the connection.
async fn request(connection: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((headers, body)) = text.split_once("\r\n\r\n") {
            let length = headers.split("content-length: ").nth(1)?;
            let length: usize = length.lines().next()?.parse().ok()?;
            if body.len() >= length {
                return Some(text);
            }
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn store_at(scheme: &str, port: u16) -> DynamoStore {
    let credentials = Credentials::new("test", "test", None, None, "test");
    let endpoint = format!("{scheme}://127.0.0.1:{port}");
    let client = SigningClient::new(credentials, "us-east-1".to_owned(), Trust::of(&endpoint));
    let tables = Tables {
        tokens: "Tokens".to_owned(),
        subscribers: "Subscribers".to_owned(),
        channels: "Channels".to_owned(),
        events: "Events".to_owned(),
        sessions: "Sessions".to_owned(),
    };
    DynamoStore::new(client.unwrap(), endpoint, tables)
}

fn channel() -> ChannelKey {
    ChannelKey {
        domain: Domain::parse("d").unwrap(),
        id: ChannelId::parse("c").unwrap(),
    }
}

fn log() -> LogId {
    channel().log()
}

async fn allocate(store: &DynamoStore) -> Fault {
    let at = Timestamp::from_millis(0);
    let allocation = Allocation {
        count: 1,
        at,
        lease: Lease {
            holder: "h".to_owned(),
            until: at,
        },
        close: false,
        removal: false,
    };
    let log = log();
    let allocated = store.allocate(&log, &allocation);
    match tokio::time::timeout(DEADLINE, allocated).await.unwrap() {
        Err(AllocateError::Fault(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

fn empty_change() -> Change {
    Change {
        channel: channel(),
        at: Timestamp::from_millis(0),
        entries: Vec::new(),
        head: Some(1),
        roster: None,
        profile: None,
        rows: Vec::new(),
    }
}

#[tokio::test]
async fn allocation_of_unknown_outcome_not_repeated() {
    for reply in [&[BROKEN], &[NONSENSE], &[Reply::Close], &[Reply::Nothing]] {
        let server = Server::start(reply).await;
        let fault = allocate(&server.store).await;
        assert!(matches!(fault, Fault::Unknown(_)), "{fault:?}");
        assert_eq!(server.requests(), 1);
    }
}

#[tokio::test]
async fn throttled_or_unsent_request_is_refused() {
    let server = Server::start(&[THROTTLED]).await;
    let fault = allocate(&server.store).await;
    assert!(matches!(fault, Fault::Refused(_)), "{fault:?}");
    assert_eq!(server.requests(), 3);

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    for scheme in ["http", "https"] {
        let fault = allocate(&store_at(scheme, port)).await;
        assert!(matches!(fault, Fault::Refused(_)), "{scheme}: {fault:?}");
    }
}

#[tokio::test]
async fn only_throttled_unsafe_write_is_repeated() {
    let server = Server::start(&[THROTTLED, THROTTLED, Reply::With(200, "{}")]).await;
    assert!(server.store.release(&log(), "h", 1).await.unwrap());
    assert_eq!(server.requests(), 3);

    let server = Server::start(&[THROTTLED, Reply::Close, Reply::With(200, "{}")]).await;
    let fault = server.store.release(&log(), "h", 1).await.unwrap_err();
    assert!(matches!(fault, Fault::Unknown(_)), "{fault:?}");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn unknown_outcome_survives_later_refusal() {
    for script in [&[Reply::Close, THROTTLED], &[BROKEN, INVALID]] {
        let server = Server::start(script).await;
        let fault = server.store.change(&empty_change()).await.unwrap_err();
        assert!(matches!(fault, Fault::Unknown(_)), "{fault:?}");
    }
    // Both attempts have the same token, so a cancellation of the second is the outcome of the first too.
    let server = Server::start(&[Reply::Close, TRANSACTION_THROTTLED]).await;
    let fault = server.store.change(&empty_change()).await.unwrap_err();
    assert!(matches!(fault, Fault::Refused(_)), "{fault:?}");
}

#[tokio::test]
async fn oversized_item_is_not_retried() {
    let server = Server::start(&[TRANSACTION_TOO_LARGE]).await;
    let fault = server.store.change(&empty_change()).await.unwrap_err();
    assert!(matches!(fault, Fault::Corrupt(_)), "{fault:?}");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn failed_read_is_retried() {
    let server = Server::start(&[BROKEN, THROTTLED, Reply::With(200, HEAD)]).await;
    let head = server.store.head(&log()).await.unwrap().unwrap();
    assert_eq!(head.sequence, 7);
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn read_retries_depend_on_error() {
    for (script, requests) in [
        (&[BROKEN], 3),
        (&[THROTTLED], 3),
        (&[PROXY], 3),
        (&[NONSENSE], 3),
        (&[Reply::Close], 3),
        (&[INVALID], 1),
    ] {
        let server = Server::start(script).await;
        let fault = server.store.head(&log()).await.unwrap_err();
        let means = match script {
            [THROTTLED] => matches!(fault, Fault::Refused(_)),
            [INVALID] => matches!(fault, Fault::Corrupt(_)),
            _ => matches!(fault, Fault::Unknown(_)),
        };
        assert!(means, "{fault:?} after {requests}");
        assert_eq!(server.requests(), requests, "{fault:?}");
    }
}

#[tokio::test]
async fn write_waits_for_conflicting_transaction() {
    let script = &[IN_THE_WAY, IN_THE_WAY, Reply::With(200, "{}")];
    let server = Server::start(script).await;
    assert!(server.store.settle(&log()).await.unwrap());
    assert_eq!(server.requests(), 3);

    let server = Server::start(&[IN_THE_WAY]).await;
    let fault = allocate(&server.store).await;
    assert!(matches!(fault, Fault::Conflict), "{fault:?}");
}

#[tokio::test]
async fn transaction_retries_conflicts_then_fails() {
    let script = &[TRANSACTION_IN_THE_WAY, Reply::With(200, "{}")];
    let server = Server::start(script).await;
    server.store.change(&empty_change()).await.unwrap();
    assert_eq!(server.requests(), 2);

    let server = Server::start(&[TRANSACTION_IN_THE_WAY]).await;
    let fault = server.store.change(&empty_change()).await.unwrap_err();
    assert!(matches!(fault, Fault::Conflict), "{fault:?}");

    let server = Server::start(&[TRANSACTION_THROTTLED]).await;
    let fault = server.store.change(&empty_change()).await.unwrap_err();
    assert!(matches!(fault, Fault::Refused(_)), "{fault:?}");
}

#[tokio::test]
async fn repeated_transaction_keeps_its_token() {
    let server = Server::start(&[BROKEN, Reply::With(200, "{}")]).await;
    server.store.change(&empty_change()).await.unwrap();
    let requests = server.requests.lock().unwrap();
    let token = |request: &String| {
        let (_, rest) = request.split_once("\"clientrequesttoken\":\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    assert_eq!(token(&requests[0]), token(&requests[1]));
}

#[tokio::test]
async fn unreadable_item_is_not_quoted() {
    let server = Server::start(&[Reply::With(200, NO_HEAD)]).await;
    let fault = server.store.head(&log()).await.unwrap_err();
    let Fault::Corrupt(what) = fault else {
        panic!("{fault:?}");
    };
    assert_eq!(what, "a head");
}

#[tokio::test]
async fn gate_of_missing_connection_is_gone() {
    let server = Server::start(&[FAILED]).await;
    let subscriber = Subscriber {
        domain: Domain::parse("d").unwrap(),
        id: SubscriberId::parse("a").unwrap(),
    };
    let id = ConnectionId("c".to_owned());
    let at = Timestamp::from_millis(0);
    let raised = server
        .store
        .raise_gate(&subscriber.connection(id.clone()), "g", at)
        .await;
    assert!(raised.unwrap().is_err());
    let lowered = server
        .store
        .lower_gate(&subscriber.connection(id.clone()), "g", None)
        .await;
    assert!(
        lowered.unwrap(),
        "the gate of a missing connection is lowered"
    );
    assert_eq!(server.requests(), 2);
}

/// The store uses the SDK's serializers by an interface that is only semi-public. If an update changes what is sent, this fails.
#[tokio::test]
async fn sdk_update_keeps_request_bytes() {
    let server = Server::start(&[Reply::With(200, HEAD)]).await;
    server.store.head(&log()).await.unwrap();
    let requests = server.requests.lock().unwrap();
    let (headers, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(headers.starts_with("post / http/1.1\r\n"), "{headers}");
    for header in [
        "content-type: application/x-amz-json-1.0",
        "x-amz-target: dynamodb_20120810.getitem",
        "authorization: aws4-hmac-sha256 credential=test/",
    ] {
        assert!(headers.contains(header), "{headers}");
    }
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let mut fields: Vec<&String> = body.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, ["consistentread", "key", "tablename"]);
    assert_eq!(body["tablename"], "channels");
    assert_eq!(body["consistentread"], true);
}
