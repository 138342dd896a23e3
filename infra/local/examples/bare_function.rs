//! A function for the tests: it speaks the Runtime API over a bare socket and does what its payload says.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

fn main() -> io::Result<()> {
    if std::env::var_os("CRASH_AT_START").is_some() {
        eprintln!("the fixture was told to crash");
        std::process::exit(2);
    }
    let concurrency = std::env::var("AWS_LAMBDA_MAX_CONCURRENCY");
    let concurrency = concurrency.map_or(1, |number| number.parse().unwrap_or(1));
    for _ in 1..concurrency {
        std::thread::spawn(serve);
    }
    serve()
}

/// Asks for one invocation after the other.
fn serve() -> io::Result<()> {
    loop {
        let (request_id, deadline, payload) = next()?;
        if let Some(when) = payload.pointer("/queryStringParameters/fail-when") {
            fail_in_trailers(&request_id, Path::new(when.as_str().unwrap_or_default()))?;
            continue;
        }
        match act(&payload, &request_id, &deadline) {
            Ok(answer) => post(&request_id, "response", &answer)?,
            Err(error) => post(&request_id, "error", &error)?,
        }
    }
}

fn act(payload: &Value, request_id: &str, deadline: &str) -> Result<Value, Value> {
    let text = |name: &str| {
        payload
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    match text("do") {
        // A file says that the invocation has begun; another, made by the test, lets it go on.
        "wait" => {
            let _ = fs::write(text("begun"), "");
            while !Path::new(text("until")).exists() {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        "note" => {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(text("file"));
            let _ = file.and_then(|mut file| writeln!(file, "{request_id}"));
            return Err(json!({ "errorType": "Fixture", "errorMessage": "noted" }));
        }
        "fail" => return Err(json!({ "errorType": "Fixture", "errorMessage": "as told" })),
        "exit" => {
            eprintln!("the fixture was told to exit");
            std::process::exit(3);
        }
        "environment" => {
            let variables: serde_json::Map<_, _> =
                std::env::vars().map(|(k, v)| (k, v.into())).collect();
            return Ok(Value::Object(variables));
        }
        "folder" => {
            return Ok(std::env::current_dir()
                .unwrap_or_default()
                .display()
                .to_string()
                .into());
        }
        "answer" => return Ok(payload.get("with").cloned().unwrap_or_default()),
        _ => {}
    }
    Ok(
        json!({ "pid": std::process::id(), "request-id": request_id, "deadline": deadline, "payload": payload }),
    )
}

fn next() -> io::Result<(String, String, Value)> {
    let (head, body) = exchange("GET", "invocation/next", b"")?;
    let header = |name: &str| {
        let line = head
            .iter()
            .find_map(|line| line.to_lowercase().strip_prefix(name).map(str::to_owned));
        line.map(|value| value.trim_start_matches(':').trim().to_owned())
            .unwrap_or_default()
    };
    let payload = serde_json::from_slice(&body).unwrap_or_default();
    Ok((
        header("lambda-runtime-aws-request-id"),
        header("lambda-runtime-deadline-ms"),
        payload,
    ))
}

fn post(request_id: &str, what: &str, body: &Value) -> io::Result<()> {
    let path = format!("invocation/{request_id}/{what}");
    exchange("POST", &path, body.to_string().as_bytes()).map(drop)
}

/// A streamed answer that begins, and says in its trailers that it failed once the file is there.
fn fail_in_trailers(request_id: &str, when: &Path) -> io::Result<()> {
    let host = std::env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(&host)?;
    write!(
        stream,
        "POST /2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\nLambda-Runtime-Function-Response-Mode: streaming\r\nContent-Type: text/x-raw\r\n\
         Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n\
         5\r\nbegun\r\n"
    )?;
    while !when.exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    write!(
        stream,
        "0\r\nLambda-Runtime-Function-Error-Type: Fixture\r\nLambda-Runtime-Function-Error-Body: YnJva2U=\r\n\r\n"
    )?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

fn exchange(method: &str, path: &str, body: &[u8]) -> io::Result<(Vec<String>, Vec<u8>)> {
    let host = std::env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(&host)?;
    let length = body.len();
    write!(
        stream,
        "{method} /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer)?;
    Ok((head, answer))
}
