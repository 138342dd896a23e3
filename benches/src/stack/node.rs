//! Peers from npm and PyPI, installed once into `target/benches/peers`.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use http::{Method, Request};
use serde_json::json;

use crate::process::Process;
use crate::requests::Requests;
use crate::socket::DEADLINE;

use super::ours::{Ours, root};
use super::{Dialect, Stack};

/// The peers' programs, which are copied into the folder of the installed packages.
const PROGRAMS: [(&str, &str); 8] = [
    ("package.json", include_str!("../../peers/package.json")),
    ("chat.js", include_str!("../../peers/chat.js")),
    ("serverless.yml", include_str!("../../peers/serverless.yml")),
    ("socketio.js", include_str!("../../peers/socketio.js")),
    ("sockjs.js", include_str!("../../peers/sockjs.js")),
    ("start.js", include_str!("../../peers/start.js")),
    ("posts.js", include_str!("../../peers/posts.js")),
    ("ministack.py", include_str!("../../peers/ministack.py")),
];

/// The installed peers.
#[derive(Debug)]
pub(crate) struct Peers {
    folder: PathBuf,
}

impl Peers {
    /// Installs the peers if they are not installed yet.
    pub(crate) fn install() -> Result<Self> {
        let folder = root().join("target/benches/peers");
        std::fs::create_dir_all(&folder)?;
        for (name, text) in PROGRAMS {
            std::fs::write(folder.join(name), text)?;
        }
        let peers = Self {
            folder: folder.canonicalize()?,
        };
        if !peers
            .folder
            .join("node_modules/.package-lock.json")
            .exists()
        {
            let status = Command::new("npm")
                .args(["install", "--no-audit", "--no-fund", "--loglevel", "error"])
                .current_dir(&peers.folder)
                .stdout(Stdio::null())
                .status()
                .context("cannot run npm")?;
            ensure!(status.success(), "npm cannot install the peers");
        }
        if !peers.folder.join("venv/bin/ministack").exists() {
            let pip = "python3 -m venv venv && venv/bin/pip install --quiet ministack";
            let status = Command::new("sh")
                .args(["-c", pip])
                .current_dir(&peers.folder)
                .status()
                .context("cannot run sh")?;
            ensure!(status.success(), "pip cannot install ministack");
        }
        Ok(peers)
    }

    /// Returns a command that runs Node with one of the peers' programs.
    pub(crate) fn node(&self, program: &str) -> Command {
        let mut command = Command::new("node");
        command.current_dir(&self.folder).arg(program);
        command
    }

    /// Bundles `program` and its dependencies into one file, as for a deployment. Returns the file's name.
    pub(crate) fn bundle(&self, program: &str) -> Result<String> {
        let bundle = format!("bundled-{program}");
        let status = Command::new("node_modules/.bin/esbuild")
            .current_dir(&self.folder)
            .args([program, "--bundle", "--minify", "--platform=node"])
            .args(["--log-level=error", &format!("--outfile={bundle}")])
            .status()
            .context("cannot run esbuild")?;
        ensure!(status.success(), "esbuild cannot bundle {program}");
        Ok(bundle)
    }

    /// Starts socket.io in one process.
    pub(crate) fn socket_io(&self) -> Result<Stack> {
        let (process, address) =
            Process::start_until(&mut self.node("socketio.js"), "listening on ")?;
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        Ok(Stack::new("socket.io", process, Dialect::SocketIo { url }))
    }

    /// Starts sockjs-node in one process. Clients use its raw WebSocket.
    pub(crate) fn sockjs(&self) -> Result<Stack> {
        let (process, address) =
            Process::start_until(&mut self.node("sockjs.js"), "listening on ")?;
        let url = format!("ws://{address}/messaging/websocket");
        Ok(Stack::new("sockjs-node", process, Dialect::Plain { url }))
    }

    /// Starts ministack with the same chat, in its own table and its own Lambda.
    pub(crate) async fn ministack(&self) -> Result<Stack> {
        let port = free_port()?.to_string();
        let mut command = Command::new("venv/bin/ministack");
        command
            .current_dir(&self.folder)
            .env("GATEWAY_PORT", &port)
            .env("BIND_HOST", "127.0.0.1")
            .env("LAMBDA_EXECUTOR", "local")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut process = Process::start(&mut command)?;
        until_open(&mut process, &port).await?;
        let mut set_up = Command::new("venv/bin/python");
        set_up
            .current_dir(&self.folder)
            .args(["ministack.py", &port, &self.bundle("chat.js")?]);
        let (_, address) = Process::start_until(&mut set_up, "listening on ")?;
        let url = format!("ws://{address}");
        Ok(Stack::new("ministack", process, Dialect::Chat { url }))
    }

    /// Starts serverless-offline with the chat of AWS's samples. A separate engine holds the chat's table.
    pub(crate) async fn serverless_offline(&self) -> Result<Stack> {
        let (engine, tables) = Ours::start(&[]).await?;
        create_table(&tables.dynamodb).await?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let [http, lambda, websocket] = ports.map(|it| it.to_string());
        let mut command = Command::new("node_modules/.bin/serverless");
        command
            .current_dir(&self.folder)
            .arg("offline")
            .env("SLS_TELEMETRY_DISABLED", "1")
            .env("SLS_NOTIFICATIONS_MODE", "off")
            .env("HTTP_PORT", http)
            .env("LAMBDA_PORT", lambda)
            .env("WEBSOCKET_PORT", &websocket)
            .env("DYNAMODB_URL", &tables.dynamodb)
            .env("AWS_REGION", "us-east-1")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut process = Process::start(&mut command)?;
        until_open(&mut process, &websocket).await?;
        let url = format!("ws://127.0.0.1:{websocket}/");
        let mut stack = Stack::new("serverless-offline", process, Dialect::Chat { url });
        stack.beside.push(engine);
        Ok(stack)
    }
}

async fn create_table(dynamodb: &str) -> Result<()> {
    let body = json!({
        "TableName": "Connections",
        "AttributeDefinitions": [{ "AttributeName": "connectionId", "AttributeType": "S" }],
        "KeySchema": [{ "AttributeName": "connectionId", "KeyType": "HASH" }],
        "BillingMode": "PAY_PER_REQUEST",
    });
    let request = Request::builder()
        .method(Method::POST)
        .uri(dynamodb)
        .header("x-amz-target", "DynamoDB_20120810.CreateTable")
        .body(body.to_string().into())?;
    let (status, answer) = Requests::new().carry(request).await?;
    ensure!(status.is_success(), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// Returns a port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn until_open(process: &mut Process, port: &str) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        let address = format!("127.0.0.1:{port}");
        if tokio::net::TcpStream::connect(&address).await.is_ok() {
            return Ok(());
        }
        if process.has_ended() {
            bail!("the process ended before it listened on port {port}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("nothing listens on port {port}")
}
