//! Ids in the paths of the HTTP API. The URL parsers of JavaScript, Python and Rust must keep every valid id as it is, and
//! no segment that they remove may turn a request into another operation.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot continue fails"
)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use protocol::ChannelId;
use serde_json::Value;

const BASE: &str = "http://127.0.0.1:8080";
/// Prints the path of each URL that it reads.
const NODE: &str = "const lines = require('fs').readFileSync(0, 'utf8').trimEnd().split('\\n');
console.log(lines.map((it) => new URL(it, process.argv[1]).pathname).join('\\n'));";
const PYTHON: &str = "import sys, urllib.parse as url
for it in sys.stdin.read().splitlines():
    print(url.urlsplit(url.urljoin(sys.argv[1], it)).path)";
/// Pieces of ids that a URL parser could treat specially.
const PIECES: [&str; 16] = [
    ".", "%2e", "%2E", "%", "/", "\\", ";", "?", "#", "+", "~", ":", "@", "-", "0", "a",
];

/// Returns the method and the path template of every operation.
fn operations() -> Vec<(String, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.yaml");
    let document: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            if method != "parameters" {
                operations.push((method.clone(), format!("/v1{path}")));
            }
        }
    }
    operations
}

/// Returns the path of an operation with `id` for every variable.
fn path(template: &str, id: &str) -> String {
    filled(template, &[id, id, id])
}

/// Returns the path of an operation with `ids` for its variables, in order.
fn filled(template: &str, ids: &[&str]) -> String {
    let mut ids = ids.iter();
    let segments = template.split('/').map(|segment| {
        let is_variable = segment.starts_with('{');
        if is_variable {
            ids.next().unwrap()
        } else {
            segment
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Returns the valid ids among all texts of one character, all texts of two or three pieces, and random texts.
fn ids() -> Vec<String> {
    let ascii: Vec<String> = (' '..='~').map(String::from).collect();
    let pieces: Vec<String> = PIECES.map(str::to_owned).into();
    let joined = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter()
            .flat_map(|one| other.iter().map(move |other| format!("{one}{other}")))
            .collect()
    };
    let pairs = joined(&pieces, &pieces);
    let mut texts = joined(&pairs, &pieces);
    texts.extend(pairs);
    texts.extend(ascii);
    let mut runner = TestRunner::deterministic();
    for _ in 0..500 {
        texts.push(
            "[A-Za-z0-9._~+@:-]{1,128}"
                .new_tree(&mut runner)
                .unwrap()
                .current(),
        );
    }
    texts.retain(|text| ChannelId::parse(text).is_ok());
    texts
}

fn encoded(id: &str) -> String {
    id.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Returns the paths that a script in another language reads from `paths`.
fn parsed_by(program: &str, option: &str, script: &str, paths: &[String]) -> Vec<String> {
    let mut child = Command::new(program)
        .args([option, script, BASE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test runs Node and Python: install them (apt-get install nodejs python3)");
    let mut stdin = child.stdin.take().unwrap();
    let text = paths.join("\n");
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{program} failed");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn urls_keep_every_valid_id() {
    let mut paths = Vec::new();
    for id in ids() {
        for (_, template) in operations() {
            paths.push(path(&template, &id));
            paths.push(path(&template, &encoded(&id)));
        }
    }
    paths.sort();
    paths.dedup();
    assert!(paths.len() > 10_000);
    for path in &paths {
        let url = url::Url::parse(&format!("{BASE}{path}")).unwrap();
        assert_eq!(url.path(), path);
        assert_eq!(url.query(), None);
        let uri: http::Uri = format!("{BASE}{path}").parse().unwrap();
        assert_eq!(uri.path(), path);
    }
    assert_eq!(parsed_by("node", "-e", NODE, &paths), paths);
    assert_eq!(parsed_by("python3", "-c", PYTHON, &paths), paths);
}

#[test]
fn dot_segments_never_reach_erasure() {
    let erasure = "/v1/domains/{domain}/subscribers/{subscriber}/erase";
    let operations = operations();
    assert!(operations.contains(&("post".to_owned(), erasure.to_owned())));
    let matches = |path: &str| {
        erasure.split('/').count() == path.split('/').count()
            && erasure
                .split('/')
                .zip(path.split('/'))
                .all(|(part, given)| part == given || (part.starts_with('{') && !given.is_empty()))
    };
    let texts = [
        ".",
        "..",
        "%2e%2E",
        "domains",
        "subscribers",
        "channels",
        "erase",
        "x",
    ];
    let others = operations
        .iter()
        .filter(|it| it.0 == "post" && it.1 != erasure);
    for (_, template) in others {
        for first in texts {
            for second in texts {
                for third in texts {
                    let sent = filled(template, &[first, second, third]);
                    let url = url::Url::parse(&format!("{BASE}{sent}")).unwrap();
                    // Go and proxies also remove a slash at the end.
                    let reached = url.path().trim_end_matches('/');
                    assert!(!matches(reached), "{sent}");
                }
            }
        }
    }
}
