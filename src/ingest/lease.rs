//! The lease of the ingest stream: which node reads it.
//!
//! **The problem.** One node at a time is to read the stream, so that work is done once. Nodes stop, stall and lose
//! Redis at any moment, and another is to go on within seconds, without an election and without a second service.
//!
//! **The rule.** A key holds the id of the reading node and expires after `term`.
//!
//! - A script takes the key where it is free and renews it where it is this node's, in one step.
//! - The holder renews every third of `term`; the others try more often than that.
//! - The holder trusts its lease until `asked + term`, by its own monotonic clock, where `asked` is the moment before
//!   the request was sent. Redis counts from when it ran the script, which is later.
//!
//! **Why it is right.** Redis runs one script at a time and gives the key to one node. Since the holder counts from the
//! earlier moment, it stops no later than Redis lets the key expire, as long as both clocks run at the same speed. A
//! reply that is lost extends nothing. The next renewal finds the node's own id and succeeds.
//!
//! **Where it is not enough.** A process that is suspended behind its check and before its write acts on a lease that
//! has ended, and a failover can lose the key. Two nodes may then read for a moment. No lease can exclude that, so
//! nothing depends on it: two readers store nothing twice and nothing out of order, by ids and acknowledgements
//! (`src/ingest.rs`). The lease saves work; it is not what keeps the order.
//!
//! **Example**, with a term of 10 s. A asks at 0 s and Redis sets the key at 0.2 s: A trusts it until 10 s, Redis keeps
//! it until 10.2 s. A renews at 3.3 s. A is killed at 5 s: the key expires about 13.5 s, B tries twice a second and has
//! it by 14 s. If A stops in an orderly way, it deletes the key and B has it within half a second.
//!
//! **Faults.** Redis out of reach: the holder goes on until its own clock ends the lease. Redis refuses (rights,
//! memory): logged once with the remedy. A key without expiry, set by hand or by a restore, belongs to no node and is
//! taken over.

use std::time::Duration;

use redis::{RedisError, Script};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::{IngestSettings, IngestStatus, failure};
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
    status: IngestStatus,
}

impl Lease {
    pub(super) fn new(redis: Link, settings: &IngestSettings, status: IngestStatus) -> Self {
        let key = format!("{}:ingest:leader", settings.prefix);
        let node = uuid::Uuid::now_v7().to_string();
        Self { redis, key, node, term: settings.lease, until: watch::Sender::new(None), status }
    }

    /// Takes and renews the lease, for ever.
    pub(super) async fn keep_renewed(&self) {
        let mut refused = false;
        loop {
            let asked = Instant::now();
            let held = match self.try_acquire().await {
                Ok(held) => {
                    // The time of the request, not of the reply: Redis may have started the term right after it.
                    self.set_held_until(held.then(|| asked + self.term));
                    refused = false;
                    held
                }
                Err(error) => {
                    self.report_refusal(&error, &mut refused);
                    // An error does not end a lease that Redis has granted: it holds until its own end.
                    let still = self.is_held().then(|| *self.until.borrow()).flatten();
                    self.set_held_until(still);
                    false
                }
            };
            // Renewed three times a term. When it is not ours, often enough that a release is noticed soon.
            sleep(if held { self.term / 3 } else { LOOK.min(self.term / 6) }).await;
        }
    }

    async fn try_acquire(&self) -> Result<bool, RedisError> {
        let term = u64::try_from(self.term.as_millis()).unwrap_or(u64::MAX);
        Script::new(HOLD).key(&self.key).arg(&self.node).arg(term).invoke_async(&mut self.redis.clone()).await
    }

    /// Logs a refusal by Redis once. An unreachable Redis is reported by its link.
    fn report_refusal(&self, error: &RedisError, known: &mut bool) {
        // Without a code the connection failed, which is not a refusal.
        if error.code().is_some() && !std::mem::replace(known, true) {
            let remedy = failure::remedy(error);
            tracing::error!(event = logs::INGEST_LEASE_FAILED, %error, key = self.key, remedy, "this node cannot take its turn at the ingest stream");
        }
    }

    fn set_held_until(&self, until: Option<Instant>) {
        let was = self.until.send_replace(until).is_some();
        // A renewal changes no state, so nothing is reported.
        if was == until.is_some() {
            return;
        }
        self.status.set_leading(!was);
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
    pub(super) async fn wait_until_held(&self) {
        let mut until = self.until.subscribe();
        until.wait_for(|until| until.is_some_and(|until| until > Instant::now())).await.ok();
    }

    /// How long the holder may wait for entries before it checks the lease again.
    pub(super) fn recheck_interval(&self) -> Duration {
        self.term / 3
    }

    /// Releases the lease, so that another node takes it at once.
    pub(super) async fn release_lease(&self) {
        let script = Script::new(RELEASE);
        let mut redis = self.redis.clone();
        let mut call = script.key(&self.key);
        let released = call.arg(&self.node).invoke_async::<i64>(&mut redis);
        // The node is stopping: a Redis that does not answer must not delay it.
        timeout(FAREWELL, released).await.ok();
        self.set_held_until(None);
    }
}
