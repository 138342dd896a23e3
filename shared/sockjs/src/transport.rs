//! How each HTTP transport wraps a frame, and what it reads from a request.

use alloc::{borrow::Cow, format, string::String};

use crate::{
    frame,
    headers::{EVENT_STREAM, HTML, JAVASCRIPT},
};

/// An HTTP transport from the server to the client. A WebSocket needs none, because it does not wrap frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// One frame per response.
    Xhr,
    /// Many frames in one response.
    XhrStreaming,
    /// Server-sent events.
    Eventsource,
    /// Script elements in an endless page.
    Htmlfile(Callback),
    /// One frame as a script.
    Jsonp(Callback),
}

impl Receiver {
    /// Returns true if the response continues after the first frame.
    #[must_use]
    pub const fn is_streaming(&self) -> bool {
        !matches!(self, Self::Xhr | Self::Jsonp(_))
    }

    /// Returns the `Content-Type` of the response.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        match self {
            Self::Xhr | Self::XhrStreaming | Self::Jsonp(_) => JAVASCRIPT,
            Self::Eventsource => EVENT_STREAM,
            Self::Htmlfile(_) => HTML,
        }
    }

    /// Returns the text before the first frame, if there is one. It is a separate chunk and does not count towards the
    /// response's limit.
    #[must_use]
    pub fn prelude(&self) -> Option<String> {
        match self {
            Self::Xhr | Self::Jsonp(_) => None,
            // Some browsers deliver no part of a response before they have its first 2 KiB.
            Self::XhrStreaming => Some("h".repeat(2048) + "\n"),
            Self::Eventsource => Some("\r\n".into()),
            Self::Htmlfile(callback) => Some(htmlfile_prelude(callback)),
        }
    }

    /// Returns the frame as the response contains it.
    #[must_use]
    pub fn wrap(&self, frame: &str) -> String {
        match self {
            Self::Xhr | Self::XhrStreaming => format!("{frame}\n"),
            Self::Eventsource => format!("data: {}\r\n\r\n", event_data(frame)),
            Self::Htmlfile(_) => format!("<script>\np({});\n</script>\r\n", in_script(frame)),
            Self::Jsonp(Callback(name)) => format!("/**/{name}({});\r\n", frame::string(frame)),
        }
    }
}

/// Escapes a frame for server-sent events. The client decodes percent escapes, and a line break would end the event.
fn event_data(frame: &str) -> String {
    let mut out = String::with_capacity(frame.len());
    for character in frame.chars() {
        match character {
            '%' => out.push_str("%25"),
            '\r' => out.push_str("%0D"),
            '\n' => out.push_str("%0A"),
            '\0' => out.push_str("%00"),
            other => out.push(other),
        }
    }
    out
}

/// Returns the frame as a string in a script of a page. It escapes `<`, so that no message can end the script.
fn in_script(frame: &str) -> String {
    frame::string(frame).replace('<', "\\u003c")
}

/// The name of a function in a page. It becomes part of scripts, so its characters are restricted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback(String);

/// Why a callback cannot be used. The text is the body of a response with status 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    #[error("\"callback\" parameter required")]
    Missing,
    #[error("invalid \"callback\" parameter")]
    Invalid,
}

/// The maximum length of a callback. No client uses a longer one.
const CALLBACK_BYTES: usize = 128;

