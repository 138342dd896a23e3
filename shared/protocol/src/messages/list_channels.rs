//! `list-channels`: lists the caller's channels in the order of their ids.
//!
//! `{"type":"list-channels","after":"c-1","limit":20}`

use super::{Fields, Message, RawPage, Refusal};
use crate::{
    ServerMessage, Subscriber,
    decision::{Context, Decision, Known, Needs, PageRequest},
    error::Rejection,
};

/// `list-channels`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListChannels {
    page: PageRequest,
}

impl Message for ListChannels {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            page: RawPage::take(fields)?.parse()?,
        })
    }

    fn needs(&self, _: &Subscriber) -> Needs {
        Needs {
            response: true,
            memberships: Some(self.page.clone()),
            ..Needs::default()
        }
    }

    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
        let (channels, next) = known.memberships.page(context, |it| it.channel_id.as_str());
        Ok(Decision::respond(ServerMessage::Channels {
            channels,
            next,
        }))
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::String, vec::Vec};

    use crate::{
        ChannelId, Json, Membership,
        decision::{
            Known, Listed,
            tests::{context, respond},
        },
        error::Code,
        messages::tests::{ignored, parsed, rejected},
    };

    #[test]
    fn oversized_page_ends_early_with_cursor() {
        let big = Json::parse(&format!(r#"{{"x":"{}"}}"#, "y".repeat(4_000))).unwrap();
        let items: Vec<Membership> = (100..200)
            .map(|number| Membership {
                channel_id: ChannelId::parse(&format!("c{number}")).unwrap(),
                name: String::from("n"),
                administrator: false,
                attributes: big.clone(),
                last_sequence: 1,
                read_sequence: 1,
                unread: 0,
            })
            .collect();
        let known = Known {
            memberships: Listed { items, next: None },
            ..Known::default()
        };
        let page = respond(
            r#"{"type":"list-channels","limit":100}"#,
            &context("a"),
            &known,
        );
        let channels = page["channels"].as_array().unwrap();
        assert!((10..30).contains(&channels.len()));
        assert_eq!(page["next"], channels.last().unwrap()["channel-id"]);
    }

    #[test]
    fn empty_page_keeps_its_cursor() {
        let known = Known {
            memberships: Listed {
                items: Vec::new(),
                next: Some("c1".into()),
            },
            ..Known::default()
        };
        let page = respond(
            r#"{"type":"list-channels","limit":1}"#,
            &context("a"),
            &known,
        );
        assert!(page["channels"].as_array().unwrap().is_empty());
        assert_eq!(page["next"], "c1");
    }

    #[test]
    fn page_limit_is_checked() {
        parsed(r#"{"type":"list-channels"}"#);
        parsed(r#"{"type":"list-channels","limit":100,"after":"c"}"#);
        for limit in ["0", "101", "-1", "1.5"] {
            assert_eq!(
                rejected(&format!(r#"{{"type":"list-channels","limit":{limit}}}"#)),
                Code::InvalidValue
            );
        }
        assert_eq!(
            rejected(r#"{"type":"list-channels","after":"a b"}"#),
            Code::InvalidValue
        );
        ignored(&[
            r#"{"type":"list-channels","limit":"1"}"#,
            r#"{"type":"list-channels","after":1}"#,
        ]);
    }
}
