//! What a function's answer becomes as an HTTP response, payload format 2.0.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::server::{self, Answer};

/// Headers that describe the connection; the server writes its own.
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

/// The response, or what is wrong with the answer. JSON without a `statusCode` is itself the body of a 200.
pub(super) fn decode(answer: &Bytes) -> Result<Answer, String> {
    let value: Value =
        serde_json::from_slice(answer).map_err(|error| format!("it is not JSON: {error}"))?;
    if value.get("statusCode").is_none() {
        return Ok(server::json(StatusCode::OK, answer.clone()));
    }
    let structured: Structured =
        serde_json::from_value(value).map_err(|error| error.to_string())?;
    let status = StatusCode::from_u16(structured.status_code)
        .ok()
        .filter(|status| !status.is_informational())
        .ok_or_else(|| format!("{} is no status", structured.status_code))?;
    let body = structured.body.unwrap_or_default();
    let body = if structured.is_base64_encoded == Some(true) {
        STANDARD
            .decode(body)
            .map_err(|error| format!("its body is not base64: {error}"))?
            .into()
    } else {
        Bytes::from(body)
    };
    let mut response = server::with_type(status, "text/plain;charset=UTF-8", body);
    for (name, value) in structured.headers.into_iter().flatten() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
        if !HOP_BY_HOP.contains(&name) {
            response.headers_mut().insert(name, header_value(&value)?);
        }
    }
    for cookie in structured.cookies.into_iter().flatten() {
        let cookie = header_value(&Value::String(cookie))?;
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

fn header_value(value: &Value) -> Result<HeaderValue, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    HeaderValue::from_str(&text).map_err(|error| error.to_string())
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
    async fn a_structured_answer_is_followed() {
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

    #[tokio::test]
    async fn other_json_is_the_body() {
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
    fn an_answer_that_makes_no_response_is_an_error() {
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
