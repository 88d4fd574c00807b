//! The keys that an identity provider publishes (a JWKS): fetched in the background, kept, and believed for a while.
//!
//! One task fetches, so that whoever waits shares one fetch, and no flood of tokens makes more of them than
//! `auth.jwks_cooldown` allows. Everybody else reads what is held, without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::auth::keys::{Key, KeySet};

mod fetch;
mod keeper;
mod trouble;

pub use fetch::FetchError;

use fetch::Source;
use keeper::Keeper;

/// Where the keys are, and how they are kept.
#[derive(Clone, Debug)]
pub struct JwksSettings {
    /// Where they are published.
    pub url: Url,
    /// Between two fetches while all is well.
    pub refresh: Duration,
    /// Between two fetches whatever happens.
    pub cooldown: Duration,
    /// How long a verification waits for a fetch that may bring its key.
    pub wait: Duration,
    /// How long one fetch may take.
    pub timeout: Duration,
    /// How old keys may be that are still believed.
    pub max_stale: Duration,
}

/// Reads the keys that are held. A clone shares everything.
#[derive(Clone, Debug)]
pub struct Jwks {
    held: watch::Receiver<Held>,
    asked: Arc<Asked>,
    wait: Duration,
}

/// How a reader asks for a fetch.
#[derive(Debug, Default)]
struct Asked {
    bell: Notify,
    /// Fetches that have begun.
    begun: AtomicU64,
}

/// What is known at one moment.
#[derive(Clone, Debug)]
pub struct Held {
    set: Option<Arc<KeySet>>,
    fetched: Option<Instant>,
    max_stale: Duration,
    /// Fetches that have ended, well or not.
    ended: u64,
    trouble: Option<Arc<str>>,
}

impl Jwks {
    /// Begins to fetch.
    ///
    /// # Errors
    /// When no HTTP client can be made, because the system has no certificates to trust.
    pub fn start(settings: &JwksSettings, tasks: &TaskTracker, stop: CancellationToken) -> Result<Self, FetchError> {
        let source = Source::new(settings.url.clone(), settings.timeout)?;
        let nothing = Held { set: None, fetched: None, max_stale: settings.max_stale, ended: 0, trouble: None };
        let (sender, held) = watch::channel(nothing);
        let asked = Arc::new(Asked::default());
        let keeper = Keeper::new(settings, source, sender, asked.clone());
        tasks.spawn(keeper.run(stop));
        Ok(Self { held, asked, wait: settings.wait })
    }

    /// What is held.
    #[must_use]
    pub fn held(&self) -> Held {
        self.held.borrow().clone()
    }

    /// What is held after a fetch that begins from now on, or as soon as there is a key of this name. Waits for
    /// `auth.jwks_wait` at most, and not for a gateway that stops.
    pub async fn after(&self, seen: &Held, name: Option<&str>) -> Held {
        let wanted = self.asked.begun.load(Ordering::Acquire) + 1;
        self.asked.bell.notify_one();
        let mut held = self.held.clone();
        let enough = |now: &Held| now.ended >= wanted || (now.ended > seen.ended && now.has(name));
        timeout(self.wait, held.wait_for(enough)).await.map(drop).ok();
        self.held()
    }
}

impl Held {
    /// The keys, unless they were never fetched or are too old to be believed.
    #[must_use]
    pub fn keys(&self) -> Option<&[Key]> {
        let fresh = self.age().is_some_and(|age| age <= self.max_stale);
        self.set.as_ref().filter(|_| fresh).map(|set| set.keys())
    }

    /// Since they were fetched.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.fetched.map(|at| at.elapsed())
    }

    /// Whether these are the very keys.
    #[must_use]
    pub fn is_same_set(&self, other: &Self) -> bool {
        match (&self.set, &other.set) {
            (None, None) => true,
            (Some(own), Some(others)) => Arc::ptr_eq(own, others),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// What is wrong, and what mends it.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let trouble = self.trouble.as_deref().unwrap_or("the first fetch is under way");
        match (self.keys(), &self.set) {
            (Some([]), _) => Some("the JWKS has no key of use; see the log for what is wrong with each".to_owned()),
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
