//! The API keys: what each may do, and how often it may be used.

use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use hallway_rooms::close::Refusal;
use parking_lot::Mutex;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::rate::{Rate, TokenBucket};

/// What a key may do. None implies another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope {
    /// Publish events.
    Publish,
    /// Read rooms and their histories.
    Read,
    /// Act on users and their sockets.
    Admin,
}

impl KeyScope {
    /// The scope's name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// A configured key.
pub struct KeySettings<'a> {
    /// Its name in logs and metrics.
    pub name: &'a str,
    /// The text that its bearer sends.
    pub secret: &'a str,
    /// What it may do.
    pub scopes: Vec<KeyScope>,
    /// Requests per second, if bounded.
    pub per_second: Option<u32>,
}

/// All keys of `/v1`. Secrets are kept as digests, all of one length.
pub struct ApiKeys {
    keys: Vec<ApiKey>,
    /// Bounds the answers to requests without a valid key.
    failures: Mutex<TokenBucket>,
    failure_rate: Rate,
}

struct ApiKey {
    name: Arc<str>,
    /// Compared instead of the secret, which is not kept.
    digest: [u8; SHA256_OUTPUT_LEN],
    scopes: Vec<KeyScope>,
    rate: Option<Rate>,
    /// Use of its rate.
    used: Mutex<TokenBucket>,
}

/// Why the key check refused a request.
#[derive(Debug)]
pub(super) struct RequestDenied {
    /// The name of its key, if it was valid.
    pub(super) key: Option<Arc<str>>,
    pub(super) refusal: Refusal,
    pub(super) message: String,
}

impl ApiKeys {
    /// Opens `/v1` to the bearers of `keys`; without any key it stays closed. At most `failures_per_second` requests
    /// without a valid key are answered as such.
    #[must_use]
    pub fn new(keys: Vec<KeySettings<'_>>, failures_per_second: u32) -> Self {
        let keys = keys.into_iter().map(|settings| ApiKey {
            name: settings.name.into(),
            digest: sha256(settings.secret),
            scopes: settings.scopes,
            rate: settings.per_second.map(Rate::per_second),
            used: Mutex::default(),
        });
        Self { keys: keys.collect(), failures: Mutex::default(), failure_rate: Rate::per_second(failures_per_second) }
    }

    /// The names of all keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.keys.iter().map(|key| &key.name)
    }

    /// Checks the header `Authorization`, and returns the key's name if it permits `need` and is within its rate.
    pub(super) fn admit_key(
        &self,
        header: Option<&str>,
        need: Option<KeyScope>,
        now: Instant,
    ) -> Result<Arc<str>, RequestDenied> {
        // Before the header: no key could be right.
        if self.keys.is_empty() {
            let message = "the API is off: set api.key (HALLWAY_API__KEY) or [api.keys] to open it".to_owned();
            return Err(RequestDenied { key: None, refusal: Refusal::Forbidden, message });
        }
        let key = self.find(header).ok_or_else(|| self.deny_unknown_key(now))?;
        let denied = |refusal, message| Err(RequestDenied { key: Some(key.name.clone()), refusal, message });
        // Before the scope: requests beyond the rate must not cost more than this.
        if key.rate.is_some_and(|rate| !key.used.lock().take_token(rate, now)) {
            return denied(Refusal::RateLimited, "this key is used more often than its rate allows".to_owned());
        }
        match need.filter(|need| !key.scopes.contains(need)) {
            None => Ok(key.name.clone()),
            Some(need) => denied(Refusal::Forbidden, missing_scope(need)),
        }
    }

    /// Finds a key. All keys are compared to the end, so that the time reveals neither which one came close nor how
    /// long it is.
    fn find(&self, header: Option<&str>) -> Option<&ApiKey> {
        let (scheme, given) = header?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("Bearer") {
            return None;
        }
        let given = sha256(given);
        let (mut found, mut place) = (Choice::from(0), 0_u64);
        for (at, key) in (0_u64..).zip(&self.keys) {
            let same = given.ct_eq(&key.digest);
            // Without a branch, for the same reason.
            place.conditional_assign(&at, same);
            found |= same;
        }
        let key = usize::try_from(place).ok().and_then(|at| self.keys.get(at));
        key.filter(|_| found.into())
    }

    fn deny_unknown_key(&self, now: Instant) -> RequestDenied {
        let (refusal, message) = match self.failures.lock().take_token(self.failure_rate, now) {
            true => (Refusal::Unauthorized, "send `Authorization: Bearer <api key>`"),
            false => (Refusal::RateLimited, "too many requests without a valid API key"),
        };
        RequestDenied { key: None, refusal, message: message.to_owned() }
    }
}

fn missing_scope(need: KeyScope) -> String {
    format!("this key lacks the scope `{}`: use another, or add that to its scopes in the configuration", need.name())
}

fn sha256(text: &str) -> [u8; SHA256_OUTPUT_LEN] {
    let mut bytes = [0; SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

impl std::fmt::Debug for KeySettings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySettings").field("name", &self.name).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| (&key.name, &key.scopes))).finish()
    }
}
