//! The stacks under comparison. Clients connect to a stack, and it forwards each client's messages to the others.

mod node;
mod ours;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::floor::Floor;
use crate::process::Process;
use crate::socket::Socket;

pub(crate) use node::Peers;
pub(crate) use ours::{Ours, binaries};

/// Concurrent handshakes while a room fills.
const JOINING: usize = 8;
/// The text of a message after its number.
const FILLING: &str =
    "What is said here is about as long as what people say in a chat, a hundred characters or so.";

/// A running stack.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) name: &'static str,
    pub(crate) process: Process,
    /// Processes that it depends on, such as its database.
    beside: Vec<Process>,
    dialect: Dialect,
}

#[derive(Debug)]
enum Dialect {
    Messaging(Box<Ours>),
    /// Messages are plain texts.
    Plain {
        url: String,
    },
    /// An emulator of API Gateway with the sample chat behind it.
    Chat {
        url: String,
    },
    SocketIo {
        url: String,
    },
}

/// Connections that receive each other's messages.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) senders: Vec<Socket>,
    pub(crate) receivers: Vec<Socket>,
    channel: String,
    domain: String,
}

impl Stack {
    /// Messaging on its local gateway.
    pub(crate) async fn ours() -> Result<Self> {
        Self::ours_with("messaging", &[]).await
    }

    /// The same, with function processes that run 16 invocations concurrently.
    pub(crate) async fn ours_at_once() -> Result<Self> {
        Self::ours_with("messaging, 16 at once", &["--concurrency", "16"]).await
    }

    async fn ours_with(name: &'static str, arguments: &[&str]) -> Result<Self> {
        let (process, ours) = Ours::start(arguments).await?;
        let dialect = Dialect::Messaging(Box::new(ours));
        Ok(Self::new(name, process, dialect))
    }

    /// The floor without a database.
    pub(crate) fn thin() -> Result<Self> {
        let (process, address) = Floor::Gateway.start()?;
        let url = format!("ws://{address}/");
        Ok(Self::new("thin", process, Dialect::Plain { url }))
    }

    /// The floor without functions.
    pub(crate) fn echo() -> Result<Self> {
        let (process, address) = Floor::Echo.start()?;
        let url = format!("ws://{address}/");
        Ok(Self::new("echo", process, Dialect::Plain { url }))
    }

    fn new(name: &'static str, process: Process, dialect: Dialect) -> Self {
        Self {
            name,
            process,
            beside: Vec::new(),
            dialect,
        }
    }

    /// CPU microseconds of all its processes.
    pub(crate) fn cpu(&self) -> f64 {
        self.process.cpu() + self.beside.iter().map(Process::cpu).sum::<f64>()
    }

    /// Opens a new room. Only Messaging has several rooms: on other stacks the connections of an earlier room must be closed first.
    pub(crate) async fn room(&self, senders: usize, receivers: usize) -> Result<Room> {
        let mut room = Room {
            senders: Vec::new(),
            receivers: Vec::new(),
            channel: "room".to_owned(),
            domain: String::new(),
        };
        if let Dialect::Messaging(ours) = &self.dialect {
            room.domain = ours.fresh_domain();
            ours.found(&room.domain, &room.channel, senders + receivers)
                .await?;
        }
        let domain = &room.domain;
        let mut sockets: Vec<Socket> = stream::iter(0..senders + receivers)
            .map(|who| self.connect(domain, who))
            .buffered(JOINING)
            .try_collect()
            .await?;
        room.receivers = sockets.split_off(senders);
        room.senders = sockets;
        Ok(room)
    }

