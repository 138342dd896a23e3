//! The events that API Gateway sends to the functions of a WebSocket API, key for key as captured.
//!
//! What does not apply to an event is left out, never null. A message carries neither headers nor query string, a
//! disconnect only a stub of headers, and the authorizer's context comes with every event of the connection.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::{ids, query::Parameters};

/// Headers as an event writes them: each name once in its canonical spelling, with all its values.
pub type Headers = BTreeMap<String, Vec<String>>;

/// What stays the same through the life of a connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The connection id.
    pub connection_id: String,
    /// When the handshake began, in milliseconds since the epoch.
    pub connected_at: i64,
    /// Whose address it is.
    pub identity: Identity,
    /// The authorizer's `principalId` and context; all values are strings.
    pub authorizer: Option<BTreeMap<String, String>>,
}

/// The API and stage that a connection belongs to.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The API's id.
    pub api_id: String,
    /// The stage.
    pub stage: String,
    /// The host under which clients reach the stage.
    pub domain_name: String,
}

/// Where a client comes from.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The `User-Agent` header, absent if the client sent none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The address.
    pub source_ip: String,
}

/// What is new with each event: its id and its time.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The request id, which is also the extended request id.
    pub request_id: String,
    /// Milliseconds since the epoch.
    pub epoch_ms: i64,
}

impl Moment {
    /// This moment, with a fresh request id.
    #[must_use]
    pub fn now() -> Self {
        Self {
            request_id: ids::id(),
            epoch_ms: ids::now_ms(),
        }
    }
}

/// What a client asked for in its handshake.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The headers, without those that only concern the upgrade itself.
    pub headers: Headers,
    /// The decoded query string.
    pub query: Parameters,
}

/// Builds the events of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Events<'a> {
    /// The API and stage.
    pub place: &'a Place,
    /// The connection.
    pub peer: &'a Peer,
}

impl Events<'_> {
    /// The event of the `$connect` route.
    #[must_use]
    pub fn connect(&self, asked: &Asked, moment: &Moment) -> Bytes {
        let query = (!asked.query.is_empty()).then_some(&asked.query);
        encode(&Event {
            headers: Some(last_of_each(&asked.headers)),
            multi_value_headers: Some(&asked.headers),
            query_string_parameters: query.map(last_of_each),
            multi_value_query_string_parameters: query,
            request_context: self.context("$connect", "CONNECT", moment),
            body: None,
            is_base64_encoded: false,
        })
    }

    /// The event of a client message that was sent to `route_key`.
    #[must_use]
    pub fn message(&self, route_key: &str, message_id: &str, body: &str, moment: &Moment) -> Bytes {
        let mut request_context = self.context(route_key, "MESSAGE", moment);
        request_context.message_id = Some(message_id);
        encode(&Event {
            headers: None,
            multi_value_headers: None,
            query_string_parameters: None,
            multi_value_query_string_parameters: None,
            request_context,
            body: Some(body),
            is_base64_encoded: false,
        })
    }

    /// The event of the `$disconnect` route.
    #[must_use]
    pub fn disconnect(&self, status_code: u16, reason: &str, moment: &Moment) -> Bytes {
        let empty = || vec![String::new()];
        let headers = Headers::from([
            ("Host".to_owned(), vec![self.place.domain_name.clone()]),
            ("x-api-key".to_owned(), empty()),
            ("X-Forwarded-For".to_owned(), empty()),
            ("x-restapi".to_owned(), empty()),
        ]);
        let mut request_context = self.context("$disconnect", "DISCONNECT", moment);
        request_context.disconnect_status_code = Some(status_code);
        request_context.disconnect_reason = Some(reason);
        encode(&Event {
            headers: Some(last_of_each(&headers)),
            multi_value_headers: Some(&headers),
            query_string_parameters: None,
            multi_value_query_string_parameters: None,
            request_context,
            body: None,
            is_base64_encoded: false,
        })
    }

    /// The event of a REQUEST authorizer. Unlike the `$connect` event it also shows the upgrade's own headers, and its
    /// maps are there when they are empty.
    #[must_use]
    pub fn authorize(&self, method_arn: &str, asked: &Asked, moment: &Moment) -> Bytes {
        let mut headers = asked.headers.clone();
        for (name, value) in [
            ("Connection", "upgrade"),
            ("content-length", "0"),
            ("Upgrade", "websocket"),
        ] {
            headers.insert(name.to_owned(), vec![value.to_owned()]);
        }
        encode(&AuthorizerEvent {
            r#type: "REQUEST",
            method_arn,
            headers: last_of_each(&headers),
            multi_value_headers: &headers,
            query_string_parameters: last_of_each(&asked.query),
            multi_value_query_string_parameters: &asked.query,
            stage_variables: BTreeMap::new(),
            request_context: self.context("$connect", "CONNECT", moment),
        })
    }

    fn context<'a>(
        &'a self,
        route_key: &'a str,
        event_type: &'static str,
        moment: &'a Moment,
    ) -> RequestContext<'a> {
        RequestContext {
            route_key,
            authorizer: self.peer.authorizer.as_ref(),
            message_id: None,
            disconnect_status_code: None,
            event_type,
            extended_request_id: &moment.request_id,
            request_time: ids::request_time(moment.epoch_ms),
            message_direction: "IN",
            disconnect_reason: None,
            stage: &self.place.stage,
            connected_at: self.peer.connected_at,
            request_time_epoch: moment.epoch_ms,
            identity: &self.peer.identity,
            request_id: &moment.request_id,
            domain_name: &self.place.domain_name,
            connection_id: &self.peer.connection_id,
            api_id: &self.place.api_id,
        }
    }
}

type Single<'a> = BTreeMap<&'a str, &'a str>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Single<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_value_headers: Option<&'a Headers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_string_parameters: Option<Single<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_value_query_string_parameters: Option<&'a Parameters>,
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthorizerEvent<'a> {
    r#type: &'static str,
    method_arn: &'a str,
    headers: Single<'a>,
    multi_value_headers: &'a Headers,
    query_string_parameters: Single<'a>,
    multi_value_query_string_parameters: &'a Parameters,
    stage_variables: Single<'a>,
    request_context: RequestContext<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    route_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect_status_code: Option<u16>,
    event_type: &'static str,
    extended_request_id: &'a str,
    request_time: String,
    message_direction: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect_reason: Option<&'a str>,
    stage: &'a str,
    connected_at: i64,
    request_time_epoch: i64,
    identity: &'a Identity,
    request_id: &'a str,
    domain_name: &'a str,
    connection_id: &'a str,
    api_id: &'a str,
}

/// Where several values were sent, the plain map shows the last one.
fn last_of_each(map: &BTreeMap<String, Vec<String>>) -> Single<'_> {
    map.iter()
        .map(|(name, values)| (name.as_str(), values.last().map_or("", String::as_str)))
        .collect()
}

fn encode(event: &impl Serialize) -> Bytes {
    #[expect(
        clippy::expect_used,
        reason = "the maps have string keys and no value can fail to serialize"
    )]
    serde_json::to_vec(event)
        .expect("an event is plain data")
        .into()
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
