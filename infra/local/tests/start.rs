//! What the gateway refuses at start, before it builds anything, and its error messages.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeMap;
use std::path::Path;

use clap::Parser as _;
use local_gateway::{cli::Options, gateway::Gateway, template::Template};

async fn refusal(arguments: &[&str]) -> String {
    let options = ["local-gateway", "--port", "0"].iter().chain(arguments);
    let options = Options::try_parse_from(options).unwrap();
    Gateway::start(&options).await.unwrap_err().to_string()
}

#[tokio::test]
async fn unreachable_database_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for url in [url.as_str(), "nowhere"] {
        let refusal = refusal(&["--dynamodb-endpoint", url]).await;
        assert!(
            refusal.contains(&format!("no server answers at {url},")),
            "{refusal}"
        );
    }
}

#[tokio::test]
async fn ready_file_needs_existing_folder() {
    let refusal = refusal(&["--ready-file", "/no-such-folder/urls"]).await;
    assert_eq!(
        refusal,
        "cannot write the ready file /no-such-folder/urls: there is no folder /no-such-folder"
    );
}

#[tokio::test]
async fn project_urls_are_printed() {
    // The test invokes no function: each executable is a link to this test.
    let functions = tempfile::tempdir().unwrap();
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../template.yaml");
    for function in Template::read(&template, &BTreeMap::new())
        .unwrap()
        .functions
        .values()
    {
        let path = functions.path().join(&function.binary);
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), path).unwrap();
    }
    let arguments = ["local-gateway", "--port", "0", "--functions"];
    let arguments = arguments
        .iter()
        .map(AsRef::as_ref)
        .chain([functions.path().as_os_str()]);
    let options = Options::try_parse_from(arguments).unwrap();
    let gateway = Gateway::start(&options).await.unwrap();
    let urls = gateway.urls();
    let host = urls.edge.strip_prefix("http://").unwrap();
    for (printed, expected) in [
        (&urls.websocket, format!("ws://{host}/messaging/websocket")),
        (&urls.sockjs, format!("http://{host}/messaging")),
        (&urls.api, format!("http://{host}/v1")),
    ] {
        assert_eq!(printed.as_ref(), Some(&expected));
    }
    gateway.shut_down().await;
}

#[tokio::test]
async fn engine_fault_without_engine_is_refused() {
    let elsewhere = ["--dynamodb-endpoint", "nowhere", "--fault"];
    for kind in [
        "delay-dynamodb",
        "fail-dynamodb",
        "lose-dynamodb-reply",
        "conflict-dynamodb",
    ] {
        let fault = format!("{kind}=0.1");
        let refusal = refusal(&[&elsewhere[..], &[fault.as_str()]].concat()).await;
        assert_eq!(
            refusal,
            format!(
                "--fault {kind} applies only to the embedded DynamoDB: omit it or --dynamodb-endpoint"
            )
        );
    }
    let refusal = refusal(&[&elsewhere[..], &["hang-post=0.1"]].concat()).await;
    assert!(refusal.contains("no server answers"), "{refusal}");
}

#[tokio::test]
async fn start_removes_only_stale_ready_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("urls");
    std::fs::write(&path, "{}").unwrap();
    let ready_file = ["--ready-file", path.to_str().unwrap()];

    // Another gateway is running, so the port is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = refusal(&[&ready_file[..], &["--lambda-port", &port]].concat()).await;
    assert!(said.contains(&port), "{said}");
    assert!(path.exists());

    let said = refusal(&[&ready_file[..], &["--dynamodb-endpoint", "nowhere"]].concat()).await;
    assert!(said.contains("no server answers"), "{said}");
    assert!(!path.exists());
}
