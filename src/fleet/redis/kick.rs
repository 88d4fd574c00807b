//! Kicking a user on every node: asked for on the channel of all nodes, answered on that of the asking node.
//!
//! It is no more than pub/sub is: a node that does not hear of it is one that does not answer, which is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::{AsyncCommands, RedisError};
use hallway_rooms::revocation::Mark;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::RedisFleet;
use crate::fleet::Kicked;
use crate::fleet::control::Kick;

/// How long the other nodes are waited for: a second is what they have for a kick.
const PATIENCE: Duration = Duration::from_secs(1);
/// Answers that may wait for the asking task; more nodes than that are said not to have answered.
const ANSWERS: usize = 1024;

/// Who waits for answers, by the number of the question.
#[derive(Debug, Default)]
pub(super) struct Answers {
    asked: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::Sender<usize>>>,
}

/// Ends the waiting however it ends.
struct Question<'a> {
    answers: &'a Answers,
    number: u64,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.answers.waiting.lock().remove(&self.number);
    }
}

impl Answers {
    fn begin(&self) -> (Question<'_>, mpsc::Receiver<usize>) {
        let (to, from) = mpsc::channel(ANSWERS);
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().insert(number, to);
        (Question { answers: self, number }, from)
    }

    /// Takes in a message of this node's own channel; false when it is no answer. A late one is none too many.
    pub(super) fn take(&self, message: &str) -> bool {
        let Some((number, sockets)) = message.strip_prefix('a').and_then(|answer| answer.split_once(' ')) else {
            return false;
        };
        if let (Ok(number), Ok(sockets)) = (number.parse::<u64>(), sockets.parse())
            && let Some(asker) = self.waiting.lock().get(&number)
        {
            asker.try_send(sockets).ok();
        }
        true
    }
}

/// Asks every node and adds up what those say that answer in time. This one is asked too, as it hears of it like any other.
pub(super) async fn ask(fleet: &RedisFleet, user: Mark) -> Result<Kicked, RedisError> {
    let (question, mut answers) = fleet.answers.begin();
    let message = format!("k{user} {} {}", fleet.own_channel(), question.number);
    let asked: usize = fleet.connection().publish(fleet.keys.control(), message).await?;
    let (until, mut sockets, mut answered) = (Instant::now() + PATIENCE, 0, 0);
    while answered < asked {
        let Ok(Some(more)) = timeout_at(until, answers.recv()).await else { break };
        sockets += more;
        answered += 1;
    }
    Ok(Kicked { sockets, complete: answered == asked && asked >= fleet.nodes.live() })
}

/// Tells the asking node how many there were.
pub(super) async fn answer(fleet: &RedisFleet, ticket: &str, sockets: usize) -> Result<(), RedisError> {
    let Some((channel, number)) = ticket.split_once(' ') else { return Ok(()) };
    fleet.connection().publish(channel, format!("a{number} {sockets}")).await
}

/// Takes in a message of the channel of all nodes; false when it asks for no kick, or there is no place for one more.
pub(super) fn hear(fleet: &RedisFleet, message: &str) -> bool {
    let Some((user, ticket)) = message.strip_prefix('k').and_then(|asked| asked.split_once(' ')) else { return false };
    let Ok(user) = user.parse() else { return false };
    // Nothing but a node's own channel is answered on.
    ticket.starts_with(&fleet.keys.canary(""))
        && fleet.revoked.control().ask_for(Kick { user, ticket: ticket.to_owned() })
}
