//! The pure decisions of an HTTP session about a request for frames. Callers store the session and wait.

use alloc::string::String;
use core::time::Duration;

use crate::{frame, transport::Receiver};

/// The state of a session when a request arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing<'a> {
    /// True if the session has a receiver, or had one a moment ago.
    pub alive: bool,
    /// The code and reason with which the session ends, if it is ending.
    pub closing: Option<(u16, &'a str)>,
}

/// The outcome of a request that is not the receiver of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The request begins a session.
    Begins,
    /// Another request is the receiver and stays it. This request is answered with
    /// [`codes::ANOTHER`](crate::codes::ANOTHER).
    Busy,
    /// The request is answered with this last frame only.
    Ended(String),
}

/// Returns the outcome of a request that could not become the receiver of the stored session, if there is one.
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

/// The next output of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame with the first `count` waiting messages.
    Messages { frame: String, count: usize },
    /// The last frame of the session.
    Close(String),
    /// Nothing to write yet.
    Wait,
}

/// Returns the next output of a receiver. Waiting messages are written before the last frame.
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

/// The number of bytes that a response may still contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    left: usize,
}

impl Allowance {
    /// Returns the allowance of a new response: one frame for a poll, frames up to `limit` bytes for a stream.
    #[must_use]
    pub const fn new(receiver: &Receiver, limit: usize) -> Self {
        let left = if receiver.is_streaming() { limit } else { 1 };
        Self { left }
    }

    /// Subtracts the written bytes, including those that the transport puts around a frame. Returns true if the response
    /// continues.
    ///
    /// The frame that crosses the limit is sent whole. It is the last one.
    pub const fn spend(&mut self, bytes: usize) -> bool {
        self.left = self.left.saturating_sub(bytes);
        self.left > 0
    }
}

/// The shortest and the longest pause between two reads of a session without a doorbell.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(2);

/// Returns the pause after `looks` reads that found nothing. It doubles each time, up to the longest pause.
#[must_use]
pub fn pause(looks: u32) -> Duration {
    FIRST_LOOK.saturating_mul(1 << looks.min(10)).min(LAST_LOOK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_request_finds_receiver_busy() {
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
    fn waiting_messages_precede_close_frame() {
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
    fn responses_end_at_their_allowance() {
        assert!(!Allowance::new(&Receiver::Xhr, 4_096).spend(2));
        let mut stream = Allowance::new(&Receiver::XhrStreaming, 4_096);
        assert!(stream.spend("o\n".len()));
        let frames = (1..).find(|_| !stream.spend(134)).unwrap();
        assert_eq!(frames, 31);
    }

    #[test]
    fn pauses_double_up_to_maximum() {
        let pauses: alloc::vec::Vec<u128> = (0..7).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(pause(u32::MAX), LAST_LOOK);
    }
}
