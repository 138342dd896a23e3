//! A session that a request holds, and for how long.

use core::time::Duration;

use service::ports::{Session, SessionId};

/// The duration of a receiver's lease. A receiver that died blocks others for this long.
pub(crate) const LEASE: Duration = Duration::from_secs(20);

/// A session whose lease the request holds.
pub(crate) struct Attachment {
    pub(crate) id: SessionId,
    pub(crate) holder: String,
    pub(crate) session: Session,
    /// True if the session is new. Its client then gets the open frame first.
    pub(crate) begins: bool,
}
