//! Turns: how many read histories for themselves at once, and how much is on its way to them.
//!
//! A turn lasts from before the read until the answer has gone to the socket, or its peer has proved to be slow: what waits for
//! such a peer is bounded by other limits, and must not hold up those who take what they asked for. A turn counts with what
//! the last answers had until its own is known. Users take turns, each with a few at once, so that one with a hundred sockets
//! stands before nobody else a hundred times. Whoever has an API key is a user of that key.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Answer, Service};
use crate::metrics::limit::Limit;
use crate::session::Session;

/// Turns at once, however small: as many as make good use of a Redis that is some milliseconds away.
const AT_ONCE: usize = 128;

/// Large answers written at the same time: one, so that a herd leaves all other cores to those who are there.
const DESKS: usize = 1;

/// What a turn counts for at the least: a command and its answer have a size without any event.
const LEAST: usize = 16 * 1024;

/// A peer that has not taken its answer for so long does not hold a turn for it any more. Above what a healthy one on a mobile
/// network takes for most answers.
const HELD: Duration = Duration::from_secs(1);

/// Between two looks at a peer.
const LOOK: Duration = Duration::from_millis(20);

/// Bounds of turns.
#[derive(Clone, Copy, Debug)]
pub struct TurnLimits {
    /// Bytes on their way: `limits.read_bytes`.
    pub bytes: usize,
    /// At once for one user: `limits.reads_per_user`.
    pub per_user: usize,
}

/// See the module. Clones share it.
#[derive(Clone)]
pub struct Turns(Arc<Shared>);

struct Shared {
    limits: TurnLimits,
    state: Mutex<State>,
    desk: Semaphore,
}

#[derive(Default)]
struct State {
    inside: usize,
    bytes: usize,
    /// What an answer has, going by the last ones.
    guess: usize,
    users: HashMap<Arc<str>, User>,
    /// Users of whom one waits who may come in, each once.
    order: VecDeque<Arc<str>>,
}

/// Kept while one of its sessions has a turn or waits for one. As many wait as commands are under way.
#[derive(Default)]
struct User {
    inside: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
    /// Whether it stands in the order.
    stands: bool,
}

/// A turn, until it is dropped.
pub(super) struct Turn {
    turns: Turns,
    user: Arc<str>,
    bytes: usize,
}

/// A text that says when it is not needed any more.
struct Text {
    text: String,
    _taken: oneshot::Sender<()>,
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        write!(f, "Turns({} taken, {} bytes)", state.inside, state.bytes)
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Turn({}, {} bytes)", self.user, self.bytes)
    }
}

impl Turns {
    /// None taken.
    #[must_use]
    pub fn new(limits: TurnLimits) -> Self {
        Self(Arc::new(Shared { limits, state: Mutex::default(), desk: Semaphore::new(DESKS) }))
    }

    /// Waits for a desk to write a large answer at. It is given back with the permit.
    pub(super) async fn desk(&self) -> Option<SemaphorePermit<'_>> {
        // What was woken meanwhile goes first.
        tokio::task::yield_now().await;
        self.0.desk.acquire().await.ok()
    }

    /// Waits for a turn.
    async fn take(&self, user: &str) -> Option<Turn> {
        let (to, turn) = oneshot::channel();
        self.ask(user, to);
        self.admit();
        turn.await.ok()
    }

    fn ask(&self, name: &str, to: oneshot::Sender<Turn>) {
        let mut state = self.0.state.lock();
        let key = state.users.get_key_value(name).map_or_else(|| Arc::from(name), |(key, _)| key.clone());
        let user = state.users.entry(key.clone()).or_default();
        if user.inside >= self.0.limits.per_user {
            Limit::ReadsPerUser.reached();
        }
        user.waiting.push_back(to);
        state.line_up(&key, self.0.limits.per_user);
    }

    /// Gives turns to those who may have one.
    fn admit(&self) {
        while let Some((to, turn)) = self.next() {
            // One that is not waited for any more ends here, and makes room for the next.
            to.send(turn).ok();
        }
    }

    fn next(&self) -> Option<(oneshot::Sender<Turn>, Turn)> {
        let mut state = self.0.state.lock();
        let guess = state.guess.max(LEAST);
        let full = state.inside >= AT_ONCE || (state.inside > 0 && state.bytes + guess > self.0.limits.bytes);
        if full {
            return None;
        }
        let name = state.order.pop_front()?;
        let user = state.users.get_mut(&name)?;
        user.stands = false;
        let to = user.waiting.pop_front()?;
        user.inside += 1;
        state.inside += 1;
        state.bytes += guess;
        state.line_up(&name, self.0.limits.per_user);
        Some((to, Turn { turns: self.clone(), user: name, bytes: guess }))
    }
}

impl State {
    /// Has a user stand in the order if one of its sessions waits and may come in.
    fn line_up(&mut self, name: &Arc<str>, most: usize) {
        let Some(user) = self.users.get_mut(name) else { return };
        while user.waiting.front().is_some_and(oneshot::Sender::is_closed) {
            user.waiting.pop_front();
        }
        if user.waiting.is_empty() && user.inside == 0 {
            self.users.remove(name);
        } else if user.waiting.is_empty() || user.stands {
            // There is nothing to do, or it was done.
        } else if user.inside < most {
            user.stands = true;
            self.order.push_back(name.clone());
        }
    }
}