impl Callback {
    /// Returns the parameter `c` or `callback` of a query.
    ///
    /// # Errors
    /// [`CallbackError`] if the query has neither, or if the value is not a name.
    pub fn from_query(query: &str) -> Result<Self, CallbackError> {
        let name = form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "c" || name == "callback")
            .map(|(_, value)| value.into_owned())
            .filter(|it| !it.is_empty())
            .ok_or(CallbackError::Missing)?;
        let is_name = name.len() <= CALLBACK_BYTES
            && name
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.'));
        is_name.then_some(Self(name)).ok_or(CallbackError::Invalid)
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the beginning of the `htmlfile` page, which the protocol prescribes.
fn htmlfile_prelude(Callback(name): &Callback) -> String {
    // Some browsers run no script of a response before they have its first 1 KiB.
    const LEAST: usize = 1024;
    let page = format!(
        r#"<!doctype html>
<html><head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
</head><body><h2>Don't panic!</h2>
  <script>
    document.domain = document.domain;
    var c = parent.{name};
    c.start();
    function p(d) {{c.message(d);}};
    window.onload = function() {{c.stop();}};
  </script>"#
    );
    format!("{page:<LEAST$}\r\n\r\n")
}

/// Returns the payload of a `jsonp_send` request: the field `d` of a form, or the body if it is no form.
///
/// The payload is empty if the form has no such field.
#[must_use]
pub fn jsonp_payload<'a>(content_type: Option<&str>, body: &'a [u8]) -> Cow<'a, [u8]> {
    let is_form = content_type.is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    });
    if !is_form {
        return Cow::Borrowed(body);
    }
    form_urlencoded::parse(body)
        .find(|(name, _)| name == "d")
        .map_or(Cow::Borrowed(&[]), |(_, value)| {
            Cow::Owned(value.into_owned().into_bytes())
        })
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    fn callback(query: &str) -> Callback {
        Callback::from_query(query).unwrap()
    }

    #[test]
    fn each_transport_wraps_its_frames() {
        let frame = "a[\"x\"]";
        for (receiver, expected) in [
            (Receiver::Xhr, "a[\"x\"]\n"),
            (Receiver::XhrStreaming, "a[\"x\"]\n"),
            (Receiver::Eventsource, "data: a[\"x\"]\r\n\r\n"),
            (
                Receiver::Htmlfile(callback("c=cb")),
                "<script>\np(\"a[\\\"x\\\"]\");\n</script>\r\n",
            ),
            (
                Receiver::Jsonp(callback("c=cb")),
                "/**/cb(\"a[\\\"x\\\"]\");\r\n",
            ),
        ] {
            assert_eq!(receiver.wrap(frame), expected);
        }
        assert_eq!(
            Receiver::Eventsource.wrap("100% \r\n\0é"),
            "data: 100%25 %0D%0A%00é\r\n\r\n"
        );
    }

    #[test]
    fn message_cannot_end_its_script() {
        let page = Receiver::Htmlfile(callback("c=cb"));
        let wrapped = page.wrap(&frame::messages(["</script><script>alert(1)"]));
        assert_eq!(wrapped.matches("</script>").count(), 1, "{wrapped}");
        let json = wrapped
            .strip_prefix("<script>\np(")
            .and_then(|it| it.strip_suffix(");\n</script>\r\n"));
        let parsed: String = serde_json::from_str(json.unwrap()).unwrap();
        assert_eq!(parsed, "a[\"</script><script>alert(1)\"]");
    }

    #[test]
    fn each_transport_has_its_prelude() {
        assert_eq!(Receiver::Xhr.prelude(), None);
        assert_eq!(Receiver::Jsonp(callback("c=x")).prelude(), None);
        let streaming = Receiver::XhrStreaming.prelude().unwrap();
        assert_eq!(streaming.len(), 2049);
        assert_eq!(streaming.trim_end_matches('\n'), "h".repeat(2048));
        assert_eq!(Receiver::Eventsource.prelude().as_deref(), Some("\r\n"));
        let page = Receiver::Htmlfile(callback("c=%63allback"));
        let prelude = page.prelude().unwrap();
        assert!(prelude.len() > 1024 && prelude.ends_with("\r\n\r\n"));
        assert!(prelude.contains("var c = parent.callback;"));
        assert!(prelude.trim_end().ends_with("</script>"));
    }

    #[test]
    fn callback_must_be_a_name() {
        for (query, expected) in [
            ("", Err(CallbackError::Missing)),
            ("t=1", Err(CallbackError::Missing)),
            ("c=", Err(CallbackError::Missing)),
            ("c=%20", Err(CallbackError::Invalid)),
            ("c=*", Err(CallbackError::Invalid)),
            ("c=abc(", Err(CallbackError::Invalid)),
            ("c=abc%28", Err(CallbackError::Invalid)),
            ("c=a%62c", Ok("abc")),
            ("t=1&callback=_jp.a-1", Ok("_jp.a-1")),
        ] {
            let found = Callback::from_query(query);
            assert_eq!(
                found.as_ref().map(Callback::as_str).map_err(|it| *it),
                expected,
                "{query}"
            );
        }
        let long = "c=".to_string() + &"x".repeat(129);
        assert_eq!(Callback::from_query(&long), Err(CallbackError::Invalid));
    }

    #[test]
    fn jsonp_payload_is_field_or_body() {
        const FORM: &str = "application/x-www-form-urlencoded";
        for (content_type, body, expected) in [
            (Some(FORM), "d=%5B%22x%22%5D", "[\"x\"]"),
            (
                Some("application/X-www-form-urlencoded; charset=UTF-8"),
                "a=b&d=%61+b",
                "a b",
            ),
            (Some(FORM), "d=", ""),
            (Some(FORM), "[\"x\"]", ""),
            (Some("text/plain"), "[\"%61\"]", "[\"%61\"]"),
            (None, "[\"x\"]", "[\"x\"]"),
        ] {
            let payload = jsonp_payload(content_type, body.as_bytes());
            assert_eq!(payload.to_vec(), expected.as_bytes());
        }
    }
}
