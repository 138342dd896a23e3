//! The handshake: checks the identity sources, invokes the authorizer and `$connect`, and only then sends the 101.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::authorizer::{self, Verdict};
use super::event::{Asked, Identity, Moment, Peer};
use super::{INTEGRATION_TIMEOUT, WebSockets, frames, headers};
use crate::fault::Kind;
use crate::lambda::Invocation;
use crate::server::{self, Answer};
use crate::template::ACCOUNT;
use crate::{ids, query};

/// The longest delay of a 101 by the fault `delay-upgrade`.
const LATEST_UPGRADE: std::time::Duration = std::time::Duration::from_secs(2);

/// A client's TCP connection after the 101, and the bytes that it sent directly after its request.
#[derive(Debug)]
pub struct Upgraded {
    pub stream: TcpStream,
    /// Bytes that were already read.
    pub early: Bytes,
}

/// The response to a failed handshake.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    message: Option<&'static str>,
}

impl WebSockets {
    /// Answers a handshake. The handshake continues if the client disconnects meanwhile, so that an invoked `$connect`
    /// is followed by a `$disconnect`.
    pub async fn upgrade(&self, mut request: Request<Incoming>, source: IpAddr) -> Answer {
        let Some(accept) = accept_key(request.headers()) else {
            let mut answer = server::json(
                StatusCode::UPGRADE_REQUIRED,
                r#"{"message":"Upgrade Required"}"#,
            );
            let websocket = HeaderValue::from_static("websocket");
            answer.headers_mut().insert(header::UPGRADE, websocket);
            return answer;
        };
        let on_upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let (respond, response) = oneshot::channel();
        let this = self.clone();
        tokio::spawn(async move {
            let mut peer = this.peer(&parts.headers, source);
            let moment = Moment::now();
            // Drop the request with the call, because its headers would keep the HTTP connection's buffer alive.
            let opened = this.open(&mut peer, parts, source, &moment).await;
            match opened {
                Ok(protocol) => {
                    let _ = respond.send(switching(&accept, protocol));
                    let upgraded = taken_over(on_upgrade).await;
                    // Spawn another task, because this task keeps the memory that its handshake needed.
                    tokio::spawn(async move { this.live(peer, upgraded).await });
                }
                Err(refusal) => {
                    let _ = respond.send(refusal.answer(&peer.connection_id, &moment.request_id));
                }
            }
        });
        response
            .await
            .unwrap_or_else(|_| server::empty(StatusCode::INTERNAL_SERVER_ERROR))
    }

    fn peer(&self, sent: &HeaderMap, source: IpAddr) -> Peer {
        Peer {
            connection_id: ids::id(),
            connected_at: ids::now_ms(),
            identity: Identity {
                user_agent: headers::user_agent(sent),
                source_ip: source.to_string(),
            },
            authorizer: None,
        }
    }

    /// Invokes the authorizer and `$connect`. Returns the subprotocol that `$connect` chose.
    async fn open(
        &self,
        peer: &mut Peer,
        parts: Parts,
        source: IpAddr,
        moment: &Moment,
    ) -> Result<Option<HeaderValue>, Refusal> {
        let domain_name = &self.inner.place.domain_name;
        let asked = Asked {
            headers: headers::of_event(&parts.headers, domain_name, source, peer.connected_at),
            query: query::parse(parts.uri.query().unwrap_or_default()),
        };
        drop(parts);
        self.authorize(peer, &asked, moment).await?;
        let options = &self.inner.options;
        let Some(function) = options.api.routes.get("$connect") else {
            return Ok(None);
        };
        let event = self.events(peer).connect(&asked, moment);
        let outcome = self
            .inner
            .lambda
            .invoke(function, event, Some(INTEGRATION_TIMEOUT))
            .await;
        let protocol = connected(&outcome).inspect_err(|refusal| {
            tracing::debug!(
                connection = peer.connection_id,
                ?refusal,
                ?outcome,
                "$connect refused"
            );
        })?;
        if options.faults.strikes(Kind::DelayUpgrade) {
            tokio::time::sleep(options.faults.delay(Kind::DelayUpgrade, LATEST_UPGRADE)).await;
        }
        Ok(protocol)
    }

    async fn authorize(
        &self,
        peer: &mut Peer,
        asked: &Asked,
        moment: &Moment,
    ) -> Result<(), Refusal> {
        let options = &self.inner.options;
        let Some(authorizer) = &options.api.authorizer else {
            return Ok(());
        };
        if !authorizer::has_identity(&authorizer.identity_sources, asked) {
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, frames::UNAUTHORIZED));
        }
        let (region, place) = (&options.region, &self.inner.place);
        let method_arn = format!(
            "arn:aws:execute-api:{region}:{ACCOUNT}:{}/{}/$connect",
            place.api_id, place.stage
        );
        let event = self.events(peer).authorize(&method_arn, asked, moment);
        let function = &authorizer.function;
        let outcome = self
            .inner
            .lambda
            .invoke(function, event, Some(INTEGRATION_TIMEOUT))
            .await;
        match authorizer::verdict(&outcome, &method_arn) {
            Verdict::Allowed(context) => {
                peer.authorizer = Some(context);
                Ok(())
            }
            Verdict::Unauthorized => {
                Err(Refusal::new(StatusCode::UNAUTHORIZED, frames::UNAUTHORIZED))
            }
            Verdict::Denied => Err(Refusal::new(StatusCode::FORBIDDEN, frames::FORBIDDEN)),
            Verdict::Broken(why) => {
                tracing::warn!(function, why, "the authorizer failed");
                Err(Refusal::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    frames::INTERNAL,
                ))
            }
        }
    }
}

