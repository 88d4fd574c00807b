//! Whose turn it is: a key with the node's id in it that expires, taken where it is free and renewed where it is ours.

use std::time::Duration;

use redis::{RedisError, Script};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::{Ingest, IngestSettings, trouble};
use crate::link::Link;
use crate::logs;

/// Takes a free lease, renews our own, and returns whether it is ours. A holder without an expiry is not a node's, so
/// it is overwritten.
const HOLD: &str = "
    local holder = redis.call('GET', KEYS[1])
    if holder and holder ~= ARGV[1] and redis.call('PTTL', KEYS[1]) ~= -1 then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1";
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// The longest pause between two reads of another node's lease: how soon a released lease is taken.
const LOOK: Duration = Duration::from_millis(500);
/// Bound of the release while the node stops. Without it the lease expires by itself.
const FAREWELL: Duration = Duration::from_secs(1);

/// The lease of one node.
pub(super) struct Lease {
    /// A link with a short timeout, so that a hanging renewal fails before the lease ends.
    redis: Link,
    /// The key that holds the owner's id.
    key: String,
    /// This process's id: a restarted node is another owner.
    node: String,
    /// How long the lease lasts without renewal: `ingest.lease`.
    term: Duration,
    /// Its end by our own clock, counted from before the request: never later than the end in Redis.
    until: watch::Sender<Option<Instant>>,
    status: Ingest,
}

impl Lease {
    pub(super) fn new(redis: Link, settings: &IngestSettings, status: Ingest) -> Self {
        let key = format!("{}:ingest:leader", settings.prefix);
        let node = uuid::Uuid::now_v7().to_string();
        Self { redis, key, node, term: settings.lease, until: watch::Sender::new(None), status }
    }

    /// Takes and renews the lease, for ever.
    pub(super) async fn keep(&self) {
        let mut refused = false;
        loop {
            let asked = Instant::now();
            let held = match self.hold().await {
                Ok(held) => {
                    // The time of the request, not of the reply: Redis may have started the term right after it.
                    self.note(held.then(|| asked + self.term));
                    refused = false;
                    held
                }
                Err(error) => {
                    self.refused(&error, &mut refused);
                    // An error does not end a lease that Redis has granted: it holds until its own end.
                    let still = self.is_held().then(|| *self.until.borrow()).flatten();
                    self.note(still);
                    false
                }
            };
            // Renewed three times a term. When it is not ours, often enough that a release is noticed soon.
            sleep(if held { self.term / 3 } else { LOOK.min(self.term / 6) }).await;
        }
    }

    async fn hold(&self) -> Result<bool, RedisError> {
        let term = u64::try_from(self.term.as_millis()).unwrap_or(u64::MAX);
        Script::new(HOLD).key(&self.key).arg(&self.node).arg(term).invoke_async(&mut self.redis.clone()).await
    }

    /// Logs a refusal by Redis once. An unreachable Redis is reported by its link.
    fn refused(&self, error: &RedisError, known: &mut bool) {
        // Without a code the connection failed, which is not a refusal.
        if error.code().is_some() && !std::mem::replace(known, true) {
            let remedy = trouble::remedy(error);
            tracing::error!(event = logs::INGEST_LEASE_FAILED, %error, key = self.key, remedy, "this node cannot take its turn at the ingest stream");
        }
    }

    fn note(&self, until: Option<Instant>) {
        let was = self.until.send_replace(until).is_some();
        // A renewal changes no state, so nothing is reported.
        if was == until.is_some() {
            return;
        }
        self.status.lead(!was);
        if was {
            tracing::info!(event = logs::INGEST_LET_GO, "this node no longer reads the ingest stream");
        } else {
            tracing::info!(event = logs::INGEST_LEADING, "this node reads the ingest stream");
        }
    }

    /// Whether the lease is ours at this moment.
    pub(super) fn is_held(&self) -> bool {
        self.until.borrow().is_some_and(|until| until > Instant::now())
    }

    /// Waits until the lease is ours.
    pub(super) async fn taken(&self) {
        let mut until = self.until.subscribe();
        until.wait_for(|until| until.is_some_and(|until| until > Instant::now())).await.ok();
    }

    /// How long the holder may wait for entries before it checks the lease again.
    pub(super) fn glance(&self) -> Duration {
        self.term / 3
    }

    /// Releases the lease, so that another node takes it at once.
    pub(super) async fn release(&self) {
        let script = Script::new(RELEASE);
        let mut redis = self.redis.clone();
        let mut call = script.key(&self.key);
        let released = call.arg(&self.node).invoke_async::<i64>(&mut redis);
        // The node is stopping: a Redis that does not answer must not delay it.
        timeout(FAREWELL, released).await.ok();
        self.note(None);
    }
}
