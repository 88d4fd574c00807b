//! The keys that an identity provider publishes (a JWKS): fetched in the background, kept, and trusted for a limited
//! time.
//!
//! One task fetches, so that all waiting verifications share one fetch, and a flood of tokens causes no more fetches
//! than `auth.jwks_cooldown` allows. Other readers use the held keys without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::auth::keys::{KeySet, VerifyingKey};

mod failures;
mod fetch;
mod fetcher;

pub use fetch::FetchError;

use fetch::JwksSource;
use fetcher::KeyFetcher;

/// The source of the keys, and how they are kept.
#[derive(Clone, Debug)]
pub struct JwksSettings {
    /// The URL of the document.
    pub url: Url,
    /// Time between two fetches in normal operation.
    pub refresh: Duration,
    /// The least time between two fetches in any case.
    pub cooldown: Duration,
    /// How long a verification waits for a fetch that may bring its key.
    pub wait: Duration,
    /// The timeout of one fetch.
    pub timeout: Duration,
    /// The age up to which keys are trusted.
    pub max_stale: Duration,
}

/// The reader of the held keys. Clones share everything.
#[derive(Clone, Debug)]
pub struct Jwks {
    /// The last result of the fetching task.
    held: watch::Receiver<HeldKeys>,
    asked: Arc<FetchRequest>,
    /// The bound of a verification's wait.
    wait: Duration,
}

/// The request for a fetch.
#[derive(Debug, Default)]
struct FetchRequest {
    /// Wakes the fetching task; rings that come together cause one fetch.
    bell: Notify,
    /// Fetches that have begun, by which a waiting verification recognizes its own.
    begun: AtomicU64,
}

/// The state at one moment.
#[derive(Clone, Debug)]
pub struct HeldKeys {
    /// Shared, since every verification takes a copy.
    set: Option<Arc<KeySet>>,
    /// When the request for these keys was sent.
    fetched: Option<Instant>,
    max_stale: Duration,
    /// Fetches that have ended, with or without success.
    ended: u64,
    /// The last failure, for `/readyz`.
    trouble: Option<Arc<str>>,
}

impl Jwks {
    /// Starts to fetch.
    ///
    /// # Errors
    /// When no HTTP client can be made, because the system has no trusted certificates.
    pub fn start(settings: &JwksSettings, tasks: &TaskTracker, stop: CancellationToken) -> Result<Self, FetchError> {
        let source = JwksSource::new(settings.url.clone(), settings.timeout)?;
        let nothing = HeldKeys { set: None, fetched: None, max_stale: settings.max_stale, ended: 0, trouble: None };
        let (sender, held) = watch::channel(nothing);
        let asked = Arc::new(FetchRequest::default());
        let keeper = KeyFetcher::new(settings, source, sender, asked.clone());
        tasks.spawn(crate::essential::run_essential("jwks", keeper.run(stop)));
        Ok(Self { held, asked, wait: settings.wait })
    }

    /// The current state.
    #[must_use]
    pub fn current_keys(&self) -> HeldKeys {
        self.held.borrow().clone()
    }

    /// The state after a fetch that begins from now on, or as soon as a key of this name is there. Waits for
    /// `auth.jwks_wait` at most, and not while the gateway stops.
    pub async fn wait_for_fetch(&self, seen: &HeldKeys, name: Option<&str>) -> HeldKeys {
        // A fetch that is under way may have read the document before the key was added.
        let wanted = self.asked.begun.load(Ordering::Acquire) + 1;
        self.asked.bell.notify_one();
        let mut held = self.held.clone();
        // Another fetch than the awaited one may bring the key earlier.
        let enough = |now: &HeldKeys| now.ended >= wanted || (now.ended > seen.ended && now.has(name));
        timeout(self.wait, held.wait_for(enough)).await.map(drop).ok();
        self.current_keys()
    }
}

impl HeldKeys {
    /// The keys, unless they were never fetched or are too old to be trusted.
    #[must_use]
    pub fn keys(&self) -> Option<&[VerifyingKey]> {
        let fresh = self.age().is_some_and(|age| age <= self.max_stale);
        self.set.as_ref().filter(|_| fresh).map(|set| set.keys())
    }

    /// The time since they were fetched.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.fetched.map(|at| at.elapsed())
    }

    /// Whether both hold the very same set.
    #[must_use]
    pub fn is_same_set(&self, other: &Self) -> bool {
        match (&self.set, &other.set) {
            (None, None) => true,
            (Some(own), Some(others)) => Arc::ptr_eq(own, others),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// The failure and its remedy.
    #[must_use]
    pub fn describe_problem(&self) -> Option<String> {
        let trouble = self.trouble.as_deref().unwrap_or("the first fetch is under way");
        match (self.keys(), &self.set) {
            // Fetched and valid, yet it verifies no token.
            (Some([]), _) => Some("the JWKS has no key of use; see the log for what is wrong with each".to_owned()),
            // Still usable: the failure is displayed before the keys become too old.
            (Some(_), _) => self.trouble.as_deref().map(str::to_owned),
            (None, Some(_)) => {
                Some(format!("the JWKS is older than auth.jwks_max_stale and no longer believed: {trouble}"))
            }
            (None, None) => Some(format!("the JWKS was not fetched yet: {trouble}")),
        }
    }

    fn has(&self, name: Option<&str>) -> bool {
        name.is_some_and(|name| self.keys().is_some_and(|keys| keys.iter().any(|key| key.is_called(name))))
    }
}
