//! The `@connections` API as functions use it.

mod common;

use common::{Gateway, connection_id, eventually, http, next_close, next_text, try_http};

const UNKNOWN: &str = "R1kmxc2VNjMCFIA=";

#[tokio::test]
async fn posts_become_ordered_text_frames() {
    let gateway = Gateway::start(&[]);
    let mut socket = gateway.connect().await;
    let url = gateway.connection_url(&connection_id(&mut socket).await);
    for n in 0..20 {
        let answer = http("POST", &url, &format!("message {n} é"));
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    }
    for n in 0..20 {
        assert_eq!(next_text(&mut socket).await, format!("message {n} é"));
    }
    let encoded = url.replace("/@connections", "/%40connections");
    assert_eq!(http("POST", &encoded, "x").status, 200);
    assert_eq!(next_text(&mut socket).await, "x");
}

#[tokio::test]
async fn get_describes_connection() {
    let gateway = Gateway::start(&[]);
    let mut socket = gateway
        .try_connect("token=alice", &[("user-agent", "test/1")])
        .await
        .unwrap();
    let url = gateway.connection_url(&connection_id(&mut socket).await);
    let answer = http("GET", &url, "");
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["identity"]["sourceIp"], "127.0.0.1");
    assert_eq!(body["identity"]["userAgent"], "test/1");
    for name in ["connectedAt", "lastActiveAt"] {
        let time = body[name].as_str().unwrap();
        assert_eq!(time.len(), "2024-02-19T07:11:42.790Z".len(), "{time}");
    }
    assert!(body["lastActiveAt"].as_str().unwrap() >= body["connectedAt"].as_str().unwrap());
}

#[tokio::test]
async fn delete_closes_connection_with_1000() {
    let gateway = Gateway::start(&[]);
    let mut socket = gateway.connect().await;
    let url = gateway.connection_url(&connection_id(&mut socket).await);
    assert_eq!(http("POST", &url, "last").status, 200);
    assert_eq!(http("DELETE", &url, "").status, 204);
    for method in ["POST", "GET", "DELETE"] {
        let answer = http(method, &url, "");
        assert_eq!(answer.status, 410, "{method}");
        assert_eq!(answer.body, "");
        assert_eq!(answer.header("x-amzn-errortype"), Some("GoneException"));
    }
    assert_eq!(next_text(&mut socket).await, "last");
    assert_eq!(next_close(&mut socket).await.0, 1000);
    let event = gateway.event("DISCONNECT");
    assert_eq!(event["requestContext"]["disconnectStatusCode"], 1000);
    assert_eq!(
        event["requestContext"]["disconnectReason"],
        "Connection Closed Normally"
    );
}

#[tokio::test]
async fn unknown_connection_gone_other_stage_forbidden() {
    let gateway = Gateway::start(&[]);
    for id in [UNKNOWN, "nonsense"] {
        assert_eq!(http("POST", &gateway.connection_url(id), "x").status, 410);
    }
    let wrong = gateway.connection_url(UNKNOWN).replace("/prod/", "/dev/");
    let answer = http("POST", &wrong, "x");
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.header("x-amzn-errortype"),
        Some("ForbiddenException")
    );
}

#[tokio::test]
async fn requests_of_pages_are_forbidden() {
    let gateway = Gateway::start(&[]);
    let mut socket = gateway.connect().await;
    let url = gateway.connection_url(&connection_id(&mut socket).await);
    for method in ["POST", "GET", "DELETE"] {
        for header in [
            ("Origin", "https://evil.example"),
            ("Origin", gateway.url("edge")),
            ("Sec-Fetch-Site", "same-site"),
        ] {
            let answer = try_http(method, &url, &[header], b"forged").unwrap();
            assert_eq!(answer.status, 403, "{method} {header:?}");
        }
    }
    assert_eq!(http("POST", &url, "genuine").status, 200);
    assert_eq!(next_text(&mut socket).await, "genuine");
}

#[tokio::test]
async fn post_over_128_kib_is_refused() {
    let gateway = Gateway::start(&[]);
    let mut socket = gateway.connect().await;
    let url = gateway.connection_url(&connection_id(&mut socket).await);
    let most = "x".repeat(128 * 1024);
    assert_eq!(http("POST", &url, &most).status, 200);
    assert_eq!(next_text(&mut socket).await, most);
    let answer = http("POST", &url, &(most + "x"));
    assert_eq!(answer.status, 413);
    assert_eq!(
        answer.header("x-amzn-errortype"),
        Some("PayloadTooLargeException")
    );
    let binary = try_http("POST", &url, &[], &[0xff, 0xfe]).unwrap();
    assert_eq!(binary.status, 400);
}