    /// Opens idle connections. On Messaging each subscriber has ten of them.
    pub(crate) async fn strangers(&self, count: usize) -> Result<Vec<Socket>> {
        let mut tokens = vec![String::new(); count];
        if let Dialect::Messaging(ours) = &self.dialect {
            let subscribers = count.div_ceil(10);
            let few = ours.tokens(&ours.fresh_domain(), subscribers).await?;
            tokens = few.iter().cycle().take(count).cloned().collect();
        }
        stream::iter(tokens)
            .map(|token| async move {
                match &self.dialect {
                    Dialect::Messaging(ours) => ours.connect_with(&token).await,
                    _ => self.connect("", 0).await,
                }
            })
            .buffered(JOINING)
            .try_collect()
            .await
    }

    /// Opens a connection and waits until it is active.
    pub(crate) async fn connect(&self, domain: &str, who: usize) -> Result<Socket> {
        match &self.dialect {
            Dialect::Messaging(ours) => {
                let mut socket = ours.connect(domain, &format!("s{who}")).await?;
                // Pushes to a connection that is not active yet would be parked.
                socket.send(r#"{"type":"ping","id":"up"}"#).await?;
                socket.next_with(r#""reply-to":"up""#).await?;
                Ok(socket)
            }
            Dialect::Plain { url } => Socket::open(url, &[]).await,
            Dialect::Chat { url } => Socket::open(url, &[("x-token", "t".to_owned())]).await,
            Dialect::SocketIo { url } => {
                let mut socket = Socket::open(url, &[]).await?;
                socket.next_with("sid").await?;
                socket.send("40").await?;
                socket.next_with("40").await?;
                Ok(socket)
            }
        }
    }

    /// Returns the text that sends message `number` to the room.
    pub(crate) fn message(&self, room: &Room, number: u64) -> String {
        let text = format!("@{number}@ {FILLING}");
        match &self.dialect {
            Dialect::Messaging(_) => {
                json!({"type": "channel-message", "id": number.to_string(), "channel-id": room.channel, "content": text})
                    .to_string()
            }
            Dialect::Plain { .. } => text,
            Dialect::Chat { .. } => json!({ "action": "sendmessage", "data": text }).to_string(),
            Dialect::SocketIo { .. } => format!("42{}", json!(["message", text])),
        }
    }

    /// Returns a text and the mark that its answer contains.
    pub(crate) fn ping(&self) -> (String, &'static str) {
        let text = match &self.dialect {
            Dialect::Messaging(_) => {
                return (r#"{"type":"ping","id":"p"}"#.to_owned(), r#""type":"ack""#);
            }
            Dialect::Plain { .. } => "ping @0@".to_owned(),
            Dialect::Chat { .. } => json!({ "action": "ping", "data": "@0@" }).to_string(),
            Dialect::SocketIo { .. } => format!("42{}", json!(["ask", "@0@"])),
        };
        (text, "@0@")
    }

    /// Returns Messaging's local gateway. Returns `None` for other stacks.
    pub(crate) fn as_ours(&self) -> Option<&Ours> {
        match &self.dialect {
            Dialect::Messaging(ours) => Some(ours),
            _ => None,
        }
    }

    /// Returns a push's position in the order: the log's sequence if there is a log, else the sender's number.
    pub(crate) fn order(&self, push: &Utf8Bytes, number: u64) -> u64 {
        match &self.dialect {
            Dialect::Messaging(_) => after(push, r#""sequence":"#).unwrap_or(0),
            _ => number,
        }
    }
}

/// Returns the number of the message that a push carries.
pub(crate) fn number(push: &str) -> Option<u64> {
    after(push, "@")
}

/// Returns the number that follows `mark`.
pub(crate) fn after(text: &str, mark: &str) -> Option<u64> {
    let (_, rest) = text.split_once(mark)?;
    let end = rest.find(|it: char| !it.is_ascii_digit());
    rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
}

/// Returns a text field of a JSON value. Fails if it is missing.
fn text_of(value: &Value, name: &str) -> Result<String> {
    let text = value.get(name).and_then(Value::as_str);
    let text = text.ok_or_else(|| anyhow::anyhow!("no {name} in {value}"))?;
    Ok(text.to_owned())
}
