//! A function of the tests that streams its answers, on the real Lambda runtime. The body of a request is what it does,
//! a JSON array of steps such as `{"send": "text"}`; files are those of `$EVENTS_DIR`.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "part of the tests: what cannot go on fails"
)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use lambda_runtime::streaming::{Body, Response, Sender, channel};
use lambda_runtime::{Diagnostic, LambdaEvent, MetadataPrelude, run, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    run(service_fn(handle)).await
}

async fn handle(event: LambdaEvent<Value>) -> Result<Response<Body>, Diagnostic> {
    let steps: Vec<Value> = serde_json::from_str(event.payload["body"].as_str().unwrap()).unwrap();
    if steps.iter().any(|step| step == "fail") {
        return Err(Diagnostic {
            error_type: "Fixture".to_owned(),
            error_message: "as told".to_owned(),
        });
    }
    let (sender, stream) = channel();
    tokio::spawn(async move {
        match follow(&steps, sender).await {
            Some(()) => touch("done"),
            None => touch("left"),
        }
    });
    let mut prelude = MetadataPrelude {
        cookies: vec!["a=1; path=/".to_owned(), "b=2".to_owned()],
        ..MetadataPrelude::default()
    };
    prelude.status_code = http::StatusCode::CREATED;
    let headers = &mut prelude.headers;
    headers.insert("content-type", "text/plain; charset=UTF-8".parse().unwrap());
    headers.append("x-two", "1".parse().unwrap());
    headers.append("x-two", "2".parse().unwrap());
    Ok(Response {
        metadata_prelude: prelude,
        stream,
    })
}

/// None if the client is known to have left.
async fn follow(steps: &[Value], mut sender: Sender) -> Option<()> {
    for step in steps {
        if let Some(text) = step["send"].as_str() {
            sender.send_data(text.to_owned().into()).await.ok()?;
        }
        if let Some(file) = step["await"].as_str() {
            while !dir().join(file).exists() {
                // Nothing goes over the wire, but it fails once the connection has ended.
                sender.send_data(bytes::Bytes::new()).await.ok()?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        if step == "exit" {
            std::process::exit(3);
        }
    }
    Some(())
}

fn touch(file: &str) {
    fs::write(dir().join(file), "").unwrap();
}

fn dir() -> PathBuf {
    std::env::var("EVENTS_DIR").unwrap().into()
}
