//! A kick of a user on every node: the request goes to the channel of all nodes, each answer to the channel of the node that
//! asked.
//!
//! Pub/sub may lose a message. A node that did not receive the request does not answer, and the asking node reports that the
//! answers are not complete.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::{AsyncCommands, RedisError};
use hallway_rooms::revocation::SubjectHash;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::RedisFleet;
use crate::fleet::KickResult;
use crate::fleet::control::Kick;

/// The time for all answers: a kick must take effect within a second.
const PATIENCE: Duration = Duration::from_secs(1);
/// Answers that may wait to be counted. Further ones are dropped, and the result is reported as not complete.
const ANSWERS: usize = 1024;

/// The requests of this node that wait for answers, by number.
#[derive(Debug, Default)]
pub(super) struct PendingKicks {
    /// Requests so far, which numbers the next one.
    asked: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::Sender<usize>>>,
}

/// A request in `waiting`, removed on drop: its future may be cancelled at any await.
struct KickQuestion<'a> {
    answers: &'a PendingKicks,
    number: u64,
}

impl Drop for KickQuestion<'_> {
    fn drop(&mut self) {
        self.answers.waiting.lock().remove(&self.number);
    }
}

impl PendingKicks {
    fn begin_question(&self) -> (KickQuestion<'_>, mpsc::Receiver<usize>) {
        let (to, from) = mpsc::channel(ANSWERS);
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().insert(number, to);
        (KickQuestion { answers: self, number }, from)
    }

    /// Counts a message of this node's own channel; false when it is no answer. An answer to a request that has ended is
    /// ignored.
    pub(super) fn take_answer(&self, message: &str) -> bool {
        let Some((number, sockets)) = message.strip_prefix('a').and_then(|answer| answer.split_once(' ')) else {
            return false;
        };
        if let (Ok(number), Ok(sockets)) = (number.parse::<u64>(), sockets.parse())
            && let Some(asker) = self.waiting.lock().get(&number)
        {
            // When the queue is full the request ends as not complete, which is true.
            asker.try_send(sockets).ok();
        }
        true
    }
}

/// Asks every node and adds up the answers that come in time. This node receives the request like any other, and answers
/// it too.
pub(super) async fn ask_nodes(fleet: &RedisFleet, user: SubjectHash) -> Result<KickResult, RedisError> {
    let (question, mut answers) = fleet.answers.begin_question();
    let message = format!("k{user} {} {}", fleet.own_channel(), question.number);
    let asked: usize = fleet.connection().publish(fleet.keys.control(), message).await?;
    let (until, mut sockets, mut answered) = (Instant::now() + PATIENCE, 0, 0);
    // `asked` counts the subscribers of the channel at that moment: one for each node that receives requests.
    while answered < asked {
        let Ok(Some(more)) = timeout_at(until, answers.recv()).await else { break };
        sockets += more;
        answered += 1;
    }
    // A live node without a subscription (its connection was just lost) did not receive the request.
    Ok(KickResult { sockets, complete: answered == asked && asked >= fleet.nodes.live_nodes() })
}

/// Answers the node that asked.
pub(super) async fn send_answer(fleet: &RedisFleet, ticket: &str, sockets: usize) -> Result<(), RedisError> {
    // The handler checks tickets, so this one names a channel and a number.
    let Some((channel, number)) = ticket.split_once(' ') else { return Ok(()) };
    fleet.connection().publish(channel, format!("a{number} {sockets}")).await
}

/// Takes a message of the channel of all nodes; false when it requests no kick, or when too many requests wait.
pub(super) fn handle_kick_request(fleet: &RedisFleet, message: &str) -> bool {
    let Some((user, ticket)) = message.strip_prefix('k').and_then(|asked| asked.split_once(' ')) else { return false };
    let Ok(user) = user.parse() else { return false };
    // A forged request must not make this node publish to the channel of a room.
    ticket.starts_with(&fleet.keys.node_channel(""))
        && fleet.revoked.control().ask_for(Kick { user, ticket: ticket.to_owned() })
}
