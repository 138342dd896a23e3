//! One client message, from the frame to the `ack`.

pub(crate) mod admit;
mod answer;
mod authorize;
pub(crate) mod handle;
pub(crate) mod load;
mod resume;
