//! Control: what nodes tell each other beside events, as it stands on this one. The copy of the list of revocations, and
//! the work that is left for the owner of the sessions after messages from elsewhere.
//!
//! Times are those of the clock that all nodes share, which is the broker's: a node whose own clock is wrong would forget what
//! holds, or note what is of no use. Here it is measured against a clock that nothing sets.
//!
//! Revocations are never dropped: where too many wait to be told apart, every session is checked. Requests to kick a user
//! may be, because the asking node counts the answers.

use std::collections::VecDeque;
use std::time::Instant;

use hallway_rooms::revocation::{Mark, Revocation, Revocations, Shown};
use metrics::{Gauge, gauge};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use crate::clock;
use crate::metrics::REVOCATIONS;

/// Revocations that are remembered one by one; beyond, every session is looked at, which costs no more.
const REMEMBERED: usize = 4096;
/// Requests to kick a user that may wait: more than a fleet's services ask for in a second.
const KICKS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Control {
    list: RwLock<Revocations>,
    most: usize,
    loaded: watch::Sender<bool>,
    clock: Mutex<Clock>,
    problem: Mutex<Option<String>>,
    orders: Mutex<Orders>,
    raised: Notify,
    known: Gauge,
}

/// The clock that revocations go by.
#[derive(Clone, Copy, Debug)]
enum Clock {
    /// This process is the only one.
    Own,
    /// It is the broker's, which has not told it yet.
    Unknown,
    /// It was so late, in milliseconds since the Unix epoch, at that moment.
    Told(u64, Instant),
}

impl Clock {
    fn now_ms(self) -> Option<u64> {
        match self {
            Self::Own => Some(clock::now_ms()),
            Self::Unknown => None,
            Self::Told(ms, at) => Some(ms.saturating_add(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX))),
        }
    }
}

/// What came from other nodes and is to be carried out on this one.
#[derive(Debug, Default)]
pub struct Orders {
    /// Whose sessions are to be looked at, because the list has news of them.
    pub revoked: Vec<Mark>,
    /// Whether all sessions are to be looked at.
    pub everybody: bool,
    /// Whom to kick, and whom to tell how many that were.
    pub kicks: VecDeque<Kick>,
}

/// A request to kick a user's sessions on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kick {
    /// Whose.
    pub user: Mark,
    /// For [`Fleet::answer`](super::Fleet::answer).
    pub ticket: String,
}

/// A revocation as this node's copy has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The strongest of what is known.
    pub known: Revocation,
    /// What it takes the place of.
    pub before: Option<Revocation>,
}

