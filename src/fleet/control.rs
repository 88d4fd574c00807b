//! Control: this node's copy of the list of revocations, and the orders from other nodes that its service has yet to
//! carry out.
//!
//! Times are those of the store's clock, which all nodes share. A node with a wrong clock would otherwise forget revocations
//! that still hold, or note revocations that hold for no token. Between two readings of the store's clock, time is measured
//! with a monotonic one, which no operator can set.
//!
//! Revocations are never dropped: when too many wait to be remembered one by one, every session is checked. Requests to
//! kick a user may be dropped, because the node that asked counts the answers.

use std::collections::VecDeque;
use std::time::Instant;

use hallway_rooms::revocation::{Revocation, Revocations, SubjectHash, TokenIdentity};
use metrics::{Gauge, gauge};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use crate::clock;
use crate::metrics::REVOCATIONS;

/// Revocations that are remembered one by one. Beyond that every session is checked, which costs no more.
const REMEMBERED: usize = 4096;
/// Requests to kick a user that may wait: more than all services send in a second.
const KICKS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct RevocationList {
    list: RwLock<Revocations>,
    /// Revocations that this node may note; those of other nodes are always accepted.
    most: usize,
    /// Whether the stored list was read once: until then no token can be accepted.
    loaded: watch::Sender<bool>,
    clock: Mutex<RevocationClock>,
    /// Why this copy cannot be relied on.
    problem: Mutex<Option<String>>,
    orders: Mutex<RemoteOrders>,
    /// Wakes the task that carries out orders.
    raised: Notify,
    known: Gauge,
}

/// The clock that revocations go by.
#[derive(Clone, Copy, Debug)]
enum RevocationClock {
    /// This process is the only one.
    Own,
    /// It is the store's, which has not answered yet.
    Unknown,
    /// Its time in milliseconds since the Unix epoch, and the moment of that reading.
    Told(u64, Instant),
}

impl RevocationClock {
    fn now_ms(self) -> Option<u64> {
        match self {
            Self::Own => Some(clock::now_ms()),
            Self::Unknown => None,
            Self::Told(ms, at) => Some(ms.saturating_add(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX))),
        }
    }
}

/// Orders from other nodes, to be carried out on this one.
#[derive(Debug, Default)]
pub struct RemoteOrders {
    /// Users and tokens with a new revocation: their sessions must be checked.
    pub revoked: Vec<SubjectHash>,
    /// Whether all sessions must be checked.
    pub everybody: bool,
    /// Requests to kick a user, oldest first.
    pub kicks: VecDeque<Kick>,
}

/// A request to kick a user's sessions on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kick {
    /// The user.
    pub user: SubjectHash,
    /// Where the answer goes, for [`Fleet::answer_kick`](super::Fleet::answer_kick).
    pub ticket: String,
}

/// A revocation as this node's copy has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotedRevocation {
    /// The strongest revocation known of this user or token.
    pub known: Revocation,
    /// The entry that it replaces.
    pub before: Option<Revocation>,
}

