//! What is printed when everything can serve.

use std::fmt::Write;

use crate::gateway::Urls;

/// The URLs, and lines to paste.
#[must_use]
pub fn text(urls: &Urls) -> String {
    let mut text = String::from("\nReady. Ctrl-C stops everything.\n\n");
    for (name, url) in [
        ("Console page", Some(&urls.edge)),
        ("WebSocket", urls.websocket.as_ref()),
        ("HTTP API", Some(&urls.api)),
        ("WebSocket API's stage", urls.stage.as_ref()),
        ("@connections", urls.management.as_ref()),
        ("DynamoDB", Some(&urls.dynamodb)),
        ("Lambda", Some(&urls.lambda)),
    ] {
        if let Some(url) = url {
            let _ = writeln!(text, "  {name:<22} {url}");
        }
    }
    let _ = writeln!(text, "\nOpen the page at {}/", urls.edge);
    if let Some(websocket) = &urls.websocket {
        let api = &urls.api;
        let _ = write!(
            text,
            r#"or be alice in a terminal:

  TOKEN=$(curl -s -X POST {api}/domains/example/subscribers/alice/tokens | sed 's/.*"token":"\([^"]*\)".*/\1/')
  websocat "{websocket}?access_token=$TOKEN"

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
    fn the_text_has_lines_to_paste() {
        let url = |path: &str| Some(format!("ws://127.0.0.1:8080{path}"));
        let text = text(&Urls {
            edge: "http://127.0.0.1:8080".to_owned(),
            websocket: url("/messaging/websocket"),
            sockjs: None,
            api: "http://127.0.0.1:8080/v1".to_owned(),
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
            "\n  websocat \"ws://127.0.0.1:8080/messaging/websocket?access_token=$TOKEN\"\n"
        ));
        assert!(text.contains("\n  {\"type\":\"hello\",\"id\":\"1\"}\n"));
    }
}
