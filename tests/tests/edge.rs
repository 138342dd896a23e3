//! The viewer-request function of `infra/edge/template.yaml`. Node runs the JavaScript from the template over every route.
//! The tests also check the language features and the size that CloudFront's runtime allows.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot continue fails"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use local_gateway::template::Template;
use serde_json::{Value, json};

/// "Maximum size of a function: 10 KB", CloudFront quotas page.
const LARGEST_FUNCTION: usize = 10 * 1024;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Returns the function's code in a stack with these parameters.
fn code(parameters: &[(&str, &str)]) -> String {
    // The origins belong to another template. The tests never call these placeholders.
    let mut all: BTreeMap<_, _> = [
        ("WebSocketDomain", "a.execute-api.us-east-1.amazonaws.com"),
        ("StageName", "prod"),
        ("FunctionUrl", "https://f.lambda-url.us-east-1.on.aws/"),
        (
            "OriginSecret",
            "arn:aws:secretsmanager:us-east-1:123456789012:secret:s",
        ),
        ("Origins", "*"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    all.extend(
        parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    let template = Template::read(&root().join("infra/edge/template.yaml"), &all).unwrap();
    let behaviours = template.distribution.unwrap().behaviours;
    let code = behaviours[0].viewer_request.clone().unwrap();
    assert!(
        behaviours
            .iter()
            .all(|one| one.viewer_request.as_ref() == Some(&code))
    );
    code.to_string()
}

fn node(script: &str, arguments: &[&Path]) -> String {
    let output = Command::new("node")
        .arg("--expose-internals")
        .arg(root().join("tests/tests/edge").join(script))
        .args(arguments)
        .output()
        .expect(
            "these tests run the edge's JavaScript with Node: install it (apt-get install nodejs)",
        );
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "node failed: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the code for the mount alone, and for the mount among others with similar prefixes.
fn codes_of(mount: &Value) -> [Value; 2] {
    let one = json!({ "/messaging": mount }).to_string();
    let other = json!({"websocket": mount["websocket"] == false, "legacy": true, "cookies": true});
    let nested = json!({ "/a": other, "/a/b-c_2": mount, "/a/b": other }).to_string();
    [("/messaging", one), ("/a/b-c_2", nested)].map(|(prefix, mounts)| {
        json!({ "mount": mount, "prefix": prefix, "code": code(&[("Mounts", &mounts)]) })
    })
}

#[test]
fn edge_function_matches_route_list() {
    let routes = root().join("shared/sockjs/vectors/routes.json");
    let mut codes = Vec::new();
    for websocket in [true, false] {
        for legacy in [false, true] {
            for cookies in [false, true] {
                codes.extend(codes_of(
                    &json!({"websocket": websocket, "legacy": legacy, "cookies": cookies}),
                ));
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("codes.json");
    fs::write(&file, serde_json::to_string(&codes).unwrap()).unwrap();
    let result: Value = serde_json::from_str(&node("run.mjs", &[&routes, &file])).unwrap();
    assert_eq!(result["problems"], json!([]));
    let rows: Value = serde_json::from_str(&fs::read_to_string(routes).unwrap()).unwrap();
    let rows = rows["rows"].as_array().unwrap().len();
    assert_eq!(result["checked"], rows * 2);
}

#[test]
fn edge_function_fits_size_limit() {
    let mounts = r#"{"/echo":{},"/disabled_websocket_echo":{"websocket":false},"/cookie_needed_echo":{"cookies":true},"/close":{}}"#;
    let size = code(&[("Mounts", mounts)]).len();
    assert!(size <= LARGEST_FUNCTION, "{size} bytes");
}

#[test]
fn only_allowed_origins_get_through() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("codes.json");
    let codes: Vec<_> = [
        "*",
        "",
        "https://a.example",
        "https://b.example,https://a.example:8443,https://a.example",
    ]
    .map(|origins| json!({ "origins": origins, "code": code(&[("Origins", origins)]) }))
    .into();
    fs::write(&file, serde_json::to_string(&codes).unwrap()).unwrap();
    let statuses: Value = serde_json::from_str(&node("origins.mjs", &[&file])).unwrap();
    assert_eq!(
        statuses,
        // The origins are: none, https://a.example, https://a.example.com, null. 0 means that the request passes.
        json!({
            "*": [0, 0, 0, 0],
            "": [0, 403, 403, 403],
            "https://a.example": [0, 0, 403, 403],
            "https://b.example,https://a.example:8443,https://a.example": [0, 0, 403, 403],
        })
    );
}