/// The state of the list, for readiness.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RevocationHealth {
    /// Whether this node has the list and receives changes of it.
    pub ready: bool,
    /// Entries of the list.
    pub known: usize,
    /// The failure and its remedy, while it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl RevocationList {
    /// An empty list that accepts `most` revocations of its own node. `loaded` for a node alone, which has nothing to read.
    #[must_use]
    pub fn new(most: usize, loaded: bool) -> Self {
        let problem = (!loaded).then(|| "the list of revoked tokens has not been read yet".to_owned());
        Self {
            list: RwLock::default(),
            most,
            loaded: watch::Sender::new(loaded),
            // A node alone has no store to ask for the time.
            clock: Mutex::new(if loaded { RevocationClock::Own } else { RevocationClock::Unknown }),
            problem: Mutex::new(problem),
            orders: Mutex::default(),
            raised: Notify::new(),
            known: gauge!(REVOCATIONS),
        }
    }

    /// Whether a token is revoked, as far as this node knows.
    #[must_use]
    pub fn covers(&self, identity: &TokenIdentity) -> bool {
        self.list.read().cover_token(identity)
    }

    /// Whether there is no room for another entry. Revocations from other nodes are always accepted.
    #[must_use]
    pub fn is_full(&self, mark: SubjectHash) -> bool {
        let list = self.list.read();
        // A user or token with an entry needs no second one.
        list.len() >= self.most && list.revocation_of(mark).is_none()
    }

    /// Puts a revocation into the list. The caller must end the sessions **after** this, never before.
    pub fn add_revocation(&self, revocation: &Revocation) -> NotedRevocation {
        let mut list = self.list.write();
        let before = list.revocation_of(revocation.mark);
        list.add(revocation);
        let known = list.revocation_of(revocation.mark).unwrap_or(*revocation);
        self.update_gauge(&list);
        NotedRevocation { known, before: before.filter(|before| *before != known) }
    }

    /// Adds revocations from elsewhere, and orders a check of the sessions that a new one concerns.
    pub fn merge_remote(&self, revocations: &[Revocation]) {
        let mut list = self.list.write();
        let news: Vec<SubjectHash> = revocations.iter().filter(|one| list.add(one)).map(|one| one.mark).collect();
        self.update_gauge(&list);
        drop(list);
        // Most messages repeat what this node noted itself.
        if news.is_empty() {
            return;
        }
        let mut orders = self.orders.lock();
        orders.everybody |= orders.revoked.len() + news.len() > REMEMBERED;
        // A check of all sessions includes those of the single entries.
        if orders.everybody {
            orders.revoked.clear()
        } else {
            orders.revoked.extend(news)
        }
        drop(orders);
        self.raised.notify_one();
    }

    /// Orders a kick of a user's sessions; false when too many orders wait.
    pub fn ask_for(&self, kick: Kick) -> bool {
        let mut orders = self.orders.lock();
        // Without an answer from this node, the asking node reports that not all nodes kicked.
        if orders.kicks.len() >= KICKS {
            return false;
        }
        orders.kicks.push_back(kick);
        drop(orders);
        self.raised.notify_one();
        true
    }

    /// Waits for orders and takes all of them.
    pub async fn take_orders(&self) -> RemoteOrders {
        self.raised.notified().await;
        std::mem::take(&mut *self.orders.lock())
    }

    /// Notes a reading of the store's clock: `ms` at the moment `at`.
    pub fn set_clock(&self, ms: u64, at: Instant) {
        *self.clock.lock() = RevocationClock::Told(ms, at);
    }

    /// The time by the clock that all nodes share; none before its first reading.
    #[must_use]
    pub fn now_ms(&self) -> Option<u64> {
        self.clock.lock().now_ms()
    }

    /// Revocations that end before this time are over. It is the earlier of the shared clock and this node's own one: tokens
    /// expire by the latter, so an earlier end would accept a revoked token. Zero while the shared clock is not known.
    #[must_use]
    pub fn over_ms(&self) -> u64 {
        self.now_ms().map_or(0, |shared| shared.min(clock::now_ms()))
    }

    /// Removes revocations that are over.
    pub fn expire(&self) {
        let over = self.over_ms();
        let mut list = self.list.write();
        list.remove_expired(over);
        self.update_gauge(&list);
    }

    /// The revocation of a user or token.
    #[must_use]
    pub fn revocation_of(&self, mark: SubjectHash) -> Option<Revocation> {
        self.list.read().revocation_of(mark)
    }

    /// The revocations that `other` lacks, or has in a weaker form.
    #[must_use]
    pub fn missing_from(&self, other: &Revocations) -> Vec<Revocation> {
        self.list.read().missing_from(other)
    }

    /// Notes that the stored list was read.
    pub fn set_loaded(&self) {
        self.loaded.send_replace(true);
    }

    /// Notes why this copy cannot be relied on, or that it can.
    pub fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock() = problem;
    }

    /// Waits until the stored list was read once.
    pub async fn wait_until_loaded(&self) {
        // Nearly always: without this every CONNECT would make a receiver.
        if *self.loaded.borrow() {
            return;
        }
        // No error is possible: the sender lives as long as `self`.
        self.loaded.subscribe().wait_for(|loaded| *loaded).await.ok();
    }

    /// The state of the list.
    #[must_use]
    pub fn health(&self) -> RevocationHealth {
        let problem = self.problem.lock().clone();
        let ready = *self.loaded.borrow() && problem.is_none();
        RevocationHealth { ready, known: self.list.read().len(), problem }
    }

    fn update_gauge(&self, list: &Revocations) {
        self.known.set(f64::from(u32::try_from(list.len()).unwrap_or(u32::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revocation(mark: u128) -> Revocation {
        Revocation { mark: SubjectHash(mark), before_ms: 5, until_ms: 10 }
    }

    #[tokio::test]
    async fn news_is_an_order_once_and_too_much_of_it_means_everybody() {
        let control = RevocationList::new(2, true);
        control.merge_remote(&[revocation(1), revocation(2)]);
        control.merge_remote(&[revocation(1)]);
        assert_eq!(control.take_orders().await.revoked, [SubjectHash(1), SubjectHash(2)]);
        let many: Vec<Revocation> = (0..=REMEMBERED as u128).map(|mark| revocation(mark + 10)).collect();
        control.merge_remote(&many[..REMEMBERED]);
        control.merge_remote(&many);
        let orders = control.take_orders().await;
        assert!(orders.everybody && orders.revoked.is_empty());
    }

    #[test]
    fn a_full_list_takes_nobody_new() {
        let control = RevocationList::new(2, true);
        control.add_revocation(&revocation(1));
        assert!(!control.is_full(SubjectHash(2)));
        control.add_revocation(&revocation(2));
        assert!(control.is_full(SubjectHash(3)) && !control.is_full(SubjectHash(2)));
        control.expire();
        assert!(!control.is_full(SubjectHash(3)));
    }

    #[test]
    fn what_is_over_is_so_by_both_clocks() {
        let (now, day) = (clock::now_ms(), 86_400_000);
        let until = |until_ms| Revocation { until_ms, ..revocation(1) };
        for (shared, end, kept) in [
            (None, now - day, true),
            (Some(now), now - day, false),
            (Some(now), now + day, true),
            (Some(now + 9 * day), now + day, true),
            (Some(now - 9 * day), now - day, true),
        ] {
            let control = RevocationList::new(2, false);
            if let Some(ms) = shared {
                control.set_clock(ms, Instant::now());
            }
            control.add_revocation(&until(end));
            control.expire();
            assert_eq!(control.revocation_of(SubjectHash(1)).is_some(), kept, "{shared:?} {end}");
        }
    }

    #[test]
    fn what_is_noted_takes_the_place_of_what_was() {
        let control = RevocationList::new(2, true);
        let later = Revocation { before_ms: 7, ..revocation(1) };
        assert_eq!(control.add_revocation(&revocation(1)), NotedRevocation { known: revocation(1), before: None });
        assert_eq!(control.add_revocation(&later), NotedRevocation { known: later, before: Some(revocation(1)) });
        assert_eq!(control.add_revocation(&revocation(1)), NotedRevocation { known: later, before: None });
    }
}
