//! Seats: how many sessions each user has here, and on all nodes no more than `limits.connections_per_user`.
//!
//! A CONNECT takes a seat here and has the broker asked; an end gives it back and has the broker told. One task does
//! both, the usher (`seats/usher.rs`): what gathers while one question is under way is the next. So what this node tells
//! of a user is told in the order in which it was so, whatever the number of CONNECTs at once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use hallway_rooms::close::Refusal;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::Service;
use crate::auth::claims::Claims;
use crate::fleet::Ask;
use crate::logs;
use crate::metrics::limit::Limit;

mod usher;

/// Users told together.
const AT_ONCE: usize = 256;

/// Users whose last session here ended and who may be waited with until the broker can be told. Those past it are
/// forgotten here, and within an hour by the broker.
const OWED: usize = 100_000;

/// The seats of this node.
#[derive(Clone, Debug, Default)]
pub struct Seats(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something is due.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    users: HashMap<Arc<str>, User>,
    /// Users somebody of whom waits for an answer.
    asking: VecDeque<Arc<str>>,
    /// Users whose number is to be told.
    owed: VecDeque<Arc<str>>,
}

/// Kept while it has seats, somebody waits, or the broker is to be told that neither is so.
#[derive(Debug, Default)]
struct User {
    seats: usize,
    waiting: VecDeque<oneshot::Sender<Seat>>,
    is_asking: bool,
    is_owed: bool,
}

impl User {
    /// Nothing is to be remembered or told.
    fn is_nobody(&self) -> bool {
        self.seats == 0 && self.waiting.is_empty() && !self.is_owed
    }

    /// Somebody who waits no longer has a seat by other ways, or none.
    fn forget_the_impatient(&mut self) {
        self.waiting.retain(|waiting| !waiting.is_closed());
    }
}

/// A seat that was granted; given back when this is dropped, unless a session keeps it.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    user: Arc<str>,
    kept: bool,
}

impl Seat {
    /// Leaves the seat to a session, at whose end [`Service::finish`] gives it back.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.kept {
            self.seats.give_back(&self.user);
        }
    }
}

impl Service {
    /// Finds a seat for a user. While the broker is out of reach, or does not answer within `seat_wait`, only those here
    /// are counted: the cap is there for the resources, and no right hangs on it.
    ///
    /// # Errors
    /// `too-many-connections` when the user has as many as may be.
    pub async fn seat(&self, claims: &Claims) -> Result<Seat, Refusal> {
        let limits = &self.0.limits;
        let seat = match self.0.seats.ask(&claims.subject, limits.connections_per_user) {
            Some(answer) => match timeout(limits.seat_wait, answer).await {
                Ok(answer) => answer.ok(),
                Err(_) => self.0.seats.take_here(&claims.subject, limits.connections_per_user),
            },
            None => None,
        };
        seat.ok_or_else(|| {
            Limit::ConnectionsPerUser.reached();
            tracing::debug!(
                event = logs::SEAT_REFUSED,
                user = claims.subject,
                "a CONNECT was refused: limits.connections_per_user"
            );
            Refusal::TooManyConnections
        })
    }
}

impl Seats {
    /// Has the broker asked; nothing where there is no seat here already.
    fn ask(&self, name: &str, cap: usize) -> Option<oneshot::Receiver<Seat>> {
        let mut state = self.0.state.lock();
        let key = state.users.get_key_value(name).map_or_else(|| Arc::from(name), |(key, _)| key.clone());
        let user = state.users.entry(key.clone()).or_default();
        user.forget_the_impatient();
        if user.seats + user.waiting.len() >= cap {
            return None;
        }
        let (answer, waits) = oneshot::channel();
        user.waiting.push_back(answer);
        if !std::mem::replace(&mut user.is_asking, true) {
            state.asking.push_back(key);
        }
        drop(state);
        self.0.news.notify_one();
        Some(waits)
    }

