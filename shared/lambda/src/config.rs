//! Configuration: from the environment, once, with a clear word on what is missing.

use std::env;

use aws_credential_types::Credentials;
use signing::SigningClient;
use trust::Trust;

/// What a function is configured with.
///
/// | variable | meaning |
/// |---|---|
/// | `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | set by Lambda |
/// | `TOKENS_TABLE`, `SUBSCRIBERS_TABLE`, `CHANNELS_TABLE`, `EVENTS_TABLE`, `SESSIONS_TABLE` | the tables |
/// | `CONNECTIONS_ENDPOINT` | the stage's `@connections` endpoint, without `/@connections` |
/// | `FANOUT_FUNCTION` | the worker's name |
/// | `URL_SUFFIX` | the domain of the partition's endpoints; without it `amazonaws.com` |
/// | `METRICS_NAMESPACE` | where measures go; without it there are none |
/// | `AWS_ENDPOINT_URL_DYNAMODB`, `AWS_ENDPOINT_URL_LAMBDA`, `AWS_ENDPOINT_URL` | other endpoints than AWS's, if set |
///
/// What else there is stands where it is read: the origins of pages with [`Origins`](crate::Origins), the issuer of signed
/// tokens with `jwt::Settings`, SockJS's site with the function `sockjs`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The region.
    pub region: String,
    /// Lambda's credentials of this process.
    pub credentials: Credentials,
}

/// Why a function cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A variable.
    #[error("the environment variable {0} is not set")]
    Missing(&'static str),
    /// Root certificates.
    #[error("no root certificates: {0}")]
    Certificates(#[from] std::io::Error),
}

impl Config {
    /// Reads what Lambda sets.
    ///
    /// # Errors
    /// [`ConfigError::Missing`].
    pub fn from_env() -> Result<Self, ConfigError> {
        Ok(Self {
            region: Self::required("AWS_REGION")?,
            credentials: Credentials::new(
                Self::required("AWS_ACCESS_KEY_ID")?,
                Self::required("AWS_SECRET_ACCESS_KEY")?,
                optional("AWS_SESSION_TOKEN"),
                None,
                "environment",
            ),
        })
    }

    /// A variable that must be there.
    ///
    /// # Errors
    /// [`ConfigError::Missing`].
    pub fn required(name: &'static str) -> Result<String, ConfigError> {
        optional(name).ok_or(ConfigError::Missing(name))
    }

    /// The endpoint of DynamoDB.
    #[must_use]
    pub fn dynamodb_endpoint(&self) -> String {
        self.endpoint("AWS_ENDPOINT_URL_DYNAMODB", "dynamodb")
    }

    /// The endpoint of Lambda.
    #[must_use]
    pub fn lambda_endpoint(&self) -> String {
        self.endpoint("AWS_ENDPOINT_URL_LAMBDA", "lambda")
    }

    /// A service's endpoint: what a variable says, or AWS's.
    fn endpoint(&self, variable: &str, service: &str) -> String {
        optional(variable)
            .or_else(|| optional("AWS_ENDPOINT_URL"))
            .unwrap_or_else(|| {
                let suffix = optional("URL_SUFFIX");
                let suffix = suffix.as_deref().unwrap_or("amazonaws.com");
                format!("https://{service}.{}.{suffix}", self.region)
            })
    }

    /// The signing client for an endpoint.
    ///
    /// # Errors
    /// [`ConfigError::Certificates`].
    pub fn signing_client(&self, endpoint: &str) -> Result<SigningClient, ConfigError> {
        Ok(SigningClient::new(
            self.credentials.clone(),
            self.region.clone(),
            Trust::of(endpoint),
        )?)
    }
}

fn optional(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
