//! The DynamoDB engine behind the gateway's HTTP front end: the wire format, persisted tables and faults.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails where it stands"
)]

use std::fs::Permissions;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use local_gateway::dynamodb::{Engine, EngineError, EngineOptions};
use local_gateway::fault::{Fault, Faults};
use local_gateway::rights::Rights;
use local_gateway::template::Table;
use serde_json::{Value, json};

/// A test that takes longer fails instead of hanging.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn items_round_trip_errors_match_dynamodb() {
    within(async {
        let engine = engine(|_| {}).await;
        put(&engine, "a", "first").await;
        assert_eq!(get(&engine, "a").await["text"]["S"], "first");
        let (status, body) = call(
            &engine,
            "GetItem",
            &json!({ "TableName": "Absent", "Key": key("a") }),
        )
        .await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(
            body["__type"]
                .as_str()
                .unwrap()
                .ends_with("#ResourceNotFoundException")
        );
        let condition = json!({
            "TableName": "Things",
            "Item": item("a", "second"),
            "ConditionExpression": "attribute_not_exists(id)",
        });
        let (status, body) = call(&engine, "PutItem", &condition).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(
            body["__type"]
                .as_str()
                .unwrap()
                .ends_with("#ConditionalCheckFailedException")
        );
        let (_, body) = call(
            &engine,
            "DescribeTimeToLive",
            &json!({ "TableName": "Things" }),
        )
        .await;
        assert_eq!(body["TimeToLiveDescription"]["AttributeName"], "ttl");
        engine.shut_down().await;
    })
    .await;
}

#[tokio::test]
async fn malformed_requests_get_dynamodb_errors() {
    within(async {
        let engine = engine(|_| {}).await;
        let (status, body) = call(&engine, "GetItem", &json!({ "TableName": 1, "Key": {} })).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(
            body["__type"]
                .as_str()
                .unwrap()
                .ends_with("#SerializationException"),
            "{body}"
        );
        let (_, body) = call(&engine, "GetItem", &json!({ "Key": key("a") })).await;
        assert!(
            body["__type"]
                .as_str()
                .unwrap()
                .ends_with("#ValidationException"),
            "{body}"
        );
        let (status, _) = call(&engine, "CreateGlobalTable", &json!({})).await;
        assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
        engine.shut_down().await;
    })
    .await;
}

#[tokio::test]
async fn repeated_transaction_token_is_ignored() {
    within(async {
        let engine = engine(|_| {}).await;
        let transaction = json!({
            "ClientRequestToken": "the-same",
            "TransactItems": [{ "Update": {
                "TableName": "Things",
                "Key": key("counter"),
                "UpdateExpression": "ADD n :one",
                "ExpressionAttributeValues": { ":one": { "N": "1" } },
            } }],
        });
        for _ in 0..2 {
            let (status, body) = call(&engine, "TransactWriteItems", &transaction).await;
            assert_eq!(status, StatusCode::OK, "{body}");
        }
        assert_eq!(
            get(&engine, "counter").await["n"]["N"],
            "2",
            "the token is dropped before the engine"
        );
        engine.shut_down().await;
    })
    .await;
}

#[tokio::test]
async fn persisted_tables_are_private() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let files = || -> Vec<_> {
            let entries = std::fs::read_dir(&data).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect()
        };
        for round in ["first", "second"] {
            let engine = engine(|options| options.data = Some(data.clone())).await;
            put(&engine, round, "kept").await;
            assert_eq!(get(&engine, "first").await["text"]["S"], "kept");
            assert_eq!(mode(&data), 0o700);
            assert!(files().len() >= 2, "the tables and the lock");
            for file in files() {
                assert_eq!(mode(&file), 0o600, "{}", file.display());
            }
            engine.shut_down().await;
            // An older version left files that everybody may read.
            for file in files() {
                std::fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn persisted_database_refuses_other_schema() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let keep = |options: &mut EngineOptions| options.data = Some(folder.path().join("data"));
        let first = engine(keep).await;
        put(&first, "a", "kept").await;
        first.shut_down().await;

        let second = engine(keep).await;
        assert_eq!(get(&second, "a").await["text"]["S"], "kept");
        let mut beside = options();
        keep(&mut beside);
        let error = Engine::start(beside).await.unwrap_err();
        assert!(matches!(error, EngineError::InUse(_)), "{error}");
        second.shut_down().await;

        let mut options = options();
        keep(&mut options);
        options.tables[0].definition["KeySchema"] =
            json!([{ "AttributeName": "other", "KeyType": "HASH" }]);
        options.tables[0].definition["AttributeDefinitions"] =
            json!([{ "AttributeName": "other", "AttributeType": "S" }]);
        let error = Engine::start(options).await.unwrap_err();
        assert!(
            matches!(&error, EngineError::Changed { table, what: "keys" } if table == "Things"),
            "{error}"
        );
    })
    .await;
}

