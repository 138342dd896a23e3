//! The events that API Gateway sends to the functions of a WebSocket API, with exactly the captured keys.
//!
//! Keys that do not apply to an event are omitted, never null. A message event has neither headers nor a query string.
//! A disconnect event has only stub headers. Every event of a connection has the authorizer's context.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::{ids, query::Parameters};

/// Headers in an event: each name once in its canonical spelling, with all its values.
pub type Headers = BTreeMap<String, Vec<String>>;

/// The constant properties of a connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    pub connection_id: String,
    /// When the handshake began, in milliseconds since the epoch.
    pub connected_at: i64,
    pub identity: Identity,
    /// The authorizer's `principalId` and context. All values are strings.
    pub authorizer: Option<BTreeMap<String, String>>,
}

/// The API and stage of a connection.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub api_id: String,
    pub stage: String,
    /// The host under which clients reach the stage.
    pub domain_name: String,
}

/// The origin of a client.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The `User-Agent` header, if the client sent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    pub source_ip: String,
}

/// The id and time of one event.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The request id, which is also the extended request id.
    pub request_id: String,
    /// Milliseconds since the epoch.
    pub epoch_ms: i64,
}

impl Moment {
    /// Returns the current time with a new request id.
    #[must_use]
    pub fn now() -> Self {
        Self {
            request_id: ids::id(),
            epoch_ms: ids::now_ms(),
        }
    }
}

/// The request of a client's handshake.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The headers, without those that concern only the upgrade itself.
    pub headers: Headers,
    /// The decoded query string.
    pub query: Parameters,
}

/// Builds the events of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Events<'a> {
    pub place: &'a Place,
    pub peer: &'a Peer,
}

impl Events<'_> {
    /// Returns the event of the `$connect` route.
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

    /// Returns the event of a client message for the route `route_key`.
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

    /// Returns the event of the `$disconnect` route.
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

    /// Returns the event of a REQUEST authorizer. Unlike the `$connect` event it also has the headers of the upgrade
    /// itself, and empty maps are present.
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

/// Returns the last value of each name, as in the single-value maps of events.
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
