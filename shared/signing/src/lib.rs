//! A pooled HTTP client that signs its requests with Signature Version 4.
//!
//! The functions use it for all calls to AWS: DynamoDB, posting to a connection, starting another function. It needs a
//! fraction of the CPU time of an SDK client.

use core::time::Duration;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_runtime_api::client::identity::Identity;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use trust::{AMAZON_ROOTS, Trust};

/// The maximum bytes of a response. AWS's largest response is DynamoDB's to a batch: 16 MB of items
/// (docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html, 2026-11), which JSON may double.
const ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// Idle connections that are kept: one for each concurrent push.
const IDLE_CONNECTIONS: usize = 64;

/// A signing client for one region.
#[derive(Clone, Debug)]
pub struct SigningClient {
    http: Http,
    identity: Identity,
    region: String,
}

#[derive(Clone, Debug)]
enum Http {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The request was definitely not sent.
    #[error("the service could not be reached")]
    NotSent,
    /// The request may have been executed.
    #[error("the response was lost")]
    Lost,
    /// The request could not be signed, or its URL is invalid.
    #[error("the request could not be built")]
    Unsendable,
}

/// A request to an AWS service.
#[derive(Debug)]
pub struct Call<'a> {
    /// The name of the service in the signature.
    pub service: &'a str,
    pub method: Method,
    pub url: &'a str,
    /// The headers, without those of the signature.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Bytes,
    /// The time limit for the request and its response.
    pub limit: Duration,
}

impl SigningClient {
    /// Creates a client that trusts its endpoints according to `trust`.
    ///
    /// # Errors
    /// Fails if `trust` requires the system's root certificates and the system has none.
    pub fn new(credentials: Credentials, region: String, trust: Trust) -> std::io::Result<Self> {
        let plain = trust == Trust::Plain;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.enforce_http(plain);
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(Duration::from_secs(50))
            .pool_timer(TokioTimer::new());
        let https = HttpsConnectorBuilder::new();
        let https = match trust {
            Trust::Plain => None,
            Trust::Amazon => Some(https.with_tls_config(amazon())),
            Trust::System => Some(https.with_native_roots()?),
        };
        let http = match https {
            None => Http::Plain(builder.build(connector)),
            Some(https) => {
                let https = https.https_only().enable_http1();
                Http::Tls(builder.build(https.wrap_connector(connector)))
            }
        };
        Ok(Self {
            http,
            identity: credentials.into(),
            region,
        })
    }

    /// Signs a call and sends it once.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, call: Call<'_>) -> Result<(StatusCode, Bytes), SendError> {
        let limit = call.limit;
        let request = self.signed(call).ok_or(SendError::Unsendable)?;
        let exchange = async {
            let response = match &self.http {
                Http::Plain(client) => client.request(request).await,
                Http::Tls(client) => client.request(request).await,
            };
            let response = response.map_err(|error| {
                if error.is_connect() {
                    SendError::NotSent
                } else {
                    SendError::Lost
                }
            })?;
            read(response).await
        };
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or(Err(SendError::Lost))
    }

    fn signed(&self, call: Call<'_>) -> Option<Request<Full<Bytes>>> {
        let parameters = v4::SigningParams::builder()
            .identity(&self.identity)
            .region(&self.region)
            .name(call.service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .ok()?
            .into();
        let signable = SignableRequest::new(
            call.method.as_str(),
            call.url,
            call.headers.iter().copied(),
            SignableBody::Bytes(&call.body),
        )
        .ok()?;
        let (instructions, _) = sign(signable, &parameters).ok()?.into_parts();
        let mut request = Request::builder().method(call.method).uri(call.url);
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(call.body)).ok()?;
        instructions.apply_to_request_http1x(&mut request);
        Some(request)
    }
}

#[expect(
    clippy::expect_used,
    reason = "the certificates are part of the binary, and a test parses them"
)]
fn amazon() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(AMAZON_ROOTS) {
        let certificate = certificate.expect("a certificate can be read");
        roots.add(certificate).expect("a root can be trusted");
    }
    ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("the provider has their cipher suites")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn read<B: hyper::body::Body>(response: Response<B>) -> Result<(StatusCode, Bytes), SendError>
where
    B::Error: Into<Box<dyn core::error::Error + Send + Sync>>,
{
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES)
        .collect()
        .await
        .map_err(|_| SendError::Lost)?;
    Ok((status, body.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_client_trusts_amazon_roots() {
        let credentials = Credentials::new("id", "secret", None, None, "test");
        let made = SigningClient::new(credentials, "us-east-1".to_owned(), Trust::Amazon);
        assert!(matches!(made.unwrap().http, Http::Tls(_)));
    }
}
