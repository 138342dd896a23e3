//! A log's slots and entries: appending messages, changing channels, reading pages.

pub(crate) mod append;
pub(crate) mod change;
pub(crate) mod history;
pub(crate) mod lease;
pub(crate) mod slots;
