//! The write that removes a connection's announcement.

use protocol::ConnectionKey;

use crate::{
    keys::Key,
    write::{Write, number},
};

/// Returns the write that removes a connection's announcement. It is part of the transaction that removes the connection.
pub(crate) fn removal(key: &ConnectionKey) -> Write {
    Write::update(
        Key::presence(&key.subscriber),
        "REMOVE #announcements.#id ADD #version :one",
    )
    .when("attribute_exists(#announcements.#id)")
    .name("#id", key.id.as_str())
    .value(":one", number(1))
}
