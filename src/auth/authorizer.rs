//! The authorizer: an operator's own service that is asked over HTTP about facts that claims do not contain. It can
//! only deny what a rule allows. No answer denies as well: it counts as `unavailable` and is not cached.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use hallway_rooms::close::Refusal;
use hallway_rooms::key::Room;
use metrics::{counter, histogram};
use moka::Expiry;
use moka::future::Cache;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::auth::action::Action;
use crate::auth::claims::Claims;
use crate::clock::now_ms;
use crate::logs;
use crate::metrics::{AUTHORIZER_LATENCY, AUTHORIZER_REQUESTS, AUTHORIZER_SHARED};

mod request;

use request::{AuthorizerReply, Endpoint, RequestError};

/// The settings of an authorizer.
#[derive(Clone, Debug)]
pub struct AuthorizerSettings {
    /// The URL to post questions to.
    pub url: Url,
    /// Sent as a bearer token, so that the service can tell who asks.
    pub secret: Option<Arc<str>>,
    /// Timeout of one question, including the wait for a free request.
    pub timeout: Duration,
    /// The most answers cached.
    pub cache_entries: u64,
    /// The longest time that an answer is cached, whatever its own `ttl` says.
    pub max_ttl: Duration,
    /// The most bytes of an answer.
    pub body_bytes: usize,
    /// The most requests at once.
    pub concurrent: usize,
}

/// SHA-256 of a question's text: claims, room and action.
type QuestionDigest = [u8; 32];

/// An authorizer with its cached answers.
pub struct Authorizer {
    endpoint: Endpoint,
    settings: AuthorizerSettings,
    /// Slots for concurrent requests.
    places: Semaphore,
    answers: Cache<QuestionDigest, AuthorizerAnswer>,
    /// Whether the last request failed, so that an outage is logged once.
    failing: AtomicBool,
    /// Ends every question when the gateway stops.
    stop: CancellationToken,
}

/// An answer, and how long it may be cached.
#[derive(Clone, Copy, Debug)]
struct AuthorizerAnswer {
    allow: bool,
    good_for: Duration,
}

/// The result for all askers of the same question at this moment, and for no later one.
#[derive(Clone, Copy, Debug)]
enum SharedAnswer {
    /// An answer that may not be cached.
    Said(bool),
    /// No answer.
    Nothing,
}

/// Expires each answer by its own time.
struct AnswerExpiry;

impl Expiry<QuestionDigest, AuthorizerAnswer> for AnswerExpiry {
    fn expire_after_create(
        &self,
        _: &QuestionDigest,
        answer: &AuthorizerAnswer,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(answer.good_for)
    }
}

impl Authorizer {
    /// Makes an authorizer. From `stop` on it gives no answer.
    ///
    /// # Errors
    /// When no TLS client can be made.
    pub fn new(settings: AuthorizerSettings, stop: CancellationToken) -> Result<Self, reqwest::Error> {
        let answers = Cache::builder().max_capacity(settings.cache_entries).expire_after(AnswerExpiry).build();
        Ok(Self {
            endpoint: Endpoint::new(&settings)?,
            places: Semaphore::new(settings.concurrent),
            settings,
            answers,
            failing: AtomicBool::new(false),
            stop,
        })
    }

    /// Asks whether `claims` permit the action in `room`. Identical questions at the same time become one request.
    ///
    /// # Errors
    /// `forbidden` when it denies, `unavailable` when it gives no answer.
    pub async fn check_access(&self, claims: &Claims, room: &Room, action: Action) -> Result<(), Refusal> {
        // The cache key is a hash of the whole text: any other claim may change the answer.
        let text = json!({"claims": claims.all(), "room": room.key(), "action": action.name()}).to_string();
        let mut question = QuestionDigest::default();
        question.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        let asking = self.answers.entry(question).or_try_insert_with(self.ask_once(text, claims.expires_ms));
        // A stopping gateway must not wait for a slow service.
        let answered = self.stop.run_until_cancelled(asking).await.ok_or(Refusal::Unavailable)?;
        let allow = match answered {
            Ok(entry) => {
                if !entry.is_fresh() {
                    counter!(AUTHORIZER_SHARED).increment(1);
                }
                entry.into_value().allow
            }
            // Errors are shared with those who wait, but never cached.
            Err(momentary) => match *momentary {
                SharedAnswer::Said(allow) => allow,
                SharedAnswer::Nothing => return Err(Refusal::Unavailable),
            },
        };
        if allow { Ok(()) } else { Err(Refusal::Forbidden) }
    }

    /// Sends one request. Its answer is not cached beyond the token's life.
    async fn ask_once(&self, text: String, expires_ms: u64) -> Result<AuthorizerAnswer, SharedAnswer> {
        let began = Instant::now();
        let outcome = self.send_request(text, began + self.settings.timeout).await;
        histogram!(AUTHORIZER_LATENCY).record(began.elapsed());
        self.note_outcome(&outcome);
        let AuthorizerReply { allow, ttl } = outcome.map_err(|_| SharedAnswer::Nothing)?;
        let life = Duration::from_millis(expires_ms.saturating_sub(now_ms()));
        let good_for = ttl.min(self.settings.max_ttl).min(life);
        if good_for.is_zero() { Err(SharedAnswer::Said(allow)) } else { Ok(AuthorizerAnswer { allow, good_for }) }
    }

    async fn send_request(&self, text: String, deadline: Instant) -> Result<AuthorizerReply, RequestError> {
        let place = timeout_at(deadline, self.places.acquire()).await;
        // Held to the end of the request. The wait for it counts, so that a queue cannot exceed the timeout.
        let Ok(Ok(_place)) = place else { return Err(RequestError::Busy) };
        timeout_at(deadline, self.endpoint.post_request(text)).await.map_err(|_| RequestError::TimedOut)?
    }

    /// Counts an outcome, and logs when requests begin to fail and when they work again.
    fn note_outcome(&self, outcome: &Result<AuthorizerReply, RequestError>) {
        let label = match outcome {
            Ok(AuthorizerReply { allow: true, .. }) => "allowed",
            Ok(AuthorizerReply { allow: false, .. }) => "denied",
            Err(error) => error.code(),
        };
        counter!(AUTHORIZER_REQUESTS, "outcome" => label).increment(1);
        let failed_before = self.failing.swap(outcome.is_err(), Ordering::Relaxed);
        match outcome {
            Err(error) if !failed_before => {
                tracing::warn!(event = logs::AUTHORIZER_FAILING, %error, "the authorizer gives no answer, so nobody enters the rooms it guards; see [authorizer]");
            }
            Ok(_) if failed_before => tracing::info!(event = logs::AUTHORIZER_RESTORED, "the authorizer answers again"),
            Ok(_) | Err(_) => {}
        }
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorizer({})", self.settings.url.origin().ascii_serialization())
    }
}
