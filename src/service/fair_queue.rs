//! The fair queue for reads of histories: how many run at once, and how many bytes are on their way to clients.
//!
//! A turn lasts from before the read until the answer has gone to the socket, or until the peer has proved to be
//! slow. Bytes queued for a slow peer are bounded elsewhere, and must not hold up peers that read. A turn is weighed
//! by the average of the last answers until its own size is known. Users take turns, each with a few reads at once,
//! so that a user with a hundred sockets counts once. An API key counts as a user.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{PendingReply, Service};
use crate::metrics::limit::Limit;
use crate::session::Session;

/// Turns at once, whatever their size: enough to keep a Redis busy that is some milliseconds away.
const AT_ONCE: usize = 128;

/// Large answers composed at the same time: one, so that a herd of reconnecting clients leaves the other cores to
/// live delivery.
const DESKS: usize = 1;

/// The smallest weight of a turn: a command and its answer have a size even without events.
const LEAST: usize = 16 * 1024;

/// How long a turn is held for a peer that has not taken its answer. Longer than a healthy peer on a mobile network
/// needs for most answers.
const HELD: Duration = Duration::from_secs(1);

/// Pause between two checks of a peer or of the broker.
const LOOK: Duration = Duration::from_millis(20);

/// The bounds of the queue.
#[derive(Clone, Copy, Debug)]
pub struct FairQueueLimits {
    /// Bytes on their way to clients: `limits.read_bytes`.
    pub bytes: usize,
    /// Turns at once for one user: `limits.reads_per_user`.
    pub per_user: usize,
}

/// The queue. Clones share it.
#[derive(Clone)]
pub struct FairQueue(Arc<TurnShared>);

struct TurnShared {
    limits: FairQueueLimits,
    state: Mutex<TurnState>,
    /// Permits for composing large answers.
    compose_permit: Semaphore,
}

#[derive(Default)]
struct TurnState {
    /// Turns that are taken.
    inside: usize,
    /// Their weight together.
    bytes: usize,
    /// The expected size of an answer: a moving average of the last ones.
    guess: usize,
    /// Users with a turn or a wait; removed with the last of both, so that the table cannot grow.
    users: HashMap<Arc<str>, UserTurns>,
    /// Users that may take another turn, each once, which makes the queue round-robin.
    order: VecDeque<Arc<str>>,
}

/// One user, kept while a session of it has a turn or waits for one. Bounded by the commands under way.
#[derive(Default)]
struct UserTurns {
    /// Turns that are taken.
    inside: usize,
    /// In the order of arrival.
    waiting: VecDeque<oneshot::Sender<QueueTurn>>,
    /// Whether the user is in `order`.
    stands: bool,
}

/// A turn, which is returned when it is dropped.
pub(super) struct QueueTurn {
    turns: FairQueue,
    user: Arc<str>,
    /// Its weight: the average first, the answer's size later.
    bytes: usize,
}

/// A text that signals, by closing a channel, that hyper has dropped it.
struct HeldText {
    text: String,
    _taken: oneshot::Sender<()>,
}

impl AsRef<[u8]> for HeldText {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl fmt::Debug for FairQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        write!(f, "Turns({} taken, {} bytes)", state.inside, state.bytes)
    }
}

impl fmt::Debug for QueueTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Turn({}, {} bytes)", self.user, self.bytes)
    }
}

