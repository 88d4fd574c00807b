//! One question to the authorizer as an HTTP request: no redirects, no proxy, and a bounded answer.

use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::json::object;
use http::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use serde::Deserialize;
use url::Url;

use super::AuthorizerSettings;

/// The HTTP endpoint.
pub(super) struct Endpoint {
    client: Client,
    url: Url,
    /// Sent as a bearer token.
    secret: Option<Arc<str>>,
    /// The most bytes of an answer.
    body_bytes: usize,
}

/// The authorizer's answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct AuthorizerReply {
    pub(super) allow: bool,
    /// How long it may be cached; without a `ttl`, not at all.
    pub(super) ttl: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// No request slot became free in time.
    #[error("all authorizer.concurrent requests were under way for authorizer.timeout")]
    Busy,
    /// It took longer than `authorizer.timeout`.
    #[error("no answer within authorizer.timeout")]
    TimedOut,
    /// No connection, or one that broke.
    #[error("authorizer.url cannot be reached: {0}")]
    Unreachable(String),
    /// Another status than 200.
    #[error("it answered with status {0}; only 200 is an answer")]
    Status(u16),
    /// More than `authorizer.body_bytes`.
    #[error("its answer is longer than authorizer.body_bytes")]
    TooLarge,
    /// Not JSON of the expected form.
    #[error("its answer is not {{\"allow\":true|false,\"ttl\":seconds}}")]
    Garbage,
}

impl RequestError {
    /// The error's name in metrics.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::TimedOut => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Status(_) => "status",
            Self::TooLarge => "too-large",
            Self::Garbage => "garbage",
        }
    }
}

#[derive(Deserialize)]
struct QuestionBody {
    allow: bool,
    ttl: Option<f64>,
}

impl Endpoint {
    /// # Errors
    /// When no TLS client can be made.
    pub(super) fn new(settings: &AuthorizerSettings) -> Result<Self, reqwest::Error> {
        let builder = Client::builder().redirect(Policy::none()).no_proxy().connect_timeout(settings.timeout);
        // Without TLS the system's certificates are not needed, and may be absent.
        let builder = if settings.url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        let client = builder.pool_max_idle_per_host(settings.concurrent).build()?;
        let (url, secret) = (settings.url.clone(), settings.secret.clone());
        Ok(Self { client, url, secret, body_bytes: settings.body_bytes })
    }

    /// Sends a question, without a deadline.
    pub(super) async fn post_request(&self, text: String) -> Result<AuthorizerReply, RequestError> {
        let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(text);
        if let Some(secret) = &self.secret {
            request = request.bearer_auth(secret);
        }
        let response = request.send().await.map_err(unreachable)?;
        match response.status().as_u16() {
            // Any other status is a failure and no verdict: a 403 may be a proxy's.
            200 => parse(&self.body(response).await?),
            status => Err(RequestError::Status(status)),
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, RequestError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            // Before it is appended: the bound holds whatever length the server announces.
            if body.len() + chunk.len() > self.body_bytes {
                return Err(RequestError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn parse(body: &[u8]) -> Result<AuthorizerReply, RequestError> {
    let QuestionBody { allow, ttl } =
        std::str::from_utf8(body).ok().and_then(|text| object(text).ok()).ok_or(RequestError::Garbage)?;
    let ttl = Duration::try_from_secs_f64(ttl.unwrap_or(0.0)).map_err(|_| RequestError::Garbage)?;
    Ok(AuthorizerReply { allow, ttl })
}

/// The innermost error. The URL is removed, as it may contain a password.
fn unreachable(error: reqwest::Error) -> RequestError {
    let error = error.without_url();
    let mut inner: &dyn std::error::Error = &error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    RequestError::Unreachable(inner.to_string())
}
