//! The SDK's client, built the way that costs a cold start the least.

use core::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    config::{
        BehaviorVersion, Config, IdentityCache, ProvideCredentials, Region,
        StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

/// Attempts of what may be repeated, the first included.
const ATTEMPTS: u32 = 3;
/// Before the second attempt, at most; it doubles. The SDK's own second is more than a client waits for.
const BACKOFF: Duration = Duration::from_millis(50);
/// A connection to DynamoDB in the same region takes milliseconds.
const CONNECT: Duration = Duration::from_secs(2);
/// One attempt: far above any healthy answer, so that a lost packet costs a repeat and not the invocation.
const ATTEMPT: Duration = Duration::from_secs(3);

/// A client for `region`, or for `endpoint` if there is one.
///
/// Everything is given, so nothing is looked up: no profile files, no metadata service. TLS is rustls over ring, whose
/// first handshake costs a millisecond of CPU. An `http://` endpoint, the engine on loopback, is spoken to in plain text
/// and loads no root certificates.
#[must_use]
pub fn client(
    endpoint: Option<String>,
    region: String,
    credentials: impl ProvideCredentials + 'static,
) -> Client {
    let plain = endpoint
        .as_deref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    let http = if plain {
        Builder::new().build_http()
    } else {
        Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https()
    };
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(region))
        .credentials_provider(credentials)
        // A function's credentials are as old as its process: there is nothing to refresh.
        .identity_cache(IdentityCache::no_cache())
        .http_client(http)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(ATTEMPTS)
                .with_initial_backoff(BACKOFF),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT)
                .operation_attempt_timeout(ATTEMPT)
                .build(),
        )
        // It watches over long bodies; these answers are small and have a timeout.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    config.set_endpoint_url(endpoint);
    Client::from_conf(config.build())
}