#[tokio::test]
async fn lost_reply_applies_failure_does_not() {
    within(async {
        let folder = tempfile::tempdir().unwrap();
        let with = |fault: &str| {
            let fault: Fault = fault.parse().unwrap();
            let data = Some(folder.path().to_owned());
            move |options: &mut EngineOptions| {
                options.data = data;
                options.faults = Faults::new(&[fault], 3);
            }
        };
        let losing = engine(with("lose-dynamodb-reply=1")).await;
        let request = |id: &str| json!({ "TableName": "Things", "Item": item(id, "x") });
        assert!(
            post(&losing.url(), "PutItem", &request("lost"))
                .await
                .is_err(),
            "the connection is closed instead"
        );
        losing.shut_down().await;

        let failing = engine(with("fail-dynamodb=1")).await;
        let mut types = Vec::new();
        for _ in 0..20 {
            let (status, body) = call(&failing, "PutItem", &request("failed")).await;
            let name = body["__type"]
                .as_str()
                .unwrap()
                .rsplit_once('#')
                .unwrap()
                .1
                .to_owned();
            types.push((status.as_u16(), name));
        }
        types.sort();
        types.dedup();
        let expected = [
            (400, "ProvisionedThroughputExceededException"),
            (500, "InternalServerError"),
        ];
        assert_eq!(
            types,
            expected.map(|(status, name)| (status, name.to_owned()))
        );
        failing.shut_down().await;

        let conflicting = engine(with("conflict-dynamodb=1")).await;
        let put = json!({ "Put": request("conflicted") });
        let (_, body) = call(
            &conflicting,
            "TransactWriteItems",
            &json!({ "TransactItems": [put] }),
        )
        .await;
        assert_eq!(
            body["CancellationReasons"][0]["Code"],
            "TransactionConflict"
        );
        assert_eq!(get(&conflicting, "lost").await["text"]["S"], "x");
        for absent in ["failed", "conflicted"] {
            assert_eq!(get(&conflicting, absent).await, Value::Null);
        }
        conflicting.shut_down().await;
    })
    .await;
}

#[tokio::test]
async fn consumed_units_reported_only_on_request() {
    within(async {
        let engine = engine(|_| {}).await;
        put(&engine, "a", &"x".repeat(1500)).await;
        let read = json!({ "TableName": "Things", "Key": key("a") });
        let (_, body) = call(&engine, "GetItem", &read).await;
        assert!(body.get("ConsumedCapacity").is_none(), "{body}");
        assert_eq!(
            units(&engine).await,
            json!({ "read": 0.5, "write": 2.0, "requests": 2 })
        );
        let mut read = read;
        read["ConsistentRead"] = json!(true);
        read["ReturnConsumedCapacity"] = json!("TOTAL");
        let (_, body) = call(&engine, "GetItem", &read).await;
        assert_eq!(body["ConsumedCapacity"]["CapacityUnits"], 1.0);
        let condition = json!({
            "TableName": "Things",
            "Item": item("a", "second"),
            "ConditionExpression": "attribute_not_exists(id)",
        });
        let (status, _) = call(&engine, "PutItem", &condition).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let transaction = json!({ "TransactItems": [
            { "Put": { "TableName": "Things", "Item": item("b", "") } },
            { "Put": { "TableName": "Things", "Item": item("c", "") } },
        ] });
        let (_, body) = call(&engine, "TransactWriteItems", &transaction).await;
        assert!(body.get("ConsumedCapacity").is_none(), "{body}");
        assert_eq!(
            units(&engine).await,
            json!({ "read": 1.5, "write": 7.0, "requests": 5 })
        );
        engine.shut_down().await;
    })
    .await;
}

#[tokio::test]
async fn taken_port_error_names_option() {
    within(async {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut options = options();
        options.port = taken.local_addr().unwrap().port();
        let error = Engine::start(options).await.unwrap_err().to_string();
        assert!(
            error.contains(&taken.local_addr().unwrap().to_string()),
            "{error}"
        );
        assert!(error.contains("--dynamodb-port"), "{error}");
    })
    .await;
}

fn options() -> EngineOptions {
    let definition = json!({
        "TableName": "Things",
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            { "AttributeName": "id", "AttributeType": "S" },
            { "AttributeName": "shard", "AttributeType": "N" },
        ],
        "KeySchema": [{ "AttributeName": "id", "KeyType": "HASH" }],
        "GlobalSecondaryIndexes": [{
            "IndexName": "shard",
            "KeySchema": [{ "AttributeName": "shard", "KeyType": "HASH" }],
            "Projection": { "ProjectionType": "KEYS_ONLY" },
        }],
    });
    let table = Table {
        id: "Things".to_owned(),
        name: "Things".to_owned(),
        definition,
        ttl_attribute: Some("ttl".to_owned()),
    };
    EngineOptions {
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 0,
        data: None,
        tables: vec![table],
        faults: Faults::default(),
        rights: Rights::default(),
    }
}

async fn engine(change: impl FnOnce(&mut EngineOptions)) -> Engine {
    let mut options = options();
    change(&mut options);
    Engine::start(options).await.unwrap()
}

fn key(id: &str) -> Value {
    json!({ "id": { "S": id } })
}

fn item(id: &str, text: &str) -> Value {
    json!({ "id": { "S": id }, "text": { "S": text } })
}

async fn put(engine: &Engine, id: &str, text: &str) {
    let (status, body) = call(
        engine,
        "PutItem",
        &json!({ "TableName": "Things", "Item": item(id, text) }),
    )
    .await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

async fn get(engine: &Engine, id: &str) -> Value {
    let (status, mut body) = call(
        engine,
        "GetItem",
        &json!({ "TableName": "Things", "Key": key(id) }),
    )
    .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["Item"].take()
}

async fn units(engine: &Engine) -> Value {
    let url = format!("{}/_local/units", engine.url());
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let response = client.get(url.parse().unwrap()).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

async fn call(engine: &Engine, operation: &str, request: &Value) -> (StatusCode, Value) {
    post(&engine.url(), operation, request).await.unwrap()
}

async fn post(url: &str, operation: &str, request: &Value) -> Result<(StatusCode, Value), Error> {
    let request = Request::post(url)
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
        .body(Full::new(Bytes::from(request.to_string())))
        .unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let response = client.request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

async fn within(test: impl Future<Output = ()>) {
    tokio::time::timeout(DEADLINE, test)
        .await
        .expect("the test hangs");
}
