//! A gateway under test: the real binary with a template of fixture functions and free ports. Dropping it stops it.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// After this long a test fails instead of hanging.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A client's end of a connection.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// A running gateway and its working folder.
pub(crate) struct Gateway {
    process: Child,
    dir: TempDir,
    urls: Value,
}

/// A template with one function for everything, and the authorizer and routes that the tests need.
pub(crate) fn template(events_dir: &Path) -> String {
    format!(
        r#"
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  StageName: {{ Type: String, Default: prod }}
Globals:
  Function:
    Handler: bootstrap
    Runtime: provided.al2023
    Timeout: 20
    Environment:
      Variables:
        EVENTS_DIR: {events_dir}
        CONNECTIONS_ENDPOINT: !Sub https://${{WebSocketApi}}.execute-api.${{AWS::Region}}.${{AWS::URLSuffix}}/${{StageName}}
Resources:
  WebSocketApi:
    Type: AWS::Serverless::WebSocketApi
    Properties:
      StageName: !Ref StageName
      RouteSelectionExpression: $request.body.route
      Auth:
        AuthType: CUSTOM
        AuthArn: !GetAtt Fixture.Arn
        IdentitySource: [route.request.querystring.token]
      Routes:
        $connect: {{ FunctionArn: !GetAtt Fixture.Arn }}
        $disconnect: {{ FunctionArn: !GetAtt Fixture.Arn }}
        named: {{ FunctionArn: !GetAtt Fixture.Arn }}
        $default: {{ FunctionArn: !GetAtt Fixture.Arn }}
  HttpApi:
    Type: AWS::Serverless::HttpApi
    Properties: {{ StageName: $default }}
  Fixture:
    Type: AWS::Serverless::Function
    Metadata: {{ BuildMethod: rust-cargolambda, BuildProperties: {{ Binary: fixture_function }} }}
    Properties:
      Events:
        Any:
          Type: HttpApi
          Properties: {{ ApiId: !Ref HttpApi, Method: ANY, Path: "/v1/{{proxy+}}" }}
"#,
        events_dir = events_dir.display()
    )
}

impl Gateway {
    /// Starts a gateway with the usual template and waits until it is ready.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, template)
    }

    /// Starts a gateway with the given template and waits until it is ready.
    pub(crate) fn start_with(arguments: &[&str], template: impl FnOnce(&Path) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("template.yaml"), template(dir.path())).unwrap();
        Self::spawn(command(dir.path()).args(arguments), dir)
    }

    /// Starts a gateway with the given command in `dir` and waits until it is ready.
    pub(crate) fn spawn(command: &mut Command, dir: TempDir) -> Self {
        let process = command.spawn().unwrap();
        let mut gateway = Self {
            process,
            dir,
            urls: Value::Null,
        };
        let ready_file = gateway.dir.path().join("ready.json");
        gateway.urls = eventually("the gateway is ready", || {
            if let Some(status) = gateway.process.try_wait().unwrap() {
                panic!("the gateway ended with {status}");
            }
            let text = fs::read_to_string(&ready_file).ok()?;
            // The gateway writes the file atomically. A partial file would fail here.
            Some(serde_json::from_str(&text).unwrap())
        });
        gateway
    }

    /// Returns one of the URLs in the ready file.
    pub(crate) fn url(&self, name: &str) -> &str {
        self.urls[name].as_str().unwrap()
    }

    /// Returns the folder of the template and of the files that functions write.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The gateway's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Asks the gateway to stop and waits until it has exited.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        let pid = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        eventually("the gateway has ended", || self.process.try_wait().unwrap())
    }

    /// Kills the gateway without warning.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Returns the events that functions have received so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("events")).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits for the event of this type, e.g. `DISCONNECT`.
    pub(crate) fn event(&self, event_type: &str) -> Value {
        eventually(event_type, || {
            let is_wanted = |event: &Value| {
                event["requestContext"]["eventType"] == event_type && event["type"].is_null()
            };
            self.events().into_iter().find(is_wanted)
        })
    }

    /// Opens a connection on the stage with a query string and headers.
    pub(crate) async fn try_connect(
        &self,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Socket, Error> {
        connect_to(&format!("{}?{query}", self.url("stage")), headers).await
    }

    /// Opens a connection that the fixture accepts.
    pub(crate) async fn connect(&self) -> Socket {
        self.try_connect("token=alice", &[]).await.unwrap()
    }

    /// The `@connections` URL of a connection.
    pub(crate) fn connection_url(&self, id: &str) -> String {
        format!(
            "{}/@connections/{}",
            self.url("management"),
            id.replace('=', "%3D")
        )
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            // SIGTERM lets the gateway stop its functions too.
            let pid = self.process.id().to_string();
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(10) {
                if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Returns a command that runs the gateway with free ports, the fixture function and a ready file in `dir`.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local-gateway"));
    command
        .current_dir(dir)
        .args([
            "--port",
            "0",
            "--ready-file",
            "ready.json",
            "--template",
            "template.yaml",
            "--functions",
        ])
        .arg(examples())
        .env("RUST_LOG", "info")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Returns the folder in which cargo puts the fixture functions.
pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_local-gateway")).with_file_name("examples")
}

/// Connects to a WebSocket URL.
pub(crate) async fn connect_to(
    url: &str,
    headers: &[(&'static str, &str)],
) -> Result<Socket, Error> {
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let connected = tokio::time::timeout(DEADLINE, tokio_tungstenite::connect_async(request)).await;
    connected
        .expect("the handshake ends")
        .map(|(socket, _)| socket)
}

/// Returns the status of a handshake: 101 if it succeeds.
pub(crate) fn handshake_status(result: Result<Socket, Error>) -> u16 {
    match result {
        Ok(_) => 101,
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

/// Sends a text message.
pub(crate) async fn send(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
}

/// Receives the next message.
pub(crate) async fn next(socket: &mut Socket) -> Message {
    let next = tokio::time::timeout(DEADLINE, socket.next()).await;
    next.expect("a message comes")
        .expect("the connection is open")
        .unwrap()
}

/// Receives the next message, which has to be a text.
pub(crate) async fn next_text(socket: &mut Socket) -> String {
    next(socket).await.into_text().unwrap().to_string()
}

/// Receives the next frame, which has to be a close frame. Returns its code and reason.
pub(crate) async fn next_close(socket: &mut Socket) -> (u16, String) {
    match next(socket).await {
        Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
        other => panic!("expected a close frame, got {other:?}"),
    }
}

/// Returns the connection's id, taken from an event that the fixture echoes.
pub(crate) async fn connection_id(socket: &mut Socket) -> String {
    send(socket, r#"{"do":"show"}"#).await;
    let event: Value = serde_json::from_str(&next_text(socket).await).unwrap();
    event["requestContext"]["connectionId"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Polls until the condition returns a value. Fails after [`DEADLINE`].
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            begun.elapsed() < DEADLINE,
            "{what}: still not after {DEADLINE:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Header names are in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(sent, _)| sent == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Sends an HTTP request on a new connection. Returns `None` if the connection ends without an answer.
pub(crate) fn try_http(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Response> {
    let (host, path) = url
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap_or((url, ""));
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut head = format!(
        "{method} /{path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        head.push_str(&format!("Host: {host}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    // A server may answer and close before it has read a body that it refuses.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Some(Response {
        status,
        headers,
        body: body.to_owned(),
    })
}

/// Sends an HTTP request and returns its answer.
pub(crate) fn http(method: &str, url: &str, body: &str) -> Response {
    try_http(method, url, &[], body.as_bytes()).expect("an answer")
}
