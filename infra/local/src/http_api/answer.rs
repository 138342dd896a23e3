//! Converts a function's response of payload format 2.0 to an HTTP response.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::server::{self, Answer};

/// Headers that describe the connection. The server writes its own.
const HOP_BY_HOP: [HeaderName; 4] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Structured {
    status_code: u16,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: Option<bool>,
}

/// Returns the status, headers and cookies of a streamed response, or the problem with them.
pub(crate) fn decode_head(prelude: &[u8]) -> Result<http::response::Parts, String> {
    let structured = serde_json::from_slice(prelude).map_err(|error| error.to_string())?;
    let (parts, _) = head(&structured, "application/octet-stream")?.into_parts();
    Ok(parts)
}

/// Returns the HTTP response, or the problem with the function's response. JSON without a `statusCode` is itself the
/// body of a 200.
pub(crate) fn decode(answer: &Bytes) -> Result<Answer, String> {
    let value: Value = serde_json::from_slice(answer)
        .map_err(|error| format!("the response is not JSON: {error}"))?;
    if value.get("statusCode").is_none() {
        return Ok(server::json(StatusCode::OK, answer.clone()));
    }
    let structured: Structured =
        serde_json::from_value(value).map_err(|error| error.to_string())?;
    let mut response = head(&structured, "text/plain;charset=UTF-8")?;
    let body = structured.body.unwrap_or_default();
    let body = if structured.is_base64_encoded == Some(true) {
        STANDARD
            .decode(body)
            .map_err(|error| format!("the body is not base64: {error}"))?
            .into()
    } else {
        Bytes::from(body)
    };
    *response.body_mut() = body.into();
    Ok(response)
}

/// Returns the response without its body. `default_type` is the content type if the headers have none.
fn head(structured: &Structured, default_type: &'static str) -> Result<Answer, String> {
    let status = StatusCode::from_u16(structured.status_code)
        .ok()
        .filter(|status| !status.is_informational())
        .ok_or_else(|| format!("{} is not a status", structured.status_code))?;
    let mut response = server::with_type(status, default_type, "");
    let headers = response.headers_mut();
    for (name, value) in structured.headers.iter().flatten() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
        if HOP_BY_HOP.contains(&name) {
            continue;
        }
        // A header with several values is a list.
        let values = value
            .as_array()
            .map_or(std::slice::from_ref(value), Vec::as_slice);
        headers.remove(&name);
        for value in values {
            headers.append(&name, header_value(value)?);
        }
    }
    for cookie in structured.cookies.iter().flatten() {
        headers.append(header::SET_COOKIE, header_text(cookie)?);
    }
    Ok(response)
}

fn header_value(value: &Value) -> Result<HeaderValue, String> {
    match value {
        Value::String(text) => header_text(text),
        other => header_text(&other.to_string()),
    }
}

fn header_text(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn check(answer: &'static str, status: u16, content_type: &str, body: &str) {
        let response = decode(&Bytes::from(answer)).unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()[header::CONTENT_TYPE], content_type);
        assert_eq!(
            response.into_body().collect().await.unwrap().to_bytes(),
            body
        );
    }

    #[tokio::test]
    async fn structured_response_is_applied() {
        check(
            r#"{"statusCode":201,"headers":{"Content-Type":"application/json","content-length":99},"body":"{}"}"#,
            201,
            "application/json",
            "{}",
        )
        .await;
        check(
            r#"{"statusCode":200,"body":"aGk=","isBase64Encoded":true}"#,
            200,
            "text/plain;charset=UTF-8",
            "hi",
        )
        .await;
        let cookies = decode(&Bytes::from(
            r#"{"statusCode":204,"cookies":["a=1","b=2"]}"#,
        ))
        .unwrap();
        assert_eq!(
            cookies.headers().get_all(header::SET_COOKIE).iter().count(),
            2
        );
    }

    #[test]
    fn streamed_head_is_applied() {
        let prelude =
            br#"{"statusCode":201,"headers":{"vary":["a","b"],"X-One":1},"cookies":["a=1","b=2"]}"#;
        let parts = decode_head(prelude).unwrap();
        assert_eq!(parts.status, 201);
        assert_eq!(parts.headers["x-one"], "1");
        assert_eq!(
            parts.headers[header::CONTENT_TYPE],
            "application/octet-stream"
        );
        for (name, count) in [(header::VARY, 2), (header::SET_COOKIE, 2)] {
            assert_eq!(parts.headers.get_all(name).iter().count(), count);
        }
        assert!(decode_head(b"{}").is_err());
    }

    #[tokio::test]
    async fn other_json_is_body() {
        check(
            r#"{"hello":"world"}"#,
            200,
            "application/json",
            r#"{"hello":"world"}"#,
        )
        .await;
        check("\"hi\"", 200, "application/json", "\"hi\"").await;
    }

    #[test]
    fn invalid_response_is_error() {
        for answer in [
            "",
            r#"{"statusCode":42}"#,
            r#"{"statusCode":101}"#,
            r#"{"statusCode":200,"body":1}"#,
        ] {
            assert!(decode(&Bytes::from(answer)).is_err(), "{answer}");
        }
    }
}
