//! A server of another origin whose page contains sockjs-client.

use std::path::Path;

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The server of the page and its scripts.
pub(crate) struct Page {
    pub(crate) url: String,
    server: JoinHandle<()>,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Page {
    /// Serves the files of the clients' folder.
    pub(crate) async fn serve(folder: &Path) -> Result<Self> {
        let read = |file: &str| {
            let path = folder.join(file);
            std::fs::read(&path).with_context(|| path.display().to_string())
        };
        let files = [
            ("/", "text/html", read("page.html")?),
            ("/scenario.js", "text/javascript", read("scenario.js")?),
            (
                "/sockjs.js",
                "text/javascript",
                read("node_modules/sockjs-client/dist/sockjs.min.js")?,
            ),
        ];
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = answer(stream, &files).await;
            }
        });
        Ok(Self { url, server })
    }
}

/// Answers one request. Answers 404 with an empty body if there is no such file.
async fn answer(stream: TcpStream, files: &[(&str, &str, Vec<u8>)]) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line);
    }
    let path = lines.first().and_then(|it| it.split(' ').nth(1));
    let found = files.iter().find(|(at, ..)| Some(*at) == path);
    let (status, kind, body) = found.map_or(("404 Not Found", "text/plain", &[][..]), |it| {
        ("200 OK", it.1, it.2.as_slice())
    });
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    Ok(stream.shutdown().await?)
}