impl Turn {
    /// Counts it with what its answer has.
    pub(super) fn count(&mut self, bytes: usize) {
        let mut state = self.turns.0.state.lock();
        state.guess = (state.guess * 7 + bytes) / 8;
        state.bytes = state.bytes - self.bytes + bytes;
        self.bytes = bytes;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.0.state.lock();
        state.inside -= 1;
        state.bytes -= self.bytes;
        if let Some(user) = state.users.get_mut(&self.user) {
            user.inside -= 1;
        }
        state.line_up(&self.user, self.turns.0.limits.per_user);
        drop(state);
        self.turns.admit();
    }
}

impl Service {
    /// Waits for the turn of one who is to be answered. None, where the session ends, or the broker is out of reach for as long
    /// as the command may wait for it.
    pub(super) async fn turn_to_answer(&self, session: &Session, answer: &Answer) -> Option<Turn> {
        let wait = if answer.is_wanted() { self.0.limits.answer_wait } else { self.0.limits.join_wait };
        let until = Instant::from_std(answer.arrived()) + wait;
        tokio::select! {
            turn = self.turn(session) => turn,
            () = self.is_gone_at(until) => None,
        }
    }

    /// Waits for a turn, as long as the session lasts.
    pub(super) async fn turn(&self, session: &Session) -> Option<Turn> {
        let claims = session.claims();
        tokio::select! {
            turn = self.0.turns.take(&claims.subject) => turn,
            () = session.ended() => None,
        }
    }

    /// Waits for the turn of the bearer of an API key. None, where the broker is out of reach for as long as an answer may wait.
    pub(super) async fn turn_of_key(&self, key: &str) -> Option<Turn> {
        let until = Instant::now() + self.0.limits.answer_wait;
        // No user has a control character in its name.
        let name = format!("\n{key}");
        tokio::select! {
            turn = self.0.turns.take(&name) => turn,
            () = self.is_gone_at(until) => None,
        }
    }

    /// A text to send, with which the turn goes: until it was taken, or its reader has proved to be slow.
    pub(super) fn hand_over(&self, text: String, turn: Option<Turn>) -> Bytes {
        let (Some(turn), true) = (turn, text.len() > LEAST) else { return text.into() };
        let (taken, is_taken) = oneshot::channel();
        self.0.tasks.spawn(async move {
            // What comes is no answer: the text ends with its sender.
            timeout(HELD, is_taken).await.ok();
            drop(turn);
        });
        Bytes::from_owner(Text { text, _taken: taken })
    }

    /// Waits until the broker is out of reach at this time or later.
    async fn is_gone_at(&self, until: Instant) {
        sleep_until(until).await;
        while self.0.broker.health().ready {
            sleep(LOOK).await;
        }
    }

    /// Ends a turn when its answer has gone to the socket.
    pub(super) fn end_turn(&self, session: &Arc<Session>, turn: Option<Turn>) {
        let Some(turn) = turn else { return };
        if !session.lane().wire().is_crowded() {
            return;
        }
        let session = session.clone();
        self.0.tasks.spawn(async move {
            let until = Instant::now() + HELD;
            while session.lane().wire().is_crowded() && !session.is_finished() && Instant::now() < until {
                sleep(LOOK).await;
            }
            drop(turn);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TurnLimits = TurnLimits { bytes: 1024 * 1024, per_user: 2 };

    /// Has each of these ask once, and gives what each will get, in the order of asking.
    fn ask(turns: &Turns, users: &[&str]) -> Vec<oneshot::Receiver<Turn>> {
        let asked = users.iter().map(|user| {
            let (to, turn) = oneshot::channel();
            turns.ask(user, to);
            turn
        });
        asked.collect()
    }

    fn taken(waiting: &mut [oneshot::Receiver<Turn>]) -> Vec<Turn> {
        waiting.iter_mut().filter_map(|turn| turn.try_recv().ok()).collect()
    }

    #[test]
    fn a_user_with_many_sockets_leaves_the_next_turn_to_another() {
        let turns = Turns::new(LIMITS);
        let mut greedy = ask(&turns, &["a"; 100]);
        turns.admit();
        let first = taken(&mut greedy);
        assert_eq!(first.len(), 2, "so many at once");
        let mut other = ask(&turns, &["b"]);
        turns.admit();
        assert_eq!(taken(&mut other).len(), 1);
        drop(first);
        assert_eq!(taken(&mut greedy).len(), 2);
    }

    #[test]
    fn large_answers_wait_for_each_other_and_one_of_any_size_is_given() {
        let turns = Turns::new(LIMITS);
        let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut waiting = ask(&turns, &names);
        turns.admit();
        let mut inside = taken(&mut waiting);
        assert_eq!(inside.len(), LIMITS.bytes / LEAST, "they are taken for small until one is known");
        inside.iter_mut().for_each(|turn| turn.count(LIMITS.bytes * 2));
        inside.truncate(1);
        assert_eq!(taken(&mut waiting).len(), 0, "there is no room beside this one");
        drop(inside);
        assert_eq!(taken(&mut waiting).len(), 1, "one comes in, however large the last ones were");
    }

    #[test]
    fn those_who_do_not_wait_any_more_are_passed_over_and_forgotten() {
        let turns = Turns::new(LIMITS);
        let mut waiting = ask(&turns, &["a", "a", "a", "a"]);
        turns.admit();
        let held = taken(&mut waiting[..2]);
        drop(waiting.remove(2));
        drop(held);
        assert_eq!(taken(&mut waiting[2..]).len(), 1);
        drop(waiting);
        let state = turns.0.state.lock();
        assert!(state.users.is_empty() && state.inside == 0 && state.bytes == 0);
    }
}