impl FairQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: FairQueueLimits) -> Self {
        Self(Arc::new(TurnShared { limits, state: Mutex::default(), compose_permit: Semaphore::new(DESKS) }))
    }

    /// Waits for a permit to compose a large answer.
    pub(super) async fn acquire_compose_permit(&self) -> Option<SemaphorePermit<'_>> {
        // Tasks that were woken meanwhile, such as live deliveries, run first.
        tokio::task::yield_now().await;
        self.0.compose_permit.acquire().await.ok()
    }

    /// Waits for a turn.
    async fn wait_for_turn(&self, user: &str) -> Option<QueueTurn> {
        let (to, turn) = oneshot::channel();
        self.enqueue_request(user, to);
        self.grant_turns();
        turn.await.ok()
    }

    fn enqueue_request(&self, name: &str, to: oneshot::Sender<QueueTurn>) {
        let mut state = self.0.state.lock();
        // One allocation of the name per user, however many commands wait.
        let key = state.users.get_key_value(name).map_or_else(|| Arc::from(name), |(key, _)| key.clone());
        let user = state.users.entry(key.clone()).or_default();
        if user.inside >= self.0.limits.per_user {
            // Counted, not refused: the command waits for the user's earlier ones.
            Limit::ReadsPerUser.note_reached();
        }
        user.waiting.push_back(to);
        state.line_up(&key, self.0.limits.per_user);
    }

    /// Hands out turns while there are free ones.
    fn grant_turns(&self) {
        while let Some((to, turn)) = self.next() {
            // A turn whose waiter is gone is dropped right here, and its place goes to the next.
            to.send(turn).ok();
        }
    }

    fn next(&self) -> Option<(oneshot::Sender<QueueTurn>, QueueTurn)> {
        let mut state = self.0.state.lock();
        let guess = state.guess.max(LEAST);
        // One turn is always allowed: an answer larger than the whole bound must be possible.
        let full = state.inside >= AT_ONCE || (state.inside > 0 && state.bytes + guess > self.0.limits.bytes);
        if full {
            return None;
        }
        let name = state.order.pop_front()?;
        let user = state.users.get_mut(&name)?;
        user.stands = false;
        let to = user.waiting.pop_front()?;
        // Counted under the same lock, so that two admissions cannot exceed the bound.
        user.inside += 1;
        state.inside += 1;
        state.bytes += guess;
        // Back to the end of the order: each user gets one turn per round.
        state.line_up(&name, self.0.limits.per_user);
        Some((to, QueueTurn { turns: self.clone(), user: name, bytes: guess }))
    }
}

impl TurnState {
    /// Puts a user into the order if one of its sessions waits and may have a turn.
    fn line_up(&mut self, name: &Arc<str>, most: usize) {
        let Some(user) = self.users.get_mut(name) else { return };
        // A waiter that gave up must not use up the user's place in the order.
        while user.waiting.front().is_some_and(oneshot::Sender::is_closed) {
            user.waiting.pop_front();
        }
        if user.waiting.is_empty() && user.inside == 0 {
            // Without this the table would keep every user that ever read.
            self.users.remove(name);
        } else if user.waiting.is_empty() || user.stands {
            // Nothing waits, or the user is in the order already.
        } else if user.inside < most {
            user.stands = true;
            self.order.push_back(name.clone());
        }
    }
}

impl QueueTurn {
    /// Replaces the estimated weight by the size of the answer.
    pub(super) fn count_bytes(&mut self, bytes: usize) {
        let mut state = self.turns.0.state.lock();
        // Seven parts old, one part new: a single large page does not close the queue.
        state.guess = (state.guess * 7 + bytes) / 8;
        state.bytes = state.bytes - self.bytes + bytes;
        self.bytes = bytes;
    }
}

impl Drop for QueueTurn {
    fn drop(&mut self) {
        let mut state = self.turns.0.state.lock();
        state.inside -= 1;
        state.bytes -= self.bytes;
        if let Some(user) = state.users.get_mut(&self.user) {
            user.inside -= 1;
        }
        // Before the lock is released: the user may be the next in line itself.
        state.line_up(&self.user, self.turns.0.limits.per_user);
        // `admit` takes the lock again.
        drop(state);
        self.turns.grant_turns();
    }
}

impl Service {
    /// Waits for the turn of a command. None when the session ends, or when the broker is out of reach at the end of
    /// the command's budget: the command then fails without a turn.
    pub(super) async fn turn_to_answer(&self, session: &Session, answer: &PendingReply) -> Option<QueueTurn> {
        let wait = if answer.is_wanted() { self.0.limits.answer_wait } else { self.0.limits.join_wait };
        let until = Instant::from_std(answer.arrived()) + wait;
        tokio::select! {
            turn = self.turn_for(session) => turn,
            // A healthy broker means that the queue is moving, so the wait goes on.
            () = self.is_gone_at(until) => None,
        }
    }

    /// Waits for a turn as long as the session lasts.
    pub(super) async fn turn_for(&self, session: &Session) -> Option<QueueTurn> {
        let claims = session.claims();
        tokio::select! {
            turn = self.0.turns.wait_for_turn(&claims.subject) => turn,
            () = session.wait_until_ended() => None,
        }
    }

