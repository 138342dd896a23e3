//! The WebSocket API as a client sees it: handshakes, frames, errors, closes, and the functions' events.

mod common;

use std::collections::BTreeSet;

use common::{
    DEADLINE, Gateway, connect_to, connection_id, eventually, handshake_status, http, next,
    next_close, next_text, send,
};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};

#[tokio::test]
async fn handshake_statuses_match_aws() {
    let gateway = Gateway::start(&[]);
    for (query, expected) in [
        ("token=alice", 101),
        ("token=alice&status=201", 101),
        // The identity source is missing or empty, so the gateway does not invoke the authorizer.
        ("", 401),
        ("token=", 401),
        ("token=unauthorized", 401),
        ("token=deny", 403),
        ("token=crash", 500),
        ("token=invalid", 500),
        ("token=object", 500),
        // The client receives the status that $connect returns.
        ("token=alice&status=301", 301),
        ("token=alice&status=400", 400),
        ("token=alice&status=501", 501),
        ("token=alice&throw=1", 502),
        ("token=alice&raw=null", 502),
    ] {
        let status = handshake_status(gateway.try_connect(query, &[]).await);
        assert_eq!(status, expected, "?{query}");
    }
    let tokens: BTreeSet<_> = gateway
        .events()
        .iter()
        .filter_map(|event| {
            event["queryStringParameters"]["token"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    assert!(!tokens.contains(""));
}

#[tokio::test]
async fn only_stage_root_accepts_connections() {
    let gateway = Gateway::start(&[]);
    let other = gateway.url("stage").replace("/prod", "/dev?token=alice");
    assert_eq!(handshake_status(connect_to(&other, &[]).await), 403);
    let below = gateway.url("stage").replace("/prod", "/prod/x?token=alice");
    assert_eq!(handshake_status(connect_to(&below, &[]).await), 403);
    let rebound = [("host", "example.com")];
    let status = handshake_status(gateway.try_connect("token=alice", &rebound).await);
    assert_eq!(status, 403);
    let plain = http("GET", &gateway.url("stage").replace("ws://", "http://"), "");
    assert_eq!(plain.status, 426);
}

#[tokio::test]
async fn only_gateway_refusals_have_body() {
    let gateway = Gateway::start(&[]);
    let Err(Error::Http(denied)) = gateway.try_connect("token=deny", &[]).await else {
        panic!("the authorizer denies it");
    };
    let body = String::from_utf8(denied.into_body().unwrap()).unwrap();
    assert!(
        body.starts_with(r#"{"message": "Forbidden", "connectionId":""#),
        "{body}"
    );
    let Err(Error::Http(refused)) = gateway.try_connect("token=a&status=403", &[]).await else {
        panic!("$connect refuses it");
    };
    assert_eq!(refused.into_body().unwrap_or_default(), b"");
}

#[tokio::test]
async fn subprotocol_comes_from_connect_answer() {
    let gateway = Gateway::start(&[]);
    let asked = [("sec-websocket-protocol", "v2, v1")];
    let url = format!("{}?token=alice&protocol=v1", gateway.url("stage"));
    let mut request =
        tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(url)
            .unwrap();
    request
        .headers_mut()
        .insert(asked[0].0, asked[0].1.parse().unwrap());
    let (_socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "v1");
    // The gateway echoes no subprotocol that $connect did not name. A client that requires one then fails the connection.
    let silent = gateway.try_connect("token=alice", &asked).await;
    assert!(matches!(silent, Err(Error::Protocol(_))), "{silent:?}");
}

#[tokio::test]
async fn events_match_aws_and_carry_context() {
    let gateway = Gateway::start(&[]);
    let mut socket = gateway
        .try_connect(
            "token=alice&x=1&x=2",
            &[("user-agent", "test/1"), ("x-tag", "t")],
        )
        .await
        .unwrap();
    send(&mut socket, r#"{"do":"show"}"#).await;
    let message: Value = serde_json::from_str(&next_text(&mut socket).await).unwrap();
    socket
        .close(Some(CloseFrame {
            code: 4001.into(),
            reason: "enough".into(),
        }))
        .await
        .unwrap();
    let disconnect = gateway.event("DISCONNECT");
    let connect = gateway.event("CONNECT");
    let authorize = &gateway.events()[0];

    let context =
        json!({"principalId": "alice", "subscriber": "alice", "level": "3", "demo": "true"});
    for event in [&connect, &message, &disconnect] {
        assert_eq!(event["requestContext"]["authorizer"], context);
        assert_eq!(event["requestContext"]["stage"], "prod");
        assert_eq!(event["requestContext"]["apiId"].as_str().unwrap().len(), 10);
        assert_eq!(
            event["requestContext"]["identity"],
            json!({"sourceIp": "127.0.0.1", "userAgent": "test/1"})
        );
        for same in ["connectionId", "connectedAt", "apiId", "domainName"] {
            assert_eq!(
                event["requestContext"][same], connect["requestContext"][same],
                "{same}"
            );
        }
        assert_eq!(
            event["requestContext"]["requestId"],
            event["requestContext"]["extendedRequestId"]
        );
    }
    let keys = |event: &Value| {
        event
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        keys(&connect),
        [
            "headers",
            "isBase64Encoded",
            "multiValueHeaders",
            "multiValueQueryStringParameters",
            "queryStringParameters",
            "requestContext"
        ]
    );
    assert_eq!(connect["headers"]["X-Tag"], "t");
    assert!(connect["headers"].get("Upgrade").is_none());
    assert_eq!(
        connect["multiValueQueryStringParameters"]["x"],
        json!(["1", "2"])
    );
    assert_eq!(
        keys(&message),
        ["body", "isBase64Encoded", "requestContext"]
    );
    assert_eq!(message["body"], r#"{"do":"show"}"#);
    assert_eq!(message["requestContext"]["routeKey"], "$default");
    assert_ne!(
        message["requestContext"]["messageId"],
        message["requestContext"]["requestId"]
    );
    assert_eq!(
        keys(&disconnect),
        [
            "headers",
            "isBase64Encoded",
            "multiValueHeaders",
            "requestContext"
        ]
    );
    assert_eq!(disconnect["requestContext"]["disconnectStatusCode"], 4001);
    assert_eq!(disconnect["requestContext"]["disconnectReason"], "enough");
    assert_eq!(authorize["type"], "REQUEST");
    assert!(
        authorize["methodArn"]
            .as_str()
            .unwrap()
            .ends_with("/prod/$connect")
    );
    assert_eq!(authorize["headers"]["Upgrade"], "websocket");
    assert_eq!(
        authorize["requestContext"]["connectionId"],
        connect["requestContext"]["connectionId"]
    );
}

#[tokio::test]
async fn message_selects_its_route() {
    let gateway = Gateway::start(&[]);
    let mut socket = gateway.connect().await;
    for (message, expected) in [
        (r#"{"do":"show","route":"named"}"#, "named"),
        (r#"{"do":"show","route":"unknown"}"#, "$default"),
        (r#"{"do":"show","route":"$disconnect"}"#, "$default"),
        ("no json", "$default"),
    ] {
        send(&mut socket, message).await;
        let event: Value = serde_json::from_str(&next_text(&mut socket).await).unwrap();
        assert_eq!(event["requestContext"]["routeKey"], expected, "{message}");
        assert_eq!(event["body"], message);
    }
}

#[tokio::test]
async fn function_failure_keeps_connection() {
    let gateway = Gateway::start(&[]);
    let mut socket = gateway.connect().await;
    let id = connection_id(&mut socket).await;
    for message in [r#"{"do":"fail"}"#, r#"{"do":"exit"}"#] {
        send(&mut socket, message).await;
        let frame = next_text(&mut socket).await;
        let start = format!(
            r#"{{"message": "Internal server error", "connectionId":"{id}", "requestId":""#
        );
        let request_id = frame
            .strip_prefix(&start)
            .unwrap_or_else(|| panic!("{frame}"));
        assert_eq!(request_id.strip_suffix(r#""}"#).unwrap().len(), 16);
    }
    // Routes are one-way: the client sees neither the body nor the status of an answer. The next frame is that of the next `show`.
    send(&mut socket, r#"{"do":"nothing","status":501}"#).await;
    assert_eq!(connection_id(&mut socket).await, id);
}

#[tokio::test]
async fn message_without_route_is_forbidden() {
    let gateway = Gateway::start_with(&[], |dir| {
        common::template(dir).replace(
            "        $default: { FunctionArn: !GetAtt Fixture.Arn }\n",
            "",
        )
    });
    let mut socket = gateway.connect().await;
    send(&mut socket, "{}").await;
    let frame = next_text(&mut socket).await;
    assert!(
        frame.starts_with(r#"{"message": "Forbidden", "connectionId":""#),
        "{frame}"
    );
}

#[tokio::test]
async fn messages_are_dispatched_concurrently() {
    let gateway = Gateway::start(&[]);
    let mut socket = gateway.connect().await;
    send(&mut socket, r#"{"do":"await","file":"signal"}"#).await;
    send(&mut socket, r#"{"do":"touch","file":"signal"}"#).await;
    assert_eq!(next_text(&mut socket).await, "met");
}

#[tokio::test]
async fn in_order_option_serializes_messages() {
    let gateway = Gateway::start(&["--in-order"]);
    let mut socket = gateway.connect().await;
    let sent: Vec<_> = (0..30)
        .map(|n| format!(r#"{{"do":"show","n":{n}}}"#))
        .collect();
    for message in &sent {
        send(&mut socket, message).await;
    }
    for message in &sent {
        let event: Value = serde_json::from_str(&next_text(&mut socket).await).unwrap();
        assert_eq!(event["body"], *message);
    }
}

#[tokio::test]
async fn binary_or_oversized_frame_closes_connection() {
    let gateway = Gateway::start(&[]);
    let text = |length: usize| Message::text("x".repeat(length));
    for (message, expected) in [
        (Message::binary(vec![1]), 1003),
        (text(32 * 1024 + 1), 1009),
        (text(1024 * 1024), 1009),
    ] {
        let mut socket = gateway.connect().await;
        socket.send(message).await.unwrap();
        assert_eq!(next_close(&mut socket).await.0, expected);
    }
    let mut socket = gateway.connect().await;
    socket.send(text(32 * 1024)).await.unwrap();
    let event: Value = serde_json::from_str(&next_text(&mut socket).await).unwrap();
    assert_eq!(event["body"].as_str().unwrap().len(), 32 * 1024);
    let statuses: BTreeSet<_> = eventually("three $disconnect", || {
        let events = gateway.events();
        let statuses: Vec<_> = events
            .iter()
            .filter_map(|event| event["requestContext"]["disconnectStatusCode"].as_u64())
            .collect();
        (statuses.len() == 3).then(|| statuses.into_iter().collect())
    });
    assert_eq!(statuses, BTreeSet::from([1003, 1009]));
}

#[tokio::test]
async fn fragmented_message_over_128_kib_closes() {
    let gateway = Gateway::start(&[]);
    for (last, expected) in [(29 * 1024, None), (32 * 1024 + 1, Some(1009))] {
        let mut socket = gateway.connect().await;
        let body = |length: usize| "x".repeat(length);
        let opening = Frame::message(body(32 * 1024), OpCode::Data(Data::Text), false);
        socket.send(Message::Frame(opening)).await.unwrap();
        for (length, is_last) in [(32 * 1024, false), (32 * 1024, false), (last, true)] {
            let frame = Frame::message(body(length), OpCode::Data(Data::Continue), is_last);
            socket.send(Message::Frame(frame)).await.unwrap();
        }
        match expected {
            Some(code) => assert_eq!(next_close(&mut socket).await.0, code),
            None => {
                let event: Value = serde_json::from_str(&next_text(&mut socket).await).unwrap();
                assert_eq!(event["body"].as_str().unwrap().len(), 3 * 32 * 1024 + last);
            }
        }
    }
}

#[tokio::test]
async fn disconnect_event_has_close_code() {
    for (close, code, reason) in [
        (
            Some(Message::Close(None)),
            1005,
            "Client-side close frame status not set",
        ),
        (
            Some(Message::Close(Some(CloseFrame {
                code: 1001.into(),
                reason: "".into(),
            }))),
            1001,
            "",
        ),
        (None, 1006, ""),
    ] {
        let gateway = Gateway::start(&[]);
        let mut socket = gateway.connect().await;
        match close {
            Some(close) => socket.send(close).await.unwrap(),
            None => drop(socket),
        }
        let event = gateway.event("DISCONNECT");
        assert_eq!(event["requestContext"]["disconnectStatusCode"], code);
        assert_eq!(event["requestContext"]["disconnectReason"], reason);
    }
}

#[tokio::test]
async fn idle_connection_is_closed_despite_pings() {
    // Ten minutes become 600 ms.
    let gateway = Gateway::start(&["--clock-scale", "1000"]);
    let mut socket = gateway.connect().await;
    socket.send(Message::Ping("x".into())).await.unwrap();
    assert!(next(&mut socket).await.is_pong());
    assert_eq!(
        next_close(&mut socket).await,
        (1001, "Going away".to_owned())
    );
    let event = gateway.event("DISCONNECT");
    assert_eq!(event["requestContext"]["disconnectStatusCode"], 1001);
    assert_eq!(event["requestContext"]["disconnectReason"], "Going away");
}

#[tokio::test]
async fn busy_connection_ends_after_two_hours() {
    // Two hours become 7.2 s, ten minutes 600 ms.
    let gateway = Gateway::start(&["--clock-scale", "1000"]);
    let mut socket = gateway.connect().await;
    let mut answered = 0;
    let ended = tokio::time::timeout(DEADLINE, async {
        loop {
            // Each answer counts as traffic and triggers the next message.
            let _ = socket.send(Message::text(r#"{"do":"show"}"#)).await;
            match socket.next().await {
                Some(Ok(Message::Text(_))) => answered += 1,
                Some(Ok(Message::Close(Some(frame)))) => {
                    break (u16::from(frame.code), frame.reason.to_string());
                }
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(ended.await.unwrap(), (1001, "Going away".to_owned()));
    assert!(answered > 0);
}

#[tokio::test]
async fn disconnect_can_be_dropped() {
    let gateway = Gateway::start(&["--fault", "drop-disconnect=1"]);
    let mut socket = gateway.connect().await;
    let id = connection_id(&mut socket).await;
    socket.close(None).await.unwrap();
    let url = gateway.connection_url(&id);
    eventually("the connection is gone", || {
        (http("GET", &url, "").status == 410).then_some(())
    });
    // The events of a later connection come afterwards. A $disconnect would be among the events before them.
    let mut second = gateway.connect().await;
    connection_id(&mut second).await;
    let is_disconnect = |event: &Value| event["requestContext"]["eventType"] == "DISCONNECT";
    assert!(!gateway.events().iter().any(is_disconnect));
}

#[tokio::test]
async fn stopping_gateway_closes_connections() {
    let mut gateway = Gateway::start(&[]);
    let mut socket = gateway.connect().await;
    // After an answer the connection is certainly among those that the gateway closes.
    connection_id(&mut socket).await;
    assert!(gateway.stop().success());
    assert_eq!(next_close(&mut socket).await.0, 1012);
    assert_eq!(
        gateway.event("DISCONNECT")["requestContext"]["disconnectStatusCode"],
        1012
    );
    assert!(!gateway.dir().join("ready.json").exists());
}

#[tokio::test]
async fn function_over_29_seconds_times_out() {
    let gateway = Gateway::start_with(&[], |dir| {
        common::template(dir).replace("    Timeout: 20\n", "    Timeout: 60\n")
    });
    let mut socket = gateway.connect().await;
    send(&mut socket, r#"{"do":"await","file":"never"}"#).await;
    let frame = next_text(&mut socket).await;
    let start = r#"{"message": "Endpoint request timed out", "connectionId":""#;
    assert!(frame.starts_with(start), "{frame}");
    // The connection stays open.
    connection_id(&mut socket).await;
}
