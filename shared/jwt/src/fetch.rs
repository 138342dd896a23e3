//! Fetching the issuer's keys.

use core::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header::ACCEPT};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::{Settings, keys::KeySet};

/// The time limit of a fetch. A client's handshake waits for it.
const LIMIT: Duration = Duration::from_secs(3);
/// The maximum length of a key set in bytes. Some issuers add certificates to their keys.
const SET_BYTES: usize = 256 * 1024;

/// Fetches key sets from one URL.
#[derive(Debug)]
pub(crate) struct Fetcher {
    http: Http,
    address: Uri,
}

#[derive(Debug)]
enum Http {
    Plain(Client<HttpConnector, Empty<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>),
}

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no answer within 3 seconds")]
    Late,
    #[error("the URL cannot be reached: {0}")]
    NotReached(#[from] hyper_util::client::legacy::Error),
    #[error("the URL answered {0}")]
    Status(StatusCode),
    #[error("the answer is incomplete, or longer than 256 KiB")]
    Body,
    #[error("the answer is not a key set with a usable key")]
    NoKeys,
}

impl Fetcher {
    /// Creates a fetcher with a client of its own. It is used about once in ten minutes, so it keeps no connection open.
    ///
    /// # Errors
    /// Fails if there are no root certificates.
    pub(crate) fn new(settings: &Settings) -> std::io::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(LIMIT));
        connector.enforce_http(settings.is_plain());
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(0);
        let http = if settings.is_plain() {
            Http::Plain(builder.build(connector))
        } else {
            Http::Tls(
                builder.build(
                    HttpsConnectorBuilder::new()
                        .with_native_roots()?
                        .https_only()
                        .enable_http1()
                        .wrap_connector(connector),
                ),
            )
        };
        Ok(Self {
            http,
            address: settings.keys.clone(),
        })
    }

    /// Fetches the key set. Redirects are not followed.
    pub(crate) async fn fetch(&self) -> Result<KeySet, FetchError> {
        tokio::time::timeout(LIMIT, self.exchange())
            .await
            .unwrap_or(Err(FetchError::Late))
    }

    async fn exchange(&self) -> Result<KeySet, FetchError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.address.clone();
        request.headers_mut().insert(
            ACCEPT,
            http::HeaderValue::from_static("application/jwk-set+json, application/json"),
        );
        let response: Response<_> = match &self.http {
            Http::Plain(client) => client.request(request).await?,
            Http::Tls(client) => client.request(request).await?,
        };
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), SET_BYTES)
            .collect()
            .await
            .map_err(|_| FetchError::Body)?;
        KeySet::read(&body.to_bytes()).ok_or(FetchError::NoKeys)
    }
}
