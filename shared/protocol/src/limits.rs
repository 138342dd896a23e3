//! Every limit of the protocol, in one table. `welcome` sends [`Limits`] to the client.

use serde::Serialize;

/// Bytes of a client message. This is API Gateway's limit for a frame
/// (docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html, 2026-08).
pub const CLIENT_MESSAGE_BYTES: usize = 32 * 1024;
/// Bytes of a server message, SockJS-framed and escaped. API Gateway's own limit is 128 KiB (same page).
pub const SERVER_MESSAGE_BYTES: usize = 120 * 1024;
/// Bytes of `content`, as raw JSON.
pub const CONTENT_BYTES: usize = 16 * 1024;
/// Bytes of `attributes`, as raw JSON.
pub const ATTRIBUTES_BYTES: usize = 4 * 1024;
/// Characters of `status` in an announcement.
pub const STATUS_CHARACTERS: usize = 256;
/// Characters of a channel's name.
pub const NAME_CHARACTERS: usize = 128;
/// Characters of every id and every invite token.
pub const ID_CHARACTERS: usize = 128;
/// Bytes of a client message's `id`. A longer `id` makes the message malformed.
pub const REQUEST_ID_BYTES: usize = 12 * 1024;
/// Nesting levels of a client message. Deeper nesting makes it malformed.
pub const NESTING: usize = 64;
/// Characters of a number in JSON that is kept. Python refuses integers of more than 4,300 digits.
pub const NUMBER_CHARACTERS: usize = 400;
/// The maximum number of items in a page.
pub const PAGE: usize = 100;
/// Items in a page if the client gives no `limit`.
pub const PAGE_DEFAULT: usize = 50;
/// Positions in one `resume`.
pub const POSITIONS: usize = 100;
/// Channels that one subscriber can be a member of.
pub const CHANNELS_PER_SUBSCRIBER: usize = 1_000;
/// Open connections of one subscriber. One more replaces the oldest.
pub const CONNECTIONS_PER_SUBSCRIBER: usize = 20;
/// Members of one channel.
pub const MEMBERS_PER_CHANNEL: u64 = 100_000;
/// Members up to which a channel publishes its members' presence to each other.
pub const PRESENCE_MEMBERS: u64 = 100;
/// Days for which events are retained.
pub const HISTORY_DAYS: i64 = 30;
/// The maximum age of a connection in seconds. This is API Gateway's limit.
pub const CONNECTION_SECONDS: i64 = 2 * 60 * 60;
/// The idle timeout of a connection in seconds. This is API Gateway's limit.
pub const IDLE_SECONDS: i64 = 10 * 60;
/// The greatest sequence. Every JSON implementation represents numbers up to it exactly.
pub const SEQUENCE: u64 = (1 << 53) - 1;

/// The limits as sent in `welcome`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    client_message_bytes: usize,
    server_message_bytes: usize,
    content_bytes: usize,
    attributes_bytes: usize,
    status_characters: usize,
    name_characters: usize,
    id_characters: usize,
    page: usize,
    positions: usize,
    channels_per_subscriber: usize,
    connections_per_subscriber: usize,
    members_per_channel: u64,
    presence_members: u64,
    history_days: i64,
    connection_seconds: i64,
    idle_seconds: i64,
}

/// The values of all limits that clients need to know.
pub const LIMITS: Limits = Limits {
    client_message_bytes: CLIENT_MESSAGE_BYTES,
    server_message_bytes: SERVER_MESSAGE_BYTES,
    content_bytes: CONTENT_BYTES,
    attributes_bytes: ATTRIBUTES_BYTES,
    status_characters: STATUS_CHARACTERS,
    name_characters: NAME_CHARACTERS,
    id_characters: ID_CHARACTERS,
    page: PAGE,
    positions: POSITIONS,
    channels_per_subscriber: CHANNELS_PER_SUBSCRIBER,
    connections_per_subscriber: CONNECTIONS_PER_SUBSCRIBER,
    members_per_channel: MEMBERS_PER_CHANNEL,
    presence_members: PRESENCE_MEMBERS,
    history_days: HISTORY_DAYS,
    connection_seconds: CONNECTION_SECONDS,
    idle_seconds: IDLE_SECONDS,
};
