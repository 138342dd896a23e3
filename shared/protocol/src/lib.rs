//! The protocol: what a client and the service say to each other, and every decision about it.
//!
//! Pure: no clock, no randomness, no IO, never async. Time and fresh ids are arguments. For a client message
//! [`ClientMessage::needs`] says what must be read first; [`decide`](decide()) says, given what was found, what is to
//! be committed and what is to be answered. docs/protocol.md is the users' version of the contract.
#![no_std]

extern crate alloc;

pub mod limits;

pub mod backend;
pub mod change;
pub mod decide;
pub mod digest;
pub mod error;
pub mod event;
pub mod frame;
pub mod id;
pub mod json;
pub mod messages;
pub mod model;
pub mod plan;
pub mod time;

mod rights;

pub use decide::{Context, Decision, Known, Needs, decide};
pub use error::{Code, Rejection};
pub use event::{Event, EventBody, LeaveReason};
pub use frame::ServerMessage;
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
pub use time::Timestamp;
