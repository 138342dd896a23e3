//! The protocol: the messages between clients and the service, and every decision about them.
//!
//! The crate is pure: no clock, no randomness, no IO, no async code. Time and fresh ids are arguments. For a client message,
//! [`ClientMessage::needs`] returns what must be read first. [`ClientMessage::decide`] takes what was read and returns what
//! to commit and what to answer. docs/protocol.md is the users' version of the contract.
#![no_std]

extern crate alloc;

pub mod limits;

pub mod backend;
pub mod change;
pub mod decision;
pub mod digest;
pub mod error;
pub mod event;
pub mod id;
pub mod json;
pub mod messages;
pub mod model;
pub mod page_size;
pub mod plan;
pub mod server_message;
pub mod text;
pub mod time;
pub mod wire_event;

mod rights;

pub use decision::{Context, Decision, Known, Needs};
pub use error::{Code, Rejection};
pub use event::{Event, EventBody, LeaveReason};
pub use id::{
    ChannelId, ChannelKey, ConnectionId, ConnectionKey, Destination, Domain, LogId, MessageId,
    RequestId, Subscriber, SubscriberId,
};
pub use json::Json;
pub use messages::{ClientMessage, Decoded, decode};
pub use model::{
    Announcement, Availability, ChannelSubscriber, Conversation, DeliveryStatus, Membership,
    ReadCursors,
};
pub use server_message::ServerMessage;
pub use time::Timestamp;
