//! The floors: what the same work costs with the transport alone. Each runs as a process of this executable and prints
//! its address on standard output.

mod echo;
mod function;
mod gateway;

use std::io::Write;
use std::process::Command;

use anyhow::Result;
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::process::Process;

/// The text before the address on standard output.
const READY: &str = "listening on ";

/// The floors.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Floor {
    /// Echoes WebSocket messages with tokio-tungstenite alone.
    Echo,
    /// A minimal gateway: each WebSocket message is an invocation over the Runtime API.
    Gateway,
    /// A minimal function: it keeps the connections in memory and posts to each.
    Function,
    /// An HTTP server that accepts every request.
    Sink,
}

impl Floor {
    /// Runs the floor in this process until the process is killed.
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Function => return function::run().await,
            Self::Echo | Self::Gateway | Self::Sink => {}
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut output = std::io::stdout();
        writeln!(output, "{READY}{address}")?;
        output.flush()?;
        match self {
            Self::Echo => echo::run(listener).await,
            Self::Gateway => gateway::run(listener, address).await,
            Self::Sink | Self::Function => sink(listener).await,
        }
    }

    /// Starts the floor as a process. Returns the process and its host and port.
    pub(crate) fn start(self) -> Result<(Process, String)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["floor", self.name()]);
        Process::start_until(&mut command, READY)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Gateway => "gateway",
            Self::Function => "function",
            Self::Sink => "sink",
        }
    }
}

async fn sink(listener: TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(|request: http::Request<hyper::body::Incoming>| async {
            request.into_body().collect().await?;
            Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::default()))
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