    /// Takes a seat without the broker's word, and has it told.
    fn take_here(&self, name: &str, cap: usize) -> Option<Seat> {
        let mut state = self.0.state.lock();
        let key = state.users.get_key_value(name).map_or_else(|| Arc::from(name), |(key, _)| key.clone());
        let user = state.users.entry(key.clone()).or_default();
        user.forget_the_impatient();
        if user.seats >= cap {
            return None;
        }
        user.seats += 1;
        state.owe(&key);
        drop(state);
        self.0.news.notify_one();
        Some(Seat { seats: self.clone(), user: key, kept: false })
    }

    /// Gives a seat back, and has that told.
    pub(super) fn give_back(&self, name: &str) {
        let mut state = self.0.state.lock();
        let Some((key, _)) = state.users.get_key_value(name) else { return };
        let key = key.clone();
        let crowded = state.owed.len() >= OWED;
        let Some(user) = state.users.get_mut(&key) else { return };
        user.seats = user.seats.saturating_sub(1);
        if crowded && user.seats == 0 && user.waiting.is_empty() && !user.is_owed {
            state.users.remove(&key);
            return;
        }
        state.owe(&key);
        drop(state);
        self.0.news.notify_one();
    }

    /// Has every user told again.
    fn owe_all(&self) {
        let mut state = self.0.state.lock();
        let users: Vec<Arc<str>> = state.users.keys().cloned().collect();
        users.iter().for_each(|user| state.owe(user));
    }

    /// What to ask and, if it is to be, to tell next: users of whom somebody waits come first.
    fn due(&self, tell: bool) -> Vec<Ask> {
        let mut state = self.0.state.lock();
        let mut asks = Vec::new();
        while asks.len() < AT_ONCE {
            let next = state.asking.pop_front();
            let asking = next.is_some();
            let Some(key) = next.or_else(|| if tell { state.owed.pop_front() } else { None }) else { break };
            let Some(user) = state.users.get_mut(&key) else { continue };
            if asking {
                user.is_asking = false;
            } else {
                user.is_owed = false;
            }
            user.forget_the_impatient();
            asks.push(Ask { seats: user.seats, wants: user.waiting.len(), user: key });
        }
        asks
    }

    /// Seats those who wait, as far as the broker allows, and refuses as many as it has refused; without its word, as far as
    /// `cap` does. Whoever is left over came too late for this question and is asked for anew.
    fn settle(&self, ask: &Ask, allowed: Option<usize>, cap: usize) {
        let mut state = self.0.state.lock();
        let Some(user) = state.users.get_mut(&ask.user) else { return };
        user.forget_the_impatient();
        // A seat that was taken meanwhile without asking counts; one that was given back is the next one's.
        let free = allowed.unwrap_or(cap).saturating_sub(user.seats);
        let granted = allowed.map_or(ask.wants, |allowed| allowed.saturating_sub(ask.seats)).min(free);
        let denied = match allowed {
            Some(allowed) => (ask.seats + ask.wants).saturating_sub(allowed),
            None => ask.wants - granted,
        };
        let seated: Vec<_> = user.waiting.drain(..granted.min(user.waiting.len())).collect();
        let refused: Vec<_> = user.waiting.drain(..denied.min(user.waiting.len())).collect();
        user.seats += seated.len();
        let told = allowed == Some(user.seats);
        let left_over = !user.waiting.is_empty();
        if left_over && !std::mem::replace(&mut user.is_asking, true) {
            state.asking.push_back(ask.user.clone());
        }
        if !told {
            state.owe(&ask.user);
        } else if state.users.get(&ask.user).is_some_and(User::is_nobody) {
            state.users.remove(&ask.user);
        }
        drop(state);
        for waiting in seated {
            // Whoever is gone drops the seat, which gives it back.
            drop(waiting.send(Seat { seats: self.clone(), user: ask.user.clone(), kept: false }));
        }
        drop(refused);
    }
}

impl State {
    fn owe(&mut self, key: &Arc<str>) {
        if let Some(user) = self.users.get_mut(key)
            && !std::mem::replace(&mut user.is_owed, true)
        {
            self.owed.push_back(key.clone());
        }
    }
}
