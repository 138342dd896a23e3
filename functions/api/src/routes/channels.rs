//! Channels: create, update and delete them, their members, and their events.

use lambda::HttpEvent;
use protocol::{
    ChannelKey, Destination, Json, SubscriberId, backend, backend::Given, wire_event::WireEvent,
};
use serde::{Deserialize, Serialize};
use service::{ChannelView, Refused};

use super::{Answer, Object, body, json_text, no_content, nothing_here, subscribers};
use crate::{Api, problem::Problem};

/// Handles `…/channels/{c}` and the paths below it.
pub(super) async fn route(
    api: &Api,
    event: &HttpEvent,
    channel: &ChannelKey,
    rest: &[&str],
) -> Answer {
    match (rest, event.method()) {
        ([], "GET") => show(api, channel, 200).await,
        ([], "PUT") => put(api, event, channel).await,
        ([], "DELETE") => {
            api.delete_channel(channel).await?;
            Ok(no_content())
        }
        ([], _) => Err(Problem::method_not_allowed("GET, PUT, DELETE")),
        (["subscribers"], "GET") => members(api, event, channel).await,
        (["subscribers"] | ["events"], method) if method != "GET" => {
            Err(Problem::method_not_allowed("GET"))
        }
        (["subscribers", id], "PUT") => put_member(api, event, channel, id).await,
        (["subscribers", id], "DELETE") => {
            api.remove_member(channel, &SubscriberId::parse(id)?)
                .await?;
            Ok(no_content())
        }
        (["subscribers", _], _) => Err(Problem::method_not_allowed("PUT, DELETE")),
        (["messages"], "POST") => {
            let destination = Destination::Channel(channel.id.clone());
            subscribers::message(api, event, &channel.domain, &destination).await
        }
        (["messages"], _) => Err(Problem::method_not_allowed("POST")),
        (["events"], _) => events(api, event, channel).await,
        _ => Err(nothing_here()),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Shown<'a> {
    channel_id: &'a protocol::ChannelId,
    name: &'a str,
    attributes: &'a Json,
    members: u64,
    administrators: u64,
    last_sequence: u64,
}

async fn show(api: &Api, channel: &ChannelKey, status: u16) -> Answer {
    let ChannelView {
        profile,
        roster,
        last_sequence,
    } = api.channel(channel).await?;
    Ok(json_text(
        status,
        &Shown {
            channel_id: &channel.id,
            name: &profile.name,
            attributes: &profile.attributes,
            members: roster.members,
            administrators: roster.administrators,
            last_sequence,
        },
    ))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Put {
    name: String,
    attributes: Option<Object>,
    invite_token: Option<String>,
}

async fn put(api: &Api, event: &HttpEvent, channel: &ChannelKey) -> Answer {
    let Put {
        name,
        attributes,
        invite_token,
    } = body(event)?;
    let given = Given::new(&name, attributes.map(|it| it.0), invite_token)?;
    let created = api.put_channel(channel, &given).await?;
    show(api, channel, if created { 201 } else { 200 }).await
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct PutMember {
    administrator: Option<bool>,
}

async fn put_member(api: &Api, event: &HttpEvent, channel: &ChannelKey, id: &str) -> Answer {
    let id = SubscriberId::parse(id)?;
    let PutMember { administrator } = body(event)?;
    api.put_member(channel, &id, administrator).await?;
    Ok(no_content())
}

#[derive(Serialize)]
struct Members<'a> {
    subscribers: &'a [protocol::ChannelSubscriber],
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

async fn members(api: &Api, event: &HttpEvent, channel: &ChannelKey) -> Answer {
    let page = backend::page(event.query("after"), event.query("limit"))?;
    let listed = api.channel_members(channel, &page).await?;
    Ok(json_text(
        200,
        &Members {
            subscribers: &listed.items,
            next: listed.next.as_deref(),
        },
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Events<'a> {
    events: &'a [WireEvent],
    first_sequence: u64,
    last_sequence: u64,
    more: bool,
}

async fn events(api: &Api, event: &HttpEvent, channel: &ChannelKey) -> Answer {
    let range = backend::range(
        event.query("after"),
        event.query("before"),
        event.query("limit"),
    )?;
    let history = api.channel_events(channel, range).await?;
    Ok(json_text(
        200,
        &Events {
            events: &history.events,
            first_sequence: history.first_sequence,
            last_sequence: history.last_sequence,
            more: history.more,
        },
    ))
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Rejected(rejection) => rejection.into(),
            Refused::Fault(fault) => fault.into(),
        }
    }
}
