//! A gateway that is killed without warning leaves no function process behind and keeps acknowledged writes.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails where it stands"
)]

mod common;

use std::path::Path;

use common::{Gateway, connect_to, eventually, send, try_http};
use serde_json::{Value, json};

#[tokio::test]
async fn killed_gateway_ends_all_functions() {
    let mut gateway = Gateway::start(&[]);
    let mut socket = connect_to(&format!("{}?token=alice", gateway.url("stage")), &[])
        .await
        .unwrap();
    // One function waits for a file that never appears. The second message starts another function, which then idles.
    send(&mut socket, r#"{"do":"await","file":"never"}"#).await;
    send(&mut socket, r#"{"do":"touch","file":"touched"}"#).await;
    let functions = eventually("one function is busy and one idle", || {
        let functions = functions(&gateway);
        let busy = functions
            .iter()
            .filter(|function| function["busy"] == true)
            .count();
        (busy == 1 && functions.len() > 1).then_some(functions)
    });
    gateway.kill();
    for function in functions {
        let pid = function["pid"].as_u64().unwrap();
        eventually("a function has ended", || has_ended(pid).then_some(()));
    }
}

#[tokio::test]
async fn sigterm_ends_busy_functions() {
    let mut gateway = Gateway::start(&[]);
    let mut socket = connect_to(&format!("{}?token=alice", gateway.url("stage")), &[])
        .await
        .unwrap();
    send(&mut socket, r#"{"do":"await","file":"never"}"#).await;
    let functions = eventually("a function is busy", || {
        let functions = functions(&gateway);
        functions
            .iter()
            .any(|function| function["busy"] == true)
            .then_some(functions)
    });
    assert!(gateway.stop().success());
    for function in functions {
        assert!(
            has_ended(function["pid"].as_u64().unwrap()),
            "stopping waits for every process"
        );
    }
}

#[test]
fn acknowledged_writes_survive() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    let mut first = Gateway::start_with(&["--data", data], table);
    for number in 0..50 {
        let item = json!({ "id": { "S": format!("item-{number}") } });
        dynamodb(
            &first,
            "PutItem",
            json!({ "TableName": "messaging-Things", "Item": item }),
        );
    }
    first.kill();

    let second = Gateway::start_with(&["--data", data], table);
    let kept = dynamodb(
        &second,
        "Scan",
        json!({ "TableName": "messaging-Things", "Select": "COUNT" }),
    );
    assert_eq!(kept["Count"], 50);
}

fn table(_: &Path) -> String {
    "Resources:
  Things:
    Type: AWS::DynamoDB::Table
    Properties:
      AttributeDefinitions: [{ AttributeName: id, AttributeType: S }]
      KeySchema: [{ AttributeName: id, KeyType: HASH }]
"
    .to_owned()
}

fn dynamodb(gateway: &Gateway, operation: &str, request: Value) -> Value {
    let target = format!("DynamoDB_20120810.{operation}");
    let headers = [
        ("content-type", "application/x-amz-json-1.0"),
        ("x-amz-target", target.as_str()),
    ];
    let answer = try_http(
        "POST",
        &format!("{}/", gateway.url("dynamodb")),
        &headers,
        request.to_string().as_bytes(),
    )
    .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn functions(gateway: &Gateway) -> Vec<Value> {
    let url = format!("{}/_local/functions", gateway.url("lambda"));
    let answer = try_http("GET", &url, &[], b"").unwrap();
    serde_json::from_str(&answer.body).unwrap()
}

/// Returns true if the process has ended. A zombie process counts as ended.
fn has_ended(pid: u64) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z')),
        Err(_) => true,
    }
}
