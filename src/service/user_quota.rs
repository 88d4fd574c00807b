//! The connection quota: each user has at most `limits.connections_per_user` sessions, those of all nodes together.
//!
//! A CONNECT takes a place in this node's count, announces that count to the fleet, and is given the count of the other nodes
//! in the same act. It is refused, and its place given back, if both together exceed the quota. CONNECTs do not wait for each
//! other, so a thousand of them at once take the time of one. Ended sessions are announced by a task, the quota sync
//! (`quota/sync.rs`), many in one message.
//!
//! Of two nodes that announce at the same moment one sees the other, so the quota holds, with one exception: of two CONNECTs of
//! one user on one node, the greater count may overtake the smaller one on the way to Redis. Until the sync has corrected
//! that, which takes milliseconds, other nodes count too little. Places of CONNECTs that are about to be refused count for
//! as long, and then too few may be admitted. Neither can happen while sessions and CONNECTs together fit into the quota.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hallway_rooms::close::Refusal;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Service;
use crate::auth::claims::Claims;
use crate::fleet::{Unavailable, UserCount};
use crate::logs;
use crate::metrics::limit::Limit;

mod sync;

/// Users whose last session here ended and whose announcement may wait while the fleet is out of reach. Further ones are
/// forgotten here, and within an hour by the fleet.
const OWED: usize = 100_000;

/// The connection quota of this node's users.
#[derive(Clone, Debug, Default)]
pub struct UserQuota(Arc<QuotaShared>);

#[derive(Debug, Default)]
struct QuotaShared {
    state: Mutex<QuotaState>,
    /// Wakes the quota sync.
    news: Notify,
}

#[derive(Debug, Default)]
struct QuotaState {
    /// Users with sessions or CONNECTs here, and their number.
    users: HashMap<Arc<str>, usize>,
    /// Users whose announced count may differ from the one here.
    changed: HashSet<Arc<str>>,
}

/// A place in a user's quota. It is given back when this is dropped, unless a session keeps it.
#[derive(Debug)]
pub struct QuotaSlot {
    quota: UserQuota,
    user: Arc<str>,
    kept: bool,
}

impl QuotaSlot {
    /// Leaves the place to a session, at whose end [`Service::finish_session`] gives it back.
    pub fn keep_for_session(mut self) {
        self.kept = true;
    }
}

impl Drop for QuotaSlot {
    fn drop(&mut self) {
        if !self.kept {
            self.quota.give_back(&self.user);
        }
    }
}

impl Service {
    /// Admits a CONNECT of a user. While the fleet is out of reach, or does not answer within `quota_wait`, only the sessions
    /// of this node count: the quota protects resources, and no right depends on it.
    ///
    /// # Errors
    /// `too-many-connections` when the user has as many as allowed.
    pub async fn acquire_connection(&self, claims: &Claims) -> Result<QuotaSlot, Refusal> {
        let quota = self.0.limits.connections_per_user;
        // Without room here there is none on all nodes, which needs no round trip.
        if let Some((slot, here)) = self.0.quota.take(&claims.subject, quota)
            && here + self.elsewhere(&slot, here).await <= quota
        {
            return Ok(slot);
        }
        Limit::ConnectionsPerUser.note_reached();
        tracing::debug!(
            event = logs::SEAT_REFUSED,
            user = &*claims.subject,
            "a CONNECT was refused: limits.connections_per_user"
        );
        Err(Refusal::TooManyConnections)
    }

    /// Announces a user's count here, and gives that of the other nodes, as far as it is known.
    async fn elsewhere(&self, slot: &QuotaSlot, here: usize) -> usize {
        let count = UserCount { user: slot.user.clone(), here };
        match self.count_in_time(std::slice::from_ref(&count)).await {
            Ok(others) => {
                self.0.quota.settle_waiting(&count);
                others.into_iter().next().flatten().unwrap_or(0)
            }
            Err(Unavailable(_)) => {
                self.0.quota.mark_unannounced(std::iter::once(count.user));
                0
            }
        }
    }

    /// As the fleet counts, within the time that a CONNECT may wait for it.
    async fn count_in_time(&self, counts: &[UserCount]) -> Result<Vec<Option<usize>>, Unavailable> {
        let answer = timeout(self.0.limits.quota_wait, self.0.fleet.count_users(counts)).await;
        answer.unwrap_or_else(|_| Err(Unavailable("it did not answer in time".to_owned())))
    }
}

impl UserQuota {
    /// Takes a place if there is one here; gives the count with it.
    fn take(&self, name: &str, quota: usize) -> Option<(QuotaSlot, usize)> {
        let mut state = self.0.state.lock();
        let user = state.users.get_key_value(name).map_or_else(|| Arc::from(name), |(user, _)| user.clone());
        let here = state.users.get(name).copied().unwrap_or_default() + 1;
        if here > quota {
            return None;
        }
        state.users.insert(user.clone(), here);
        Some((QuotaSlot { quota: self.clone(), user, kept: false }, here))
    }

    /// Gives a place back, and has that announced.
    pub(super) fn give_back(&self, name: &str) {
        let mut state = self.0.state.lock();
        let Some((user, here)) = state.users.get_key_value(name).map(|(user, here)| (user.clone(), *here)) else {
            return;
        };
        if here > 1 {
            state.users.insert(user.clone(), here - 1);
        } else {
            state.users.remove(name);
        }
        // In a long outage the set would otherwise keep every user that was ever here.
        if here > 1 || state.changed.len() < OWED {
            state.changed.insert(user);
        }
        drop(state);
        self.0.news.notify_one();
    }

    /// Has these users announced.
    fn mark_unannounced(&self, users: impl Iterator<Item = Arc<str>>) {
        self.0.state.lock().changed.extend(users);
        self.0.news.notify_one();
    }

    /// Has every user announced.
    fn mark_all_unannounced(&self) {
        let users: Vec<Arc<str>> = self.0.state.lock().users.keys().cloned().collect();
        self.mark_unannounced(users.into_iter());
    }

    /// Has a user announced again whose count changed while `announced` was on the way: it may have overtaken the announcement
    /// of that change.
    fn settle_waiting(&self, announced: &UserCount) {
        let here = self.0.state.lock().users.get(&announced.user).copied().unwrap_or_default();
        if here != announced.here {
            self.mark_unannounced(std::iter::once(announced.user.clone()));
        }
    }

    /// The next counts to announce, at most `most`.
    fn take_due_asks(&self, most: usize) -> Vec<UserCount> {
        let mut state = self.0.state.lock();
        let users: Vec<Arc<str>> = state.changed.iter().take(most).cloned().collect();
        let take = |user: Arc<str>| {
            state.changed.remove(&user);
            let here = state.users.get(&user).copied().unwrap_or_default();
            UserCount { user, here }
        };
        users.into_iter().map(take).collect()
    }
}
