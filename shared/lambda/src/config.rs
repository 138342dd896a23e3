//! Configuration. It is read from the environment once, and an error names the variable that is missing.

use std::env;

use aws_credential_types::Credentials;
use signing::SigningClient;
use trust::Trust;

/// The configuration of a function.
///
/// | variable | meaning |
/// |---|---|
/// | `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | set by Lambda |
/// | `TOKENS_TABLE`, `SUBSCRIBERS_TABLE`, `CHANNELS_TABLE`, `EVENTS_TABLE`, `SESSIONS_TABLE` | the tables |
/// | `CONNECTIONS_ENDPOINT` | the stage's `@connections` endpoint, without `/@connections` |
/// | `WORKER_FUNCTION` | the worker's name |
/// | `URL_SUFFIX` | the domain of the partition's endpoints, by default `amazonaws.com` |
/// | `METRICS_NAMESPACE` | the namespace of metrics; if unset, no metrics are emitted |
/// | `AWS_ENDPOINT_URL_DYNAMODB`, `AWS_ENDPOINT_URL_LAMBDA`, `AWS_ENDPOINT_URL` | replace AWS's endpoints, if set |
///
/// Other settings are documented where they are read: the allowed origins with [`Origins`](crate::Origins), the issuer of
/// signed tokens with `jwt::Settings`, and the site of SockJS with the function `sockjs`.
#[derive(Clone, Debug)]
pub struct Config {
    pub region: String,
    /// The credentials that Lambda gives this process.
    pub credentials: Credentials,
}

/// Why a function cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A required environment variable is not set.
    #[error("environment variable {0} is not set")]
    Missing(&'static str),
    /// The root certificates cannot be read.
    #[error("cannot read root certificates: {0}")]
    Certificates(#[from] std::io::Error),
}

impl Config {
    /// Reads the variables that Lambda sets.
    ///
    /// # Errors
    /// Returns [`ConfigError::Missing`] if one of them is not set.
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

    /// Reads a required variable.
    ///
    /// # Errors
    /// Returns [`ConfigError::Missing`] if it is not set or empty.
    pub fn required(name: &'static str) -> Result<String, ConfigError> {
        optional(name).ok_or(ConfigError::Missing(name))
    }

    /// Returns the endpoint of DynamoDB.
    #[must_use]
    pub fn dynamodb_endpoint(&self) -> String {
        self.endpoint("AWS_ENDPOINT_URL_DYNAMODB", "dynamodb")
    }

    /// Returns the endpoint of Lambda.
    #[must_use]
    pub fn lambda_endpoint(&self) -> String {
        self.endpoint("AWS_ENDPOINT_URL_LAMBDA", "lambda")
    }

    /// Returns a service's endpoint: the value of `variable`, or of `AWS_ENDPOINT_URL`, or AWS's own.
    fn endpoint(&self, variable: &str, service: &str) -> String {
        optional(variable)
            .or_else(|| optional("AWS_ENDPOINT_URL"))
            .unwrap_or_else(|| {
                let suffix = optional("URL_SUFFIX");
                let suffix = suffix.as_deref().unwrap_or("amazonaws.com");
                format!("https://{service}.{}.{suffix}", self.region)
            })
    }

    /// Creates a signing client for an endpoint.
    ///
    /// # Errors
    /// Returns [`ConfigError::Certificates`] if the root certificates cannot be read.
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
