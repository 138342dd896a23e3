//! Checks docs/openapi.yaml against the back-end API of a local gateway. Every documented answer occurs and matches its schema.
//! Undocumented methods are refused, and the examples match their schemas.
#![cfg(test)]

mod documents;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use documents::{Document, Schemas};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tests::{DEADLINE, Gateway, dynamodb};

/// The statuses that a local gateway never answers, because it checks no signature and is not busy.
const NEVER: [&str; 2] = ["403", "503"];

#[tokio::test(flavor = "multi_thread")]
async fn documented_answers_match_schemas() -> Result<()> {
    let api = Api::start()?;
    let mut seen = BTreeSet::new();
    for (method, path, body, status) in requests() {
        if status == 410 {
            api.forget("d#team", 1..=2).await?;
        }
        let answer = api.send(&method, path, &body).await?;
        ensure!(
            answer.status == status,
            "{method} {path} {body}: {} {}",
            answer.status,
            answer.text
        );
        let (template, operation) = api.operation(&method, path)?;
        let what = format!("{method} {template} {status}");
        api.check(&answer, &operation)
            .with_context(|| what.clone())?;
        seen.insert(what);
    }
    let mut documented = BTreeSet::new();
    for (template, method, operation) in api.operations()? {
        for status in api.document.keys(&format!("{operation}/responses"))? {
            // This answer requires a channel that ends between the change and the answer. A test cannot force that.
            let is_race = method == "PUT" && template.ends_with("{channel}") && status == "404";
            if !NEVER.contains(&status.as_str()) && !is_race {
                documented.insert(format!("{method} {template} {status}"));
            }
        }
    }
    assert_eq!(documented, seen);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn undocumented_methods_and_paths_are_refused() -> Result<()> {
    let api = Api::start()?;
    let mut methods: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (template, method, _) in api.operations()? {
        methods.entry(template).or_default().insert(method);
    }
    for (template, documented) in methods {
        let path = template.replace(['{', '}'], "");
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"] {
            if documented.contains(method) {
                continue;
            }
            let answer = api.send(&method.parse()?, &path, "{}").await?;
            ensure!(answer.status == 405, "{method} {path}: {}", answer.status);
            let allow = answer.headers.get("allow").context("no `Allow`")?;
            let allow = allow.to_str()?.split(", ").map(str::to_owned).collect();
            assert_eq!(documented, allow, "{path}");
            api.check_problem(&answer)?;
        }
    }
    for path in [
        "/domains",
        // API Gateway decodes a path once before the service sees it. The service does not decode it again.
        "/domains/d/subscribers/a%2Fb",
        "/%2564omains/d/subscribers/s",
        "/domains/d/%73ubscribers%252Fs",
        "//domains/d/subscribers/s",
        "/domains/d/subscribers",
        "/domains/d/subscribers/s/",
        "/domains/d/channels/c/nothing",
        "/domains/d/channels/c/subscribers/s/more",
    ] {
        let answer = api.send(&Method::GET, path, "").await?;
        ensure!(answer.status == 404, "{path}: {}", answer.status);
        api.check_problem(&answer)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_get_400() -> Result<()> {
    let api = Api::start()?;
    let tokens = "/domains/d/subscribers/s/tokens";
    let channel = "/domains/d/channels/c";
    let messages = "/domains/d/subscribers/s/messages";
    let deep = format!(
        r#"{{"from":"a","content":{}{}}}"#,
        "[".repeat(64),
        "]".repeat(64)
    );
    for (method, path, body) in [
        ("POST", tokens, "[]"),
        ("POST", tokens, "[60]"),
        ("POST", tokens, "null"),
        ("POST", tokens, "\"x\""),
        ("POST", tokens, "{} {}"),
        ("POST", tokens, "\u{feff}{}"),
        ("POST", tokens, r#"{"expires-in":null}"#),
        ("POST", tokens, r#"{"expires-in":0}"#),
        ("POST", tokens, r#"{"expires-in":-1}"#),
        ("POST", tokens, r#"{"expires-in":1.5}"#),
        ("POST", tokens, r#"{"expires-in":2592001}"#),
        ("POST", tokens, r#"{"expires-in":1e400}"#),
        ("POST", tokens, r#"{"expires-in":18446744073709551616}"#),
        ("POST", tokens, r#"{"expires-in":60,"expires-in":60}"#),
        ("POST", tokens, r#"{"no-such-field":1}"#),
        ("POST", "/tokens/invalidate", "[\"token\"]"),
        ("POST", "/tokens/invalidate", r#"{"token":1}"#),
        ("PUT", channel, r#"{"name":"n","attributes":null}"#),
        ("PUT", channel, r#"{"name":"n","attributes":[]}"#),
        ("PUT", channel, r#"{"name":"n","attributes":"x"}"#),
        ("PUT", channel, r#"{"name":"\ud800"}"#),
        ("PUT", channel, r#"{"name":"  "}"#),
        ("PUT", channel, r#"{"name":"\u0000"}"#),
        ("PUT", channel, r#"{"name":"a\u202eb"}"#),
        ("POST", messages, r#"{"from":"a"}"#),
        (
            "POST",
            messages,
            r#"{"from":"a","content":1,"attributes":1}"#,
        ),
        ("POST", messages, deep.as_str()),
        ("POST", messages, r#"{"from":"a","content":[1e999]}"#),
        ("PUT", channel, r#"{"name":"n","attributes":{"a":1e999}}"#),
        ("GET", "/domains/d%23/subscribers/s", ""),
        ("GET", "/domains/d/subscribers/%00", ""),
        ("GET", "/domains/d%2565/subscribers/s", ""),
        ("GET", "/domains/d/channels/a%252Fsubscribers", ""),
        ("GET", "/domains/d/subscribers/..", ""),
        ("GET", "/domains/%2E/subscribers/s", ""),
        ("GET", "/domains/d/channels/-", ""),
        ("GET", "/domains/d/subscribers/%FF", ""),
        ("GET", "/domains//subscribers/s", ""),
    ] {
        let answer = api.send(&method.parse()?, path, body).await?;
        ensure!(
            answer.status == 400,
            "{method} {path} {body}: {} {}",
            answer.status,
            answer.text
        );
        api.check_problem(&answer)?;
    }
    // Ids may have unnecessary escapes, a number may have any notation, and content may have any character.
    for (method, path, body, status) in [
        ("GET", "/domains/d/subscribers/a%2Bb%40c", "", 200),
        ("GET", "/%64omains/%64/subscribers/s", "", 200),
        ("POST", tokens, r#"{"expires-in":6.0e1}"#, 201),
        ("POST", tokens, "", 201),
        ("POST", tokens, " { } ", 201),
        ("PUT", channel, r#"{"name":" \u200f\u00e9 "}"#, 201),
        ("POST", messages, r#"{"from":"a","content":null}"#, 201),
        (
            "POST",
            messages,
            r#"{"from":"a","content":"\u0000 \ud83d\ude00"}"#,
            201,
        ),
        (
            "GET",
            "/domains/d/channels/c/events?limit=5.0&no-such=1",
            "",
            200,
        ),
    ] {
        let answer = api.send(&method.parse()?, path, body).await?;
        ensure!(
            answer.status == status,
            "{method} {path} {body}: {} {}",
            answer.status,
            answer.text
        );
    }
    Ok(())
}

#[test]
fn examples_match_schemas() -> Result<()> {
    let document = Document::read("docs/openapi.yaml")?.closed();
    let mut schemas = document.schemas()?;
    let mut checked = 0;
    for pointer in pointers(document.at("")?, |it| it.get("schema").is_some()) {
        let media = document.at(&pointer)?;
        let one = media.get("example").into_iter();
        let many = media.get("examples").and_then(Value::as_object);
        let many = many.into_iter().flatten().map(|(_, it)| &it["value"]);
        for example in one.chain(many) {
            let schema = schemas.compile(&format!("{pointer}/schema"))?;
            schemas.check(schema, example).context(pointer.clone())?;
            checked += 1;
        }
    }
    ensure!(checked > 20, "only {checked} examples were found");
    Ok(())
}

#[test]
fn shared_schemas_are_identical() -> Result<()> {
    let openapi = Document::read("docs/openapi.yaml")?;
    let asyncapi = Document::read("docs/asyncapi.yaml")?;
    let names = openapi.keys("/components/schemas")?;
    let both: Vec<String> = asyncapi
        .keys("/components/schemas")?
        .intersection(&names)
        .cloned()
        .collect();
    ensure!(both.len() > 10, "the documents share only {both:?}");
    for name in both {
        let pointer = format!("/components/schemas/{name}");
        assert_eq!(openapi.at(&pointer)?, asyncapi.at(&pointer)?, "{name}");
    }
    Ok(())
}

/// Returns requests whose order produces every documented answer.
fn requests() -> Vec<(Method, &'static str, String, u16)> {
    let large = |field: &str, bytes: usize| {
        let mut body = json!({"name": "n", "from": "alice", "content": 1});
        let value = "x".repeat(bytes);
        let is_content = field == "content";
        body[field] = if is_content {
            json!(value)
        } else {
            json!({ "a": value })
        };
        if let Some(fields) = body.as_object_mut() {
            fields.remove(if is_content { "name" } else { "from" });
            if !is_content {
                fields.remove("content");
            }
        }
        body.to_string()
    };
    let from = |from: &str, content: u8| {
        json!({"from": from, "content": content, "message-id": "m-1"}).to_string()
    };
    let get = |path, status| (Method::GET, path, String::new(), status);
    let delete = |path, status| (Method::DELETE, path, String::new(), status);
    let put = |path, body: &str, status| (Method::PUT, path, body.to_owned(), status);
    let post = |path, body: &str, status| (Method::POST, path, body.to_owned(), status);
    vec![
        post("/domains/d/subscribers/bob/tokens", "", 201),
        post(
            "/domains/d/subscribers/bob/tokens",
            r#"{"expires-in":0}"#,
            400,
        ),
        delete("/domains/d/subscribers/bob/tokens", 204),
        delete("/domains/d/subscribers/b%20b/tokens", 400),
        post("/tokens/invalidate", r#"{"token":"nobody's"}"#, 204),
        post("/tokens/invalidate", "{}", 400),
        get("/domains/d/subscribers/bob", 200),
        get("/domains/d/subscribers/b%20b", 400),
        post("/domains/d/subscribers/bob/disconnect", "", 204),
        post("/domains/d%23/subscribers/bob/disconnect", "", 400),
        post(
            "/domains/d/subscribers/bob/messages",
            &from("alice", 1),
            201,
        ),
        post(
            "/domains/d/subscribers/bob/messages",
            &from("alice", 1),
            200,
        ),
        post(
            "/domains/d/subscribers/bob/messages",
            &from("alice", 2),
            409,
        ),
        post("/domains/d/subscribers/bob/messages", &from("bob", 1), 400),
        post(
            "/domains/d/subscribers/bob/messages",
            &large("content", 16_384),
            413,
        ),
        put("/domains/d/channels/team", r#"{"name":"Team"}"#, 201),
        put("/domains/d/channels/team", r#"{"name":"The team"}"#, 200),
        put("/domains/d/channels/team", r#"{"name":""}"#, 400),
        put("/domains/d/channels/team", &large("attributes", 4_096), 413),
        get("/domains/d/channels/team", 200),
        get("/domains/d/channels/te%00am", 400),
        get("/domains/d/channels/nothing", 404),
        put("/domains/d/channels/team/subscribers/alice", "", 204),
        put(
            "/domains/d/channels/team/subscribers/bob",
            r#"{"administrator":false}"#,
            204,
        ),
        put(
            "/domains/d/channels/team/subscribers/bob",
            r#"{"administrator":1}"#,
            400,
        ),
        put(
            "/domains/d/channels/team/subscribers/alice",
            r#"{"administrator":false}"#,
            409,
        ),
        put("/domains/d/channels/nothing/subscribers/alice", "", 404),
        get("/domains/d/channels/team/subscribers?limit=1", 200),
        get("/domains/d/channels/team/subscribers?after=alice", 200),
        get("/domains/d/channels/team/subscribers?limit=0", 400),
        get("/domains/d/channels/nothing/subscribers", 404),
        post("/domains/d/channels/team/messages", &from("alice", 1), 201),
        post("/domains/d/channels/team/messages", &from("alice", 1), 200),
        post("/domains/d/channels/team/messages", &from("alice", 2), 409),
        post("/domains/d/channels/team/messages", &from("a b", 1), 400),
        post(
            "/domains/d/channels/team/messages",
            &from("stranger", 1),
            404,
        ),
        post(
            "/domains/d/channels/team/messages",
            &large("content", 16_384),
            413,
        ),
        delete("/domains/d/channels/team/subscribers/bob", 204),
        delete("/domains/d/channels/team/subscribers/nobody", 204),
        delete("/domains/d/channels/team/subscribers/b%20b", 400),
        delete("/domains/d/channels/nothing/subscribers/bob", 404),
        get("/domains/d/channels/team/events", 200),
        get("/domains/d/channels/team/events?after=1&limit=2", 200),
        get("/domains/d/channels/team/events?before=2", 200),
        get("/domains/d/channels/team/events?after=1&before=2", 400),
        get("/domains/d/channels/nothing/events", 404),
        // The test deletes the channel's first two events before this request.
        get("/domains/d/channels/team/events?after=1", 410),
        get("/domains/d/channels/team/events?after=0", 200),
        get("/domains/d/channels/team/events?after=2", 200),
        delete("/domains/d/channels/team", 204),
        delete("/domains/d/channels/team", 204),
        delete("/domains/d/channels/t%20m", 400),
        delete("/domains/d/channels/nothing", 404),
        put("/domains/d/channels/team", r#"{"name":"Team"}"#, 409),
        post("/domains/d/subscribers/bob/erase", "", 202),
        post("/domains/d/subscribers/b%20b/erase", "", 400),
    ]
}

/// The API of a local gateway, and its document.
struct Api {
    gateway: Gateway,
    document: Document,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn content_type(&self) -> Option<&str> {
        self.headers.get("content-type")?.to_str().ok()
    }
}

impl Api {
    fn start() -> Result<Self> {
        Ok(Self {
            gateway: Gateway::start::<&str>(&[])?,
            document: Document::read("docs/openapi.yaml")?.closed(),
        })
    }

    /// Deletes events as their expiry would.
    async fn forget(&self, log: &str, sequences: RangeInclusive<u64>) -> Result<()> {
        for sequence in sequences {
            let key = json!({ "channel": { "S": log }, "sequence": { "N": sequence.to_string() } });
            let body = json!({ "TableName": "messaging-Events", "Key": key });
            dynamodb(self.gateway.urls(), "DeleteItem", &body).await?;
        }
        Ok(())
    }

    async fn send(&self, method: &Method, path: &str, body: &str) -> Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.gateway.urls().api))
            .body(Full::new(Bytes::from(body.to_owned())))?;
        let exchange = async {
            let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
            let (head, body) = client.request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                text: String::from_utf8(body.into())?,
            })
        };
        let answer = tokio::time::timeout(DEADLINE, exchange).await;
        answer.with_context(|| format!("{method} {path} does not answer"))?
    }

    /// Returns the path, method and JSON pointer of every operation.
    fn operations(&self) -> Result<Vec<(String, String, String)>> {
        let mut operations = Vec::new();
        for path in self.document.keys("/paths")? {
            let pointer = format!("/paths/{}", path.replace('/', "~1"));
            for key in self.document.keys(&pointer)? {
                if key != "parameters" {
                    let operation = format!("{pointer}/{key}");
                    operations.push((path.clone(), key.to_uppercase(), operation));
                }
            }
        }
        Ok(operations)
    }

    /// Returns the path template and the JSON pointer of a request's operation.
    fn operation(&self, method: &Method, path: &str) -> Result<(String, String)> {
        let path = path.split('?').next().unwrap_or_default();
        let is_of = |template: &str| {
            template.split('/').count() == path.split('/').count()
                && template
                    .split('/')
                    .zip(path.split('/'))
                    .all(|(part, given)| part.starts_with('{') || part == given)
        };
        self.operations()?
            .into_iter()
            .find(|(template, its, _)| its == method.as_str() && is_of(template))
            .map(|(template, _, operation)| (template, operation))
            .with_context(|| format!("{method} {path} is not documented"))
    }

    /// Checks an answer against its documentation.
    fn check(&self, answer: &Answer, operation: &str) -> Result<()> {
        let response = format!("{operation}/responses/{}", answer.status);
        let response = match self.document.at(&response)?.get("$ref") {
            Some(target) => {
                let target = target.as_str().context("the reference is no string")?;
                target.trim_start_matches('#').to_owned()
            }
            None => response,
        };
        let Ok(content) = self.document.keys(&format!("{response}/content")) else {
            ensure!(
                answer.text.is_empty(),
                "an undocumented body: {}",
                answer.text
            );
            return Ok(());
        };
        let content_type = answer.content_type().context("no content type")?;
        ensure!(
            content.contains(content_type),
            "the content type is {content_type}"
        );
        if answer.status >= 400 {
            self.check_problem(answer)?;
        }
        let media = content_type.replace('/', "~1");
        let mut schemas = self.document.schemas()?;
        matches(
            &mut schemas,
            &format!("{response}/content/{media}/schema"),
            answer,
        )
    }

    fn check_problem(&self, answer: &Answer) -> Result<()> {
        ensure!(
            answer.content_type() == Some("application/problem+json"),
            "the content type is {:?}",
            answer.content_type()
        );
        let problem: Value = serde_json::from_str(&answer.text)?;
        let title = StatusCode::from_u16(answer.status)?.canonical_reason();
        ensure!(problem["status"] == answer.status, "{problem}");
        // RFC 9110 has a newer name for 413 than the library.
        ensure!(
            answer.status == 413 || problem["title"].as_str() == title,
            "{problem}"
        );
        matches(
            &mut self.document.schemas()?,
            "/components/schemas/Problem",
            answer,
        )
    }
}

/// Returns the JSON pointers of all values for which `is_wanted` holds.
fn pointers(root: &Value, is_wanted: impl Fn(&Value) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![(String::new(), root)];
    while let Some((pointer, value)) = left.pop() {
        match value {
            Value::Object(fields) => left.extend(fields.iter().map(|(key, value)| {
                let key = key.replace('~', "~0").replace('/', "~1");
                (format!("{pointer}/{key}"), value)
            })),
            Value::Array(items) => left.extend(
                (0..)
                    .zip(items)
                    .map(|(at, value): (u32, _)| (format!("{pointer}/{at}"), value)),
            ),
            _ => {}
        }
        if is_wanted(value) {
            found.push(pointer);
        }
    }
    found
}

fn matches(schemas: &mut Schemas, pointer: &str, answer: &Answer) -> Result<()> {
    let schema = schemas.compile(pointer)?;
    schemas.check(schema, &serde_json::from_str(&answer.text)?)
}
