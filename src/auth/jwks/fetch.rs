//! One fetch of a JWKS: no redirects, a bounded body, a bounded time.

use std::error::Error;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use tokio::time::timeout;
use url::Url;

use crate::auth::keys::{KeySet, NoKeySet};

/// Bytes of the document: a key with a certificate chain has some 10 KiB, and few are published at once.
const MAX_BODY: usize = 256 * 1024;

/// The URL of a JWKS, with its client.
#[derive(Debug)]
pub(super) struct JwksSource {
    client: Client,
    url: Url,
    /// Timeout of a fetch.
    limit: Duration,
}

/// Why a fetch failed, as the end of the sentence "the JWKS …".
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No HTTP client can be made.
    #[error("cannot be fetched without certificates to trust: {0}; install ca-certificates, or set SSL_CERT_FILE")]
    Client(String),
    /// No connection, or a broken one.
    #[error("cannot be fetched: {0}; see whether auth.jwks_url can be reached from here")]
    Unreachable(String),
    /// It took longer than `auth.jwks_timeout`.
    #[error("did not come within auth.jwks_timeout; see whether auth.jwks_url can be reached from here")]
    Timeout,
    /// The document is at another URL.
    #[error("has moved (status {0}), and redirects are not followed; set auth.jwks_url to where it is")]
    Redirect(u16),
    /// Another status than 200.
    #[error("was answered with status {0}; see whether auth.jwks_url is right")]
    Status(u16),
    /// Longer than 256 KiB.
    #[error("is longer than 256 KiB; see whether auth.jwks_url is right")]
    TooLarge,
    /// The document is not a JWKS.
    #[error("{0}; see whether auth.jwks_url is right")]
    NoKeySet(#[from] NoKeySet),
}

impl FetchError {
    /// The outcome as a metric's label, one of a closed set.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::Client(_) | Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Redirect(_) => "redirect",
            Self::Status(_) => "status",
            Self::TooLarge => "too-large",
            Self::NoKeySet(_) => "no-jwks",
        }
    }
}

impl JwksSource {
    pub(super) fn new(url: Url, limit: Duration) -> Result<Self, FetchError> {
        let builder = Client::builder().redirect(Policy::none()).connect_timeout(limit);
        // Without TLS the system's certificates are not needed, and may be absent. A proxy from the environment
        // (`HTTP_PROXY`) could insert keys of its own.
        let builder = if url.scheme() == "http" { builder.tls_certs_only([]).no_proxy() } else { builder };
        let client = builder.build().map_err(|error| FetchError::Client(innermost(&error)))?;
        Ok(Self { client, url, limit })
    }

    pub(super) async fn fetch(&self) -> Result<KeySet, FetchError> {
        timeout(self.limit, self.read()).await.map_err(|_| FetchError::Timeout)?
    }

    async fn read(&self) -> Result<KeySet, FetchError> {
        let unreachable = |error: reqwest::Error| FetchError::Unreachable(innermost(&error.without_url()));
        let request = self.client.get(self.url.clone()).header("accept", "application/jwk-set+json, application/json");
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        // Not followed: a redirect could lead to another host, whose keys would be trusted.
        if status.is_redirection() {
            return Err(FetchError::Redirect(status.as_u16()));
        }
        if status != StatusCode::OK {
            return Err(FetchError::Status(status.as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            // Before it is appended: the bound holds whatever length the server announces.
            if body.len() + chunk.len() > MAX_BODY {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(KeySet::parse_document(&body)?)
    }
}

/// The cause with the actual reason; the outer errors only say "error sending request".
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
