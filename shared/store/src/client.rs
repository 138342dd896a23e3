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
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use trust::{AMAZON_ROOTS, Trust};

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
/// first handshake costs a millisecond of CPU.
#[must_use]
pub fn client(
    endpoint: Option<String>,
    region: String,
    credentials: impl ProvideCredentials + 'static,
) -> Client {
    let https = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
    let http = match Trust::of(endpoint.as_deref(), &region) {
        Trust::Plain => Builder::new().build_http(),
        Trust::Amazon => https.tls_context(amazon()).build_https(),
        Trust::System => https.build_https(),
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

#[expect(
    clippy::expect_used,
    reason = "the certificates are part of the program"
)]
fn amazon() -> TlsContext {
    let roots = TrustStore::empty().with_pem_certificate(AMAZON_ROOTS);
    let context = TlsContext::builder().with_trust_store(roots).build();
    context.expect("certificates can be trusted")
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::config::Credentials;

    use super::*;

    /// It would panic if a root could not be read.
    #[test]
    fn a_client_of_aws_is_made_with_amazon_s_roots() {
        let credentials = Credentials::new("id", "secret", None, None, "test");
        let client = client(None, "us-east-1".to_owned(), credentials);
        assert_eq!(client.config().region().unwrap().as_ref(), "us-east-1");
    }
}
