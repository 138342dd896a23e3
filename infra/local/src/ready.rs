//! The URLs of a ready gateway: the printed text and the ready file.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde::Serialize;

use crate::template::{Template, is_under_v1};

/// The URLs of all parts, and the content of the ready file.
#[derive(Clone, Debug, Serialize)]
pub struct Urls {
    /// The public port.
    pub edge: String,
    /// The raw WebSocket through the public port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub websocket: Option<String>,
    /// The base URL for SockJS clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockjs: Option<String>,
    /// The HTTP API, if the template has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// The WebSocket API's own URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The endpoint of `@connections`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management: Option<String>,
    pub dynamodb: String,
    /// Lambda's Invoke API.
    pub lambda: String,
}

impl Urls {
    /// Returns the URLs of a gateway that listens at these addresses. `websocket` and `sockjs` are the paths of the raw
    /// WebSocket and of SockJS on the public port, if it has them.
    #[must_use]
    pub fn new(
        edge: SocketAddr,
        stage: SocketAddr,
        template: &Template,
        websocket: Option<&str>,
        sockjs: Option<&str>,
        dynamodb: String,
        lambda: String,
    ) -> Self {
        // A listener on all addresses is reached on loopback.
        let edge = if edge.ip().is_unspecified() {
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), edge.port())
        } else {
            edge
        };
        let api = template.web_socket.as_ref();
        Self {
            edge: format!("http://{edge}"),
            websocket: websocket.map(|path| format!("ws://{edge}{path}")),
            sockjs: sockjs.map(|path| format!("http://{edge}{path}")),
            api: api_path(template).map(|path| format!("http://{edge}{path}")),
            stage: api.map(|api| format!("ws://{stage}/{}", api.stage)),
            management: api.map(|api| format!("http://{stage}/{}", api.stage)),
            dynamodb,
            lambda,
        }
    }

    /// Writes the URLs as JSON. The file appears atomically, so a waiting reader never sees a part of it.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder(path))?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        file.persist(path)?;
        Ok(())
    }
}

/// Returns the path prefix of all routes of HTTP APIs, or `None` without routes.
fn api_path(template: &Template) -> Option<&'static str> {
    let mut routes = template.http_routes.iter();
    let all_under_v1 = routes.all(|route| is_under_v1(&route.path));
    let path = if all_under_v1 { "/v1" } else { "" };
    (!template.http_routes.is_empty()).then_some(path)
}

/// Returns the folder of a file.
pub(crate) fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Returns the text to print: the URLs, and commands to paste.
#[must_use]
pub fn text(urls: &Urls) -> String {
    let mut text = String::from("\nReady. Ctrl-C stops everything.\n\n");
    for (name, url) in [
        ("Console page", Some(&urls.edge)),
        ("WebSocket", urls.websocket.as_ref()),
        ("SockJS", urls.sockjs.as_ref()),
        ("HTTP API", urls.api.as_ref()),
        ("WebSocket API's stage", urls.stage.as_ref()),
        ("@connections", urls.management.as_ref()),
        ("DynamoDB", Some(&urls.dynamodb)),
        ("Lambda", Some(&urls.lambda)),
    ] {
        if let Some(url) = url {
            let _ = writeln!(text, "  {name:<22} {url}");
        }
    }
    if let (Some(websocket), Some(api)) = (&urls.websocket, &urls.api) {
        let _ = writeln!(text, "\nOpen the page at {}/", urls.edge);
        let _ = write!(
            text,
            r#"or be alice in a terminal:

  TOKEN=$(curl -s -X POST {api}/domains/example/subscribers/alice/tokens | sed 's/.*"token":"\([^"]*\)".*/\1/')
  npx --yes wscat --connect "{websocket}?access_token=$TOKEN"

and type, for example:

  {{"type":"hello","id":"1"}}

"#
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_commands_to_paste() {
        let url = |path: &str| Some(format!("ws://127.0.0.1:8080{path}"));
        let text = text(&Urls {
            edge: "http://127.0.0.1:8080".to_owned(),
            websocket: url("/messaging/websocket"),
            sockjs: url("/messaging"),
            api: Some("http://127.0.0.1:8080/v1".to_owned()),
            stage: None,
            management: None,
            dynamodb: "http://127.0.0.1:8083".to_owned(),
            lambda: "http://127.0.0.1:8082".to_owned(),
        });
        assert!(text.contains("Open the page at http://127.0.0.1:8080/\n"));
        assert!(text.contains(
            "curl -s -X POST http://127.0.0.1:8080/v1/domains/example/subscribers/alice/tokens | sed"
        ));
        assert!(text.contains(
            "\n  npx --yes wscat --connect \"ws://127.0.0.1:8080/messaging/websocket?access_token=$TOKEN\"\n"
        ));
        assert!(text.contains("\n  {\"type\":\"hello\",\"id\":\"1\"}\n"));
    }
}
