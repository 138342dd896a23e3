//! SockJS over HTTP behind a streaming function URL: every transport but WebSockets, for whatever answers the messages.
//!
//! A session is stored, so each request may meet another instance. A request for frames becomes the session's receiver for
//! as long as its response lasts; what it has written it removes, and it gives the session up before the response ends,
//! so that the client's next request finds it free.

mod app;
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
pub use settings::{Settings, SettingsError, Site};