#[tokio::test]
async fn unread_posts_end_in_429() {
    let gateway = Gateway::start(&[]);
    let mut socket = gateway.connect().await;
    let url = gateway.connection_url(&connection_id(&mut socket).await);
    let body = "x".repeat(128 * 1024);
    let mut posted = 0;
    // The kernel's buffers of both ends fill first, so many posts succeed before one is throttled.
    let answer = loop {
        let answer = http("POST", &url, &body);
        if answer.status != 200 || posted == 1_000 {
            break answer;
        }
        posted += 1;
    };
    assert_eq!(answer.status, 429, "after {posted} posts");
    assert_eq!(
        answer.header("x-amzn-errortype"),
        Some("LimitExceededException")
    );
    for _ in 0..posted {
        assert_eq!(next_text(&mut socket).await.len(), body.len());
    }
    assert_eq!(http("POST", &url, "again").status, 200);
    assert_eq!(next_text(&mut socket).await, "again");
}

#[tokio::test]
async fn delete_closes_connection_with_full_buffer() {
    let gateway = Gateway::start(&[]);
    let mut socket = gateway.connect().await;
    let url = gateway.connection_url(&connection_id(&mut socket).await);
    let body = "x".repeat(128 * 1024);
    // The client is still connected but reads nothing.
    while http("POST", &url, &body).status == 200 {}
    assert_eq!(http("DELETE", &url, "").status, 204);
    let event = gateway.event("DISCONNECT");
    assert_eq!(event["requestContext"]["disconnectStatusCode"], 1000);
    eventually("the connection is gone", || {
        (http("GET", &url, "").status == 410).then_some(())
    });
    drop(socket);
}

#[tokio::test(flavor = "multi_thread")]
async fn post_before_upgrade_returns_410() {
    // This seed delays the upgrade by almost two seconds, the most that the fault allows.
    let gateway = Gateway::start(&["--fault", "delay-upgrade=1", "--seed", "49"]);
    let url = format!("{}?token=alice", gateway.url("stage"));
    let connecting = tokio::spawn(async move { common::connect_to(&url, &[]).await });
    let event = gateway.event("CONNECT");
    let id = event["requestContext"]["connectionId"].as_str().unwrap();
    let url = gateway.connection_url(id);
    assert_eq!(http("POST", &url, "too early").status, 410);
    let mut socket = connecting.await.unwrap().unwrap();
    eventually("the connection is open", || {
        (http("POST", &url, "now").status == 200).then_some(())
    });
    assert_eq!(next_text(&mut socket).await, "now");
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_during_handshake_invokes_disconnect() {
    let gateway = Gateway::start(&["--fault", "delay-upgrade=1", "--seed", "5"]);
    let connecting = tokio::spawn({
        let url = format!("{}?token=alice", gateway.url("stage"));
        async move { common::connect_to(&url, &[]).await.map(drop) }
    });
    let connect = gateway.event("CONNECT");
    connecting.abort();
    let disconnect = gateway.event("DISCONNECT");
    assert_eq!(
        disconnect["requestContext"]["connectionId"],
        connect["requestContext"]["connectionId"]
    );
    assert_eq!(disconnect["requestContext"]["disconnectStatusCode"], 1006);
}

#[tokio::test]
async fn post_faults_apply() {
    let gateway = Gateway::start(&["--fault", "throttle-post=1"]);
    let answer = http("POST", &gateway.connection_url(UNKNOWN), "x");
    assert_eq!(answer.status, 429);

    let gateway = Gateway::start(&["--fault", "lose-post-reply=1"]);
    let mut socket = gateway.connect().await;
    common::send(&mut socket, r#"{"do":"nothing"}"#).await;
    let message = eventually("the message's event", || {
        gateway
            .events()
            .into_iter()
            .find(|event| event["requestContext"]["eventType"] == "MESSAGE")
    });
    let id = message["requestContext"]["connectionId"].as_str().unwrap();
    let lost = try_http("POST", &gateway.connection_url(id), &[], b"sent");
    assert!(lost.is_none(), "{lost:?}");
    assert_eq!(next_text(&mut socket).await, "sent");
}