/// How the list is, for readiness.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RevocationHealth {
    /// Whether this node knows what is revoked, and hears of more.
    pub ready: bool,
    /// How many are known.
    pub known: usize,
    /// What is wrong and what to do, when it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Control {
    /// An empty list that takes `most` revocations of its own node. `loaded` when there is nothing to be read first.
    #[must_use]
    pub fn new(most: usize, loaded: bool) -> Self {
        let problem = (!loaded).then(|| "the list of revoked tokens has not been read yet".to_owned());
        Self {
            list: RwLock::default(),
            most,
            loaded: watch::Sender::new(loaded),
            clock: Mutex::new(if loaded { Clock::Own } else { Clock::Unknown }),
            problem: Mutex::new(problem),
            orders: Mutex::default(),
            raised: Notify::new(),
            known: gauge!(REVOCATIONS),
        }
    }

    /// Whether a token has lost its force, as far as this node knows.
    #[must_use]
    pub fn covers(&self, shown: &Shown) -> bool {
        self.list.read().cover(shown)
    }

    /// Whether there is no place for one more. What other nodes noted is always taken in.
    #[must_use]
    pub fn is_full(&self, mark: Mark) -> bool {
        let list = self.list.read();
        list.len() >= self.most && list.of(mark).is_none()
    }

    /// Puts a revocation into the list. Whose sessions it ends is for the caller to see to, **behind** this.
    pub fn note(&self, revocation: &Revocation) -> Noted {
        let mut list = self.list.write();
        let before = list.of(revocation.mark);
        list.add(revocation);
        let known = list.of(revocation.mark).unwrap_or(*revocation);
        self.count(&list);
        Noted { known, before: before.filter(|before| *before != known) }
    }

    /// Takes in what came from elsewhere, and has the sessions looked at for what was not known.
    pub fn hear(&self, revocations: &[Revocation]) {
        let mut list = self.list.write();
        let news: Vec<Mark> = revocations.iter().filter(|one| list.add(one)).map(|one| one.mark).collect();
        self.count(&list);
        drop(list);
        if news.is_empty() {
            return;
        }
        let mut orders = self.orders.lock();
        orders.everybody |= orders.revoked.len() + news.len() > REMEMBERED;
        if orders.everybody {
            orders.revoked.clear()
        } else {
            orders.revoked.extend(news)
        }
        drop(orders);
        self.raised.notify_one();
    }

    /// Has a user's sessions kicked; false when too many wait.
    pub fn ask_for(&self, kick: Kick) -> bool {
        let mut orders = self.orders.lock();
        if orders.kicks.len() >= KICKS {
            return false;
        }
        orders.kicks.push_back(kick);
        drop(orders);
        self.raised.notify_one();
        true
    }

    /// What is to be done, when there is anything.
    pub async fn orders(&self) -> Orders {
        self.raised.notified().await;
        std::mem::take(&mut *self.orders.lock())
    }

    /// Notes how late it is by the broker's clock: `ms` at the moment `at`.
    pub fn set_clock(&self, ms: u64, at: Instant) {
        *self.clock.lock() = Clock::Told(ms, at);
    }

    /// How late it is by the clock that all nodes share; none while that is not known.
    #[must_use]
    pub fn now_ms(&self) -> Option<u64> {
        self.clock.lock().now_ms()
    }

    /// What ended before is over. Tokens are held against this node's own clock, so a revocation of tokens that it may still
    /// take for good stays: the earlier of the two clocks counts. Nothing is over while one of them is not known.
    #[must_use]
    pub fn over_ms(&self) -> u64 {
        self.now_ms().map_or(0, |shared| shared.min(clock::now_ms()))
    }

    /// Forgets what is over.
    pub fn expire(&self) {
        let over = self.over_ms();
        let mut list = self.list.write();
        list.expire(over);
        self.count(&list);
    }

    /// What is known of one user or token.
    #[must_use]
    pub fn of(&self, mark: Mark) -> Option<Revocation> {
        self.list.read().of(mark)
    }

    /// What this node knows beyond `other`.
    #[must_use]
    pub fn beyond(&self, other: &Revocations) -> Vec<Revocation> {
        self.list.read().beyond(other)
    }

    /// The list was read.
    pub fn set_loaded(&self) {
        self.loaded.send_replace(true);
    }

    /// Notes what stands against relying on it, if anything.
    pub fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock() = problem;
    }

    /// Waits until the list was read once.
    pub async fn loaded(&self) {
        if *self.loaded.borrow() {
            return;
        }
        // The sender lives as long as this.
        self.loaded.subscribe().wait_for(|loaded| *loaded).await.ok();
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> RevocationHealth {
        let problem = self.problem.lock().clone();
        let ready = *self.loaded.borrow() && problem.is_none();
        RevocationHealth { ready, known: self.list.read().len(), problem }
    }

    fn count(&self, list: &Revocations) {
        self.known.set(f64::from(u32::try_from(list.len()).unwrap_or(u32::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revocation(mark: u128) -> Revocation {
        Revocation { mark: Mark(mark), before_ms: 5, until_ms: 10 }
    }

    #[tokio::test]
    async fn news_is_an_order_once_and_too_much_of_it_means_everybody() {
        let control = Control::new(2, true);
        control.hear(&[revocation(1), revocation(2)]);
        control.hear(&[revocation(1)]);
        assert_eq!(control.orders().await.revoked, [Mark(1), Mark(2)]);
        let many: Vec<Revocation> = (0..=REMEMBERED as u128).map(|mark| revocation(mark + 10)).collect();
        control.hear(&many[..REMEMBERED]);
        control.hear(&many);
        let orders = control.orders().await;
        assert!(orders.everybody && orders.revoked.is_empty());
    }

    #[test]
    fn a_full_list_takes_nobody_new() {
        let control = Control::new(2, true);
        control.note(&revocation(1));
        assert!(!control.is_full(Mark(2)));
        control.note(&revocation(2));
        assert!(control.is_full(Mark(3)) && !control.is_full(Mark(2)));
        control.expire();
        assert!(!control.is_full(Mark(3)));
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
            let control = Control::new(2, false);
            if let Some(ms) = shared {
                control.set_clock(ms, Instant::now());
            }
            control.note(&until(end));
            control.expire();
            assert_eq!(control.of(Mark(1)).is_some(), kept, "{shared:?} {end}");
        }
    }

    #[test]
    fn what_is_noted_takes_the_place_of_what_was() {
        let control = Control::new(2, true);
        let later = Revocation { before_ms: 7, ..revocation(1) };
        assert_eq!(control.note(&revocation(1)), Noted { known: revocation(1), before: None });
        assert_eq!(control.note(&later), Noted { known: later, before: Some(revocation(1)) });
        assert_eq!(control.note(&revocation(1)), Noted { known: later, before: None });
    }
}
