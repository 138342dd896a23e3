//! Compares each event with one that API Gateway sent. The fixtures are captures from aws-lambda-go and
//! aws_lambda_events.

use serde_json::{Value, json};

use super::*;

fn fixture(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap().to_owned()
}

/// Reads the builder's inputs from a captured event.
fn given(captured: &Value) -> (Place, Peer, Moment) {
    let context = &captured["requestContext"];
    let place = Place {
        api_id: text(context, "apiId"),
        stage: text(context, "stage"),
        domain_name: text(context, "domainName"),
    };
    let peer = Peer {
        connection_id: text(context, "connectionId"),
        connected_at: context["connectedAt"].as_i64().unwrap(),
        identity: Identity {
            user_agent: context["identity"]["userAgent"].as_str().map(str::to_owned),
            source_ip: text(&context["identity"], "sourceIp"),
        },
        authorizer: None,
    };
    let moment = Moment {
        request_id: text(context, "requestId"),
        epoch_ms: context["requestTimeEpoch"].as_i64().unwrap(),
    };
    (place, peer, moment)
}

fn parsed(event: &Bytes) -> Value {
    serde_json::from_slice(event).unwrap()
}

#[test]
fn message_has_only_context_and_body() {
    let captured = fixture(include_str!("../../tests/fixtures/message.json"));
    let (place, peer, moment) = given(&captured);
    let events = Events {
        place: &place,
        peer: &peer,
    };
    let event = events.message(
        "$default",
        &text(&captured["requestContext"], "messageId"),
        &text(&captured, "body"),
        &moment,
    );
    assert_eq!(parsed(&event), captured);
}

#[test]
fn disconnect_has_stub_headers_and_status() {
    let captured = fixture(include_str!("../../tests/fixtures/disconnect.json"));
    let (place, peer, moment) = given(&captured);
    let events = Events {
        place: &place,
        peer: &peer,
    };
    let event = events.disconnect(1005, "Client-side close frame status not set", &moment);
    assert_eq!(parsed(&event), captured);
}

#[test]
fn connect_without_query_omits_query_keys() {
    let mut captured = fixture(include_str!("../../tests/fixtures/connect.json"));
    let (place, peer, moment) = given(&captured);
    // The ids of the capture were anonymised one by one, and its API has keys. Correct both here.
    captured["requestContext"]["extendedRequestId"] =
        captured["requestContext"]["requestId"].clone();
    let identity = captured["requestContext"]["identity"]
        .as_object_mut()
        .unwrap();
    identity.remove("apiKey");
    identity.remove("apiKeyId");
    let asked = Asked {
        headers: serde_json::from_value(captured["multiValueHeaders"].clone()).unwrap(),
        query: Parameters::new(),
    };
    let events = Events {
        place: &place,
        peer: &peer,
    };
    assert_eq!(parsed(&events.connect(&asked, &moment)), captured);
}

#[test]
fn events_contain_query_and_authorizer_context() {
    let peer = Peer {
        authorizer: Some(BTreeMap::from([(
            "principalId".to_owned(),
            "alice".to_owned(),
        )])),
        ..Peer::default()
    };
    let asked = Asked {
        headers: Headers::new(),
        query: crate::query::parse("x=1&x=2&y=%20"),
    };
    let place = Place::default();
    let events = Events {
        place: &place,
        peer: &peer,
    };
    let event = parsed(&events.connect(&asked, &Moment::now()));
    assert_eq!(event["queryStringParameters"], json!({"x": "2", "y": " "}));
    assert_eq!(
        event["multiValueQueryStringParameters"],
        json!({"x": ["1", "2"], "y": [" "]})
    );
    for event in [
        event,
        parsed(&events.message("$default", "m", "{}", &Moment::now())),
        parsed(&events.disconnect(1000, "", &Moment::now())),
    ] {
        assert_eq!(
            event["requestContext"]["authorizer"],
            json!({"principalId": "alice"})
        );
        assert_eq!(
            event["requestContext"]["requestId"],
            event["requestContext"]["extendedRequestId"]
        );
    }
}

#[test]
fn authorizer_sees_upgrade_and_method_arn() {
    let place = Place {
        api_id: "abcdef123".into(),
        stage: "test".into(),
        domain_name: "example.com".into(),
    };
    let peer = Peer::default();
    let events = Events {
        place: &place,
        peer: &peer,
    };
    let arn = "arn:aws:execute-api:eu-west-1:123456789012:abcdef123/test/$connect";
    let event = parsed(&events.authorize(arn, &Asked::default(), &Moment::now()));
    assert_eq!(event["type"], "REQUEST");
    assert_eq!(event["methodArn"], arn);
    assert_eq!(event["headers"]["Upgrade"], "websocket");
    assert_eq!(event["multiValueHeaders"]["Connection"], json!(["upgrade"]));
    assert_eq!(event["queryStringParameters"], json!({}));
    assert_eq!(event["stageVariables"], json!({}));
    assert_eq!(event["requestContext"]["eventType"], "CONNECT");
    assert_eq!(event["requestContext"]["routeKey"], "$connect");
}
