//! SockJS over HTTP behind a streaming function URL. It serves every transport except WebSockets, for any [`App`] that
//! handles the messages.
//!
//! Sessions are stored, so each request of a session may reach another instance. A request for frames becomes the session's
//! receiver while its response lasts. The receiver removes the messages that it has written. It releases the session before
//! the response ends, so that the client's next request finds it free.

mod app;
mod attachment;
mod bell;
mod output;
mod receive;
mod send;
mod serve;
mod settings;
mod stream;

pub use app::{App, Opened};
pub use output::{Answer, Body};
pub use serve::Transports;
pub use settings::{Settings, Site};
