//! PostToConnection with 16 posts in flight, to a server that accepts everything.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result};
use aws_credential_types::Credentials;
use aws_sdk_apigatewaymanagement::config::{BehaviorVersion, Config, Region};
use aws_sdk_apigatewaymanagement::primitives::Blob;
use bytes::Bytes;
use futures::{StreamExt, stream};
use gateway::Management;
use http::Method;
use protocol::ConnectionId;
use service::ports::{Framing, Outcome, Pushes};
use signing::SigningClient;
use trust::Trust;

use crate::floor::Floor;
use crate::proc;
use crate::report::{Bound, Measured};
use crate::requests::Requests;

use super::Plan;

const CPU: &str = "µs of the client's CPU a post";
const RATE: &str = "posts/s";
const AT_ONCE: usize = 16;
/// Posts of a round. An unoptimised build takes ten times as long for each.
const POSTS: usize = if cfg!(debug_assertions) {
    1_000
} else {
    20_000
};
const ID: &str = "R1kmxc2VNjMCFIA=";

pub(super) async fn posts(plan: &Plan) -> Result<Measured> {
    let mut measured = Measured::new("posts", "16 in flight, 200 bytes each");
    let (_server, address) = Floor::Sink.start()?;
    let endpoint = format!("http://{address}/prod");
    let text = format!(
        r#"{{"type":"channel-message","content":"{}"}}"#,
        "x".repeat(158)
    );

    let bare = Requests::new();
    let url = format!("{endpoint}/@connections/R1kmxc2VNjMCFIA%3D");
    let body = Bytes::from(text.clone());
    let credentials = Credentials::from_keys("local", "local", None);
    let signing = SigningClient::new(credentials.clone(), "us-east-1".to_owned(), Trust::Plain)?;
    let management = Management::new(signing, &endpoint);
    let id = ConnectionId(ID.to_owned());
    let sdk = sdk(credentials, &endpoint);

    for _ in 0..plan.rounds {
        let all = [
            (
                "bare",
                run(POSTS, || async {
                    let posted = bare.send(Method::POST, &url, body.clone()).await;
                    posted.is_ok_and(|(status, _)| status.is_success())
                })
                .await?,
            ),
            (
                "messaging",
                run(POSTS, || async {
                    posted(&management, &id, Framing::Raw, &text).await
                })
                .await?,
            ),
            (
                "messaging, as SockJS",
                run(POSTS, || async {
                    posted(&management, &id, Framing::Sockjs, &text).await
                })
                .await?,
            ),
            (
                "Rust SDK",
                run(POSTS / 4, || async {
                    let post = sdk.post_to_connection().connection_id(ID);
                    post.data(Blob::new(text.as_bytes())).send().await.is_ok()
                })
                .await?,
            ),
        ];
        for (subject, (cpu, rate)) in all {
            measured.add(subject, CPU, cpu);
            measured.add(subject, RATE, rate);
        }
        if let Some(peers) = &plan.peers {
            let output = peers
                .node("posts.js")
                .args([&endpoint, "3000"])
                .stderr(Stdio::inherit())
                .output()?;
            let text = String::from_utf8(output.stdout)?;
            let figures: Vec<f64> = text
                .split(' ')
                .filter_map(|it| it.trim().parse().ok())
                .collect();
            let [posts, seconds, cpu] = figures[..] else {
                anyhow::bail!("unexpected output of posts.js: {text}")
            };
            measured.add("Node SDK", CPU, cpu / posts * 1e6);
            measured.add("Node SDK", RATE, posts / seconds);
        }
    }
    measured.ratio(("messaging", CPU), ("bare", CPU), Bound::AtMost(3.0));
    measured.ratio(("messaging", RATE), ("bare", RATE), Bound::AtLeast(0.35));
    measured.ratio(
        ("messaging", CPU),
        ("Rust SDK", CPU),
        Bound::AtMost(1.0 / 3.0),
    );
    let framed = ("messaging, as SockJS", CPU);
    measured.ratio(framed, ("messaging", CPU), Bound::AtMost(1.15));
    Ok(measured)
}

/// Sends `count` posts. Returns this process's CPU microseconds per post and the posts per second.
async fn run<F: Future<Output = bool>>(count: usize, post: impl Fn() -> F) -> Result<(f64, f64)> {
    let own = std::process::id();
    let (cpu, begun) = (proc::cpu_nanos(own), Instant::now());
    let taken = stream::iter(0..count)
        .map(|_| post())
        .buffer_unordered(AT_ONCE)
        .filter(|taken| std::future::ready(*taken))
        .count()
        .await;
    let seconds = begun.elapsed().as_secs_f64();
    (taken == count).then_some(()).context("a post failed")?;
    let cpu = (proc::cpu_nanos(own) - cpu) / 1e3;
    Ok((cpu / count as f64, count as f64 / seconds))
}

fn sdk(credentials: Credentials, endpoint: &str) -> aws_sdk_apigatewaymanagement::Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(endpoint)
        .build();
    aws_sdk_apigatewaymanagement::Client::from_conf(config)
}

async fn posted(management: &Management, id: &ConnectionId, framing: Framing, text: &str) -> bool {
    management.post(id, framing, &[text]).await.outcome == Outcome::Delivered
}