    /// Waits for the turn of an API key. None when the broker is out of reach at the end of the answer's budget.
    pub(super) async fn turn_of_key(&self, key: &str) -> Option<QueueTurn> {
        let until = Instant::now() + self.0.limits.answer_wait;
        // Subjects contain no control character, so a key cannot share the turns of a user.
        let name = format!("\n{key}");
        tokio::select! {
            turn = self.0.turns.wait_for_turn(&name) => turn,
            () = self.is_gone_at(until) => None,
        }
    }

    /// Wraps a body so that its turn is held until hyper has sent it, or until its reader has proved to be slow.
    pub(super) fn hand_over(&self, text: String, turn: Option<QueueTurn>) -> Bytes {
        // A small body is copied into the socket's buffer at once.
        let (Some(turn), true) = (turn, text.len() > LEAST) else { return text.into() };
        let (taken, is_taken) = oneshot::channel();
        self.0.tasks.spawn(async move {
            // Nothing is ever sent: the channel closes when the text is dropped.
            timeout(HELD, is_taken).await.ok();
            drop(turn);
        });
        Bytes::from_owner(HeldText { text, _taken: taken })
    }

    /// Waits until the broker is out of reach at this time or later.
    async fn is_gone_at(&self, until: Instant) {
        sleep_until(until).await;
        while self.0.broker.health().ready {
            sleep(LOOK).await;
        }
    }

    /// Returns a turn when its answer has gone to the socket.
    pub(super) fn end_turn(&self, session: &Arc<Session>, turn: Option<QueueTurn>) {
        let Some(turn) = turn else { return };
        // The common case: the socket took everything, and no task is needed.
        if !session.lane().wire().is_crowded() {
            return;
        }
        let session = session.clone();
        self.0.tasks.spawn(async move {
            let until = Instant::now() + HELD;
            // A peer that is slow beyond `HELD` is limited by its queue's own bound.
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

    const LIMITS: FairQueueLimits = FairQueueLimits { bytes: 1024 * 1024, per_user: 2 };

    /// Has each of these ask once, and gives what each will get, in the order of asking.
    fn ask(turns: &FairQueue, users: &[&str]) -> Vec<oneshot::Receiver<QueueTurn>> {
        let asked = users.iter().map(|user| {
            let (to, turn) = oneshot::channel();
            turns.enqueue_request(user, to);
            turn
        });
        asked.collect()
    }

    fn taken(waiting: &mut [oneshot::Receiver<QueueTurn>]) -> Vec<QueueTurn> {
        waiting.iter_mut().filter_map(|turn| turn.try_recv().ok()).collect()
    }

    #[test]
    fn a_user_with_many_sockets_leaves_the_next_turn_to_another() {
        let turns = FairQueue::new(LIMITS);
        let mut greedy = ask(&turns, &["a"; 100]);
        turns.grant_turns();
        let first = taken(&mut greedy);
        assert_eq!(first.len(), 2, "so many at once");
        let mut other = ask(&turns, &["b"]);
        turns.grant_turns();
        assert_eq!(taken(&mut other).len(), 1);
        drop(first);
        assert_eq!(taken(&mut greedy).len(), 2);
    }

    #[test]
    fn large_answers_wait_for_each_other_and_one_of_any_size_is_given() {
        let turns = FairQueue::new(LIMITS);
        let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut waiting = ask(&turns, &names);
        turns.grant_turns();
        let mut inside = taken(&mut waiting);
        assert_eq!(inside.len(), LIMITS.bytes / LEAST, "they are taken for small until one is known");
        inside.iter_mut().for_each(|turn| turn.count_bytes(LIMITS.bytes * 2));
        inside.truncate(1);
        assert_eq!(taken(&mut waiting).len(), 0, "there is no room beside this one");
        drop(inside);
        assert_eq!(taken(&mut waiting).len(), 1, "one comes in, however large the last ones were");
    }

    #[test]
    fn those_who_do_not_wait_any_more_are_passed_over_and_forgotten() {
        let turns = FairQueue::new(LIMITS);
        let mut waiting = ask(&turns, &["a", "a", "a", "a"]);
        turns.grant_turns();
        let held = taken(&mut waiting[..2]);
        drop(waiting.remove(2));
        drop(held);
        assert_eq!(taken(&mut waiting[2..]).len(), 1);
        drop(waiting);
        let state = turns.0.state.lock();
        assert!(state.users.is_empty() && state.inside == 0 && state.bytes == 0);
    }
}
