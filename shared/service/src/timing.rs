//! The durations that several parts have to agree on.

use core::time::Duration;

/// The longest time that one post takes, as [`Pushes`](crate::ports::Pushes) guarantees. A lease or a gate must hold at least
/// this much longer when a post begins.
pub(crate) const POST: Duration = Duration::from_secs(2);
/// How long a gate holds.
pub(crate) const GATE: Duration = Duration::from_secs(5);
/// How long a registered connection may take to become active. Pushes to it are parked for that long.
pub(crate) const ACTIVATION: Duration = Duration::from_secs(35);
/// How long a lease holds.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// How much of a lease must be left when a post begins.
pub(crate) const LEASE_LEFT: Duration = Duration::from_secs(3);
/// How long after its end a lease is taken over. The clocks of two functions may differ by this much.
pub(crate) const LEASE_GRACE: Duration = Duration::from_secs(1);
/// How long readers wait for the event of an allocated slot.
pub(crate) const GAP: Duration = Duration::from_secs(1);
/// The pause before a reader looks at a gap again.
pub(crate) const GAP_LOOK: Duration = Duration::from_millis(20);
/// How long a handler pushes a log's events before it hands the rest to the worker. The client has its answer by then, but
/// the function's next client waits.
pub(crate) const HANDLER_PATIENCE: Duration = Duration::from_secs(3);