/// The response of `$connect`: a proxy response of which only the status and one header matter.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConnectAnswer {
    status_code: u16,
    #[serde(default)]
    headers: Option<serde_json::Map<String, Value>>,
    #[serde(default)]
    multi_value_headers: Option<serde_json::Map<String, Value>>,
}

/// Returns the chosen subprotocol, or the refusal with AWS's status: the function's own status, or 502 if the function
/// failed.
fn connected(outcome: &Invocation) -> Result<Option<HeaderValue>, Refusal> {
    let answer = match outcome {
        Invocation::Answer(answer) => serde_json::from_slice::<ConnectAnswer>(answer).ok(),
        Invocation::FunctionError(_) | Invocation::TimedOut | Invocation::Throttled => None,
        Invocation::Late => {
            return Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, frames::TIMED_OUT));
        }
        Invocation::NoSuchFunction => {
            return Err(Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                frames::INTERNAL,
            ));
        }
    };
    let bad_gateway = || Refusal::new(StatusCode::BAD_GATEWAY, frames::INTERNAL);
    let answer = answer.ok_or_else(bad_gateway)?;
    let status = StatusCode::from_u16(answer.status_code).map_err(|_| bad_gateway())?;
    // A 1xx status cannot refuse a handshake. A 101 would promise a WebSocket that the gateway does not open.
    if status.is_informational() {
        return Err(bad_gateway());
    }
    if !status.is_success() {
        return Err(Refusal {
            status,
            message: None,
        });
    }
    let single = answer.headers.iter().flatten();
    let multiple = answer.multi_value_headers.iter().flatten();
    let protocol = single.chain(multiple).find_map(|(name, value)| {
        let value = value.get(0).unwrap_or(value).as_str()?;
        let is_protocol = name.eq_ignore_ascii_case(header::SEC_WEBSOCKET_PROTOCOL.as_str());
        is_protocol
            .then(|| HeaderValue::from_str(value).ok())
            .flatten()
    });
    Ok(protocol)
}

impl Refusal {
    fn new(status: StatusCode, message: &'static str) -> Self {
        Self {
            status,
            message: Some(message),
        }
    }

    fn answer(&self, connection_id: &str, request_id: &str) -> Answer {
        match self.message {
            Some(message) => server::json(
                self.status,
                frames::error(message, connection_id, request_id),
            ),
            None => server::empty(self.status),
        }
    }
}

/// Returns the accept key if the request is a WebSocket handshake of RFC 6455.
fn accept_key(sent: &HeaderMap) -> Option<String> {
    let names = |header: header::HeaderName, wanted: &str| {
        sent.get_all(header)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    let is_upgrade = names(header::CONNECTION, "upgrade")
        && names(header::UPGRADE, "websocket")
        && names(header::SEC_WEBSOCKET_VERSION, "13");
    let key = sent.get(header::SEC_WEBSOCKET_KEY)?;
    is_upgrade.then(|| derive_accept_key(key.as_bytes()))
}

fn switching(accept: &str, protocol: Option<HeaderValue>) -> Answer {
    let mut answer = server::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    answer
}

/// Waits until the 101 is sent, then extracts the socket from the HTTP connection and frees the connection's buffers.
async fn taken_over(on_upgrade: OnUpgrade) -> Result<Upgraded, hyper::Error> {
    let upgraded = on_upgrade.await?;
    #[expect(
        clippy::unreachable,
        reason = "every connection of this crate's servers is a TokioIo<TcpStream>"
    )]
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        unreachable!("the server speaks over TCP only")
    };
    Ok(Upgraded {
        stream: parts.io.into_inner(),
        early: parts.read_buf,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(outcome: &Invocation) -> u16 {
        connected(outcome).map_or_else(|refusal| refusal.status.as_u16(), |_| 101)
    }

    fn answered(answer: &'static str) -> Invocation {
        Invocation::Answer(Bytes::from_static(answer.as_bytes()))
    }

    #[test]
    fn connect_status_decides_handshake() {
        for (answer, expected) in [
            (r#"{"statusCode":200}"#, 101),
            (r#"{"statusCode":201,"body":"welcome"}"#, 101),
            (r#"{"statusCode":301}"#, 301),
            (r#"{"statusCode":401}"#, 401),
            (r#"{"statusCode":501}"#, 501),
            (r#"{"statusCode":101}"#, 502),
            ("null", 502),
            (r#""ok""#, 502),
        ] {
            assert_eq!(status(&answered(answer)), expected, "{answer}");
        }
        assert_eq!(status(&Invocation::FunctionError(Bytes::new())), 502);
        assert_eq!(status(&Invocation::TimedOut), 502, "its own timeout");
        assert_eq!(status(&Invocation::Late), 504);
        assert_eq!(status(&Invocation::NoSuchFunction), 500);
    }

    #[test]
    fn connect_response_chooses_subprotocol() {
        let protocol = |answer| connected(&answered(answer)).unwrap();
        assert_eq!(
            protocol(r#"{"statusCode":200,"headers":{"sec-websocket-protocol":"v1"}}"#).unwrap(),
            "v1"
        );
        assert_eq!(
            protocol(r#"{"statusCode":200,"headers":null,"multiValueHeaders":{"Sec-WebSocket-Protocol":["v2"]}}"#)
                .unwrap(),
            "v2"
        );
        assert!(protocol(r#"{"statusCode":200,"headers":{"X-Other":"v1"}}"#).is_none());
    }
}
