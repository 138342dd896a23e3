//! Subscribers: their connections and presence, and messages in their name.

use lambda::HttpEvent;
use protocol::{
    ConnectionId, Destination, Domain, Json, Subscriber, SubscriberId, Timestamp, backend,
    model::Presence,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service::Stored;

use super::{Answer, Object, body, json_text, no_content, nothing_here, ok, tokens};
use crate::{Api, problem::Problem};

/// Handles `…/subscribers/{s}` and the paths below it.
pub(super) async fn route(
    api: &Api,
    event: &HttpEvent,
    subscriber: &Subscriber,
    rest: &[&str],
) -> Answer {
    match (rest, event.method()) {
        (["tokens"], _) => tokens::of_subscriber(api, event, subscriber).await,
        ([], "GET") => show(api, subscriber).await,
        ([], _) => Err(Problem::method_not_allowed("GET")),
        // Erasing is irreversible, so it has a last segment that no other operation has. No other path can become this
        // one when a client removes dot segments.
        (["erase"], "POST") => {
            api.erase(subscriber).await?;
            Ok(json!({"statusCode": 202}))
        }
        (["disconnect"], "POST") => {
            api.disconnect_all(subscriber).await?;
            Ok(no_content())
        }
        (["messages"], "POST") => {
            let destination = Destination::Subscriber(subscriber.id.clone());
            message(api, event, &subscriber.domain, &destination).await
        }
        (["disconnect" | "erase" | "messages"], _) => Err(Problem::method_not_allowed("POST")),
        _ => Err(nothing_here()),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Shown<'a> {
    domain: &'a Domain,
    subscriber_id: &'a SubscriberId,
    connections: Vec<ShownConnection<'a>>,
    presence: &'a Presence,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ShownConnection<'a> {
    id: &'a ConnectionId,
    since: Timestamp,
    ends_at: Timestamp,
}

async fn show(api: &Api, subscriber: &Subscriber) -> Answer {
    let view = api.subscriber(subscriber).await?;
    let connections = view.connections.iter().map(|(id, it)| ShownConnection {
        id,
        since: it.since,
        ends_at: it.ends_at,
    });
    Ok(json_text(
        200,
        &Shown {
            domain: &subscriber.domain,
            subscriber_id: &subscriber.id,
            connections: connections.collect(),
            presence: &view.presence,
        },
    ))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Message {
    from: SubscriberId,
    content: Json,
    attributes: Option<Object>,
    message_id: Option<String>,
}

/// Sends a message in the name of the body's `from`, a subscriber of `domain`.
pub(super) async fn message(
    api: &Api,
    event: &HttpEvent,
    domain: &Domain,
    destination: &Destination,
) -> Answer {
    let Message {
        from,
        content,
        attributes,
        message_id,
    } = body(event)?;
    let from = Subscriber {
        domain: domain.clone(),
        id: from,
    };
    let draft = backend::draft(
        &from,
        destination,
        content,
        attributes.map(|it| it.0),
        message_id.as_deref(),
    )?;
    let Stored {
        message_id,
        sequence,
        timestamp,
        duplicate,
    } = api.send_message(&from, &draft).await?;
    Ok(ok(
        if duplicate { 200 } else { 201 },
        &json!({
            "message-id": message_id,
            "sequence": sequence,
            "timestamp": timestamp,
            "duplicate": duplicate,
        }),
    ))
}
