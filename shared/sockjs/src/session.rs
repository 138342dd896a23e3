//! What becomes of a request for frames: the decisions of an HTTP session. Who stores it, and who waits, is elsewhere.

use alloc::string::String;
use core::time::Duration;

use crate::{frame, transport::Receiver};

/// A session as the request finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing<'a> {
    /// Whether it lives: it has a receiver, or had one a moment ago.
    pub alive: bool,
    /// The code and reason with which it ends, if it does.
    pub closing: Option<(u16, &'a str)>,
}

/// What becomes of a request that is not the session's receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It begins a session.
    Begins,
    /// Somebody else is the receiver, and is left undisturbed: it is told [`codes::ANOTHER`](crate::codes::ANOTHER).
    Busy,
    /// It is told this, the last frame, and no more.
    Ended(String),
}

/// What becomes of a request that could not become the receiver of the session that stands there, if one does.
#[must_use]
pub fn arrival(standing: Option<Standing<'_>>) -> Arrival {
    match standing {
        Some(Standing {
            alive: true,
            closing: Some((code, reason)),
        }) => Arrival::Ended(frame::close(code, reason)),
        Some(Standing { alive: true, .. }) => Arrival::Busy,
        Some(Standing { alive: false, .. }) | None => Arrival::Begins,
    }
}

/// What a receiver writes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Messages that waited.
    Messages {
        /// They in one frame.
        frame: String,
        /// How many of those that wait are in it.
        count: usize,
    },
    /// The last frame of the session.
    Close(String),
    /// Nothing.
    Wait,
}

/// What a receiver writes of `waiting`; what waits goes before the end.
#[must_use]
pub fn next<T: AsRef<str>>(waiting: &[T], closing: Option<(u16, &str)>, limit: usize) -> Next {
    match (waiting, closing) {
        ([], None) => Next::Wait,
        ([], Some((code, reason))) => Next::Close(frame::close(code, reason)),
        _ => {
            let (frame, count) = frame::batch(waiting, limit);
            Next::Messages { frame, count }
        }
    }
}

/// How much a response may still hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    left: usize,
}

impl Allowance {
    /// One frame for a poll, frames until they have `limit` bytes for a stream.
    #[must_use]
    pub const fn new(receiver: &Receiver, limit: usize) -> Self {
        let left = if receiver.is_streaming() { limit } else { 1 };
        Self { left }
    }

    /// So many bytes were written, the transport's around a frame with them; whether the response goes on. The frame that
    /// crosses the limit is whole, and the last.
    pub const fn spend(&mut self, bytes: usize) -> bool {
        self.left = self.left.saturating_sub(bytes);
        self.left > 0
    }
}

/// The shortest pause between two looks at a session that nobody rings for, and the longest.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(2);

/// The pause after so many looks that found nothing: it doubles.
#[must_use]
pub fn pause(looks: u32) -> Duration {
    FIRST_LOOK.saturating_mul(1 << looks.min(10)).min(LAST_LOOK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_second_is_told_and_who_comes_to_nothing_begins() {
        let standing = |alive, closing| Some(Standing { alive, closing });
        for (standing, expected) in [
            (None, Arrival::Begins),
            (standing(false, None), Arrival::Begins),
            (standing(false, Some((3000, "Go away!"))), Arrival::Begins),
            (standing(true, None), Arrival::Busy),
            (
                standing(true, Some((3000, "Go away!"))),
                Arrival::Ended("c[3000,\"Go away!\"]".into()),
            ),
        ] {
            assert_eq!(arrival(standing), expected);
        }
    }

    #[test]
    fn what_waits_goes_at_once_in_order_and_before_the_end() {
        let none: [&str; 0] = [];
        let end = Some((4401, "token-invalidated"));
        assert_eq!(next(&none, None, 100), Next::Wait);
        assert_eq!(
            next(&none, end, 100),
            Next::Close("c[4401,\"token-invalidated\"]".into())
        );
        for closing in [None, end] {
            assert_eq!(
                next(&["a", "b"], closing, 100),
                Next::Messages {
                    frame: "a[\"a\",\"b\"]".into(),
                    count: 2
                }
            );
        }
        assert_eq!(
            next(&["a", "b"], None, 6),
            Next::Messages {
                frame: "a[\"a\"]".into(),
                count: 1
            }
        );
    }

    #[test]
    fn a_poll_ends_after_one_frame_and_a_stream_with_the_frame_that_crosses_its_limit() {
        assert!(!Allowance::new(&Receiver::Xhr, 4_096).spend(2));
        let mut stream = Allowance::new(&Receiver::XhrStreaming, 4_096);
        assert!(stream.spend("o\n".len()));
        let frames = (1..).find(|_| !stream.spend(134)).unwrap();
        assert_eq!(frames, 31);
    }

    #[test]
    fn pauses_grow_to_an_end() {
        let pauses: alloc::vec::Vec<u128> = (0..7).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(pause(u32::MAX), LAST_LOOK);
    }
}
