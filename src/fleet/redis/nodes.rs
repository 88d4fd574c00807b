//! Heartbeats: which nodes on this Redis are alive.
//!
//! Each node increments its counter in the hash `<prefix>:nodes` every `redis.heartbeat`, and reads the counters of all others
//! in the same round trip. A node whose counter stands still for [`DEAD`] is dead. Each node measures that by its own clock,
//! so no two clocks are compared. Time in which this node itself read nothing does not count, because an unread counter
//! was not seen to stand still.
//!
//! A node puts its name into the hash before any count of its members or connections. A count under a name that is not in the
//! hash is therefore the remainder of a dead node.
//!
//! Other writers may put anything into the hash. Fields that are no counters are skipped and logged, and affect no room or
//! client.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::redis::{RedisError, cmd, from_redis_value, pipe};
use metrics::{Gauge, counter, gauge};
use parking_lot::Mutex;

use super::{RedisFleet, pipeline_answers};
use crate::link::remedy;
use crate::logs;
use crate::metrics as names;

/// A node whose counter stands still for so long is dead: seven heartbeats at their default, and well within the 30 s for
/// which its sockets may still be counted.
const DEAD: Duration = Duration::from_secs(15);
/// After so long the name is removed, so that a node that starts later does not count the dead one either. A node that was
/// only cut off puts its name back with its next heartbeat.
const BURIED: Duration = Duration::from_secs(25);

/// See the module.
pub(super) struct Nodes {
    /// This node's own name.
    node: String,
    heartbeat: Duration,
    others: Mutex<HashMap<String, Peer>>,
    /// Read while this node's name may be written, so that none of that follows the resignation.
    resigned: tokio::sync::RwLock<bool>,
    turn: tokio::sync::Mutex<OwnHeartbeat>,
    /// How often Redis lost this node's name, and with it probably the counts.
    forgotten: AtomicU64,
    live: Gauge,
}

/// The state of this node's own heartbeat.
#[derive(Debug, Default)]
struct OwnHeartbeat {
    /// The counter after the last heartbeat: a smaller one means that Redis lost it.
    bumped: i64,
    /// When the counters of the others were read last.
    looked: Option<Instant>,
}

/// Another node, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    counter: i64,
    /// How long its counter has stood still while this node read it.
    still: Duration,
}

impl Peer {
    fn is_dead(self) -> bool {
        self.still >= DEAD
    }
}

/// The others after a read that came `after` the one before. A node that was not known before begins with `still`.
fn compare_counters(
    before: &HashMap<String, Peer>,
    counters: HashMap<String, i64>,
    after: Duration,
    still: Duration,
) -> HashMap<String, Peer> {
    let peer = |(node, counter): (String, i64)| {
        let still = match before.get(&node) {
            Some(known) if known.counter == counter => known.still + after,
            // Any change is a sign of life, also a smaller counter: Redis lost the old one and the node began again.
            Some(_) => Duration::ZERO,
            None => still,
        };
        (node, Peer { counter, still })
    };
    counters.into_iter().map(peer).collect()
}

impl Nodes {
    pub(super) fn new(node: String, heartbeat: Duration) -> Self {
        let live = gauge!(names::NODES);
        Self {
            node,
            heartbeat,
            others: Mutex::default(),
            resigned: tokio::sync::RwLock::default(),
            turn: tokio::sync::Mutex::default(),
            forgotten: AtomicU64::new(0),
            live,
        }
    }

    pub(super) fn forget_count(&self) -> u64 {
        self.forgotten.load(Ordering::SeqCst)
    }

    /// Notes a read of all counters; gives the nodes whose names must be removed.
    fn note_counters(&self, turn: &mut OwnHeartbeat, mut counters: HashMap<String, i64>) -> Vec<String> {
        counters.remove(&self.node);
        // After an outage of this node's own, all counters look as if they had stood still for all of it.
        let after = turn.looked.map_or(Duration::ZERO, |at| at.elapsed().min(self.heartbeat * 2));
        // A node found at the start may have died long ago: it has three heartbeats to prove that it lives.
        let still = if turn.looked.is_none() { DEAD.saturating_sub(self.heartbeat * 3) } else { Duration::ZERO };
        turn.looked = Some(Instant::now());
        let mut others = self.others.lock();
        *others = compare_counters(&others, counters, after, still);
        self.live.set(f64::from(u32::try_from(count_live(&others)).unwrap_or(u32::MAX)));
        others.iter().filter(|(_, peer)| peer.still >= BURIED).map(|(node, _)| node.clone()).collect()
    }

    /// Nodes that are alive as seen from here, this one included.
    pub(super) fn live_nodes(&self) -> usize {
        count_live(&self.others.lock())
    }

    /// Delays a resignation while this node's name is written; none after it resigned. Many may hold this at once.
    pub(super) async fn in_office(&self) -> Option<impl Sized> {
        let resigned = self.resigned.read().await;
        (!*resigned).then_some(resigned)
    }

    pub(super) fn own_name(&self) -> &str {
        &self.node
    }

    /// The names of the other nodes that live, as seen from here.
    pub(super) fn live_names(&self) -> HashSet<String> {
        self.others.lock().iter().filter(|(_, peer)| !peer.is_dead()).map(|(node, _)| node.clone()).collect()
    }

    /// Whether the counts of a node whose name is in the hash are to be believed.
    pub(super) fn is_counted(&self, node: &str) -> bool {
        node != self.node && self.others.lock().get(node).is_none_or(|peer| !peer.is_dead())
    }
}

fn count_live(others: &HashMap<String, Peer>) -> usize {
    1 + others.values().filter(|peer| !peer.is_dead()).count()
}

/// Failures of heartbeats that are logged already: each is logged once, when it begins.
#[derive(Default)]
struct AnnouncedSpan {
    /// The hash holds something else than counters.
    strange: bool,
    /// Heartbeats that failed in a row.
    failed: u64,
}

/// Sends heartbeats until the task is cancelled.
pub(super) async fn run(fleet: Arc<RedisFleet>) {
    let mut turns = tokio::time::interval(fleet.nodes.heartbeat);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut announced = AnnouncedSpan::default();
    loop {
        turns.tick().await;
        let outcome = bump_counter(&fleet).await;
        tell_of(&fleet, &mut announced, &outcome);
    }
}

/// Logs the outcome of a heartbeat; `Ok` names a field that is no counter.
fn tell_of(fleet: &RedisFleet, announced: &mut AnnouncedSpan, outcome: &Result<Option<String>, RedisError>) {
    let key = fleet.keys.nodes();
    // Another writer may have replaced the whole key, which is an error, or one of its fields, which is not.
    let wrong = outcome.as_ref().err().filter(|error| remedy::is_wrong_type(error));
    let field = outcome.as_ref().ok().and_then(Option::as_ref);
    if let (Some(error), false) = (wrong, announced.strange) {
        tracing::error!(event = logs::NODES_KEY_STRANGE, %error, key, "this key holds something else, so nodes do not see each other; rename or delete it");
    }
    if let (Some(field), false) = (field, announced.strange) {
        tracing::error!(
            event = logs::NODES_KEY_STRANGE,
            field,
            key,
            "this field is no node's counter and is passed over; take it out with HDEL"
        );
    }
    announced.strange = wrong.is_some() || field.is_some();
    match outcome {
        Ok(_) if announced.failed > 0 => {
            tracing::info!(
                event = logs::HEARTBEAT_BACK,
                failed = announced.failed,
                "this node says again that it lives"
            );
            announced.failed = 0;
        }
        Ok(_) => {}
        Err(error) => {
            counter!(names::HEARTBEATS_FAILED).increment(1);
            if announced.failed == 0 {
                tracing::warn!(event = logs::HEARTBEAT_FAILED, %error, "this node cannot say that it lives; the others count it no more after a while");
            }
            announced.failed += 1;
        }
    }
}

/// One heartbeat. Gives the name of a field that is no counter, if there is any.
async fn bump_counter(fleet: &RedisFleet) -> Result<Option<String>, RedisError> {
    let (nodes, table) = (&fleet.nodes, fleet.keys.nodes());
    // A later heartbeat would put the name back, and the others would count this node again.
    let Some(_office) = nodes.in_office().await else { return Ok(None) };
    let mut turn = nodes.turn.lock().await;
    let mut redis = fleet.links.probe.clone();
    let mut both = pipe();
    both.ignore_errors().cmd("HINCRBY").arg(&table).arg(&nodes.node).arg(1).cmd("HGETALL").arg(&table);
    let [bumped, counters] = pipeline_answers(both.query_async(&mut redis).await?)?;
    // Another writer spoiled this node's own field: the next heartbeat begins at one.
    if bumped.as_ref().is_err_and(is_no_number) {
        return cmd("HDEL").arg(table).arg(&nodes.node).query_async(&mut redis).await;
    }
    let bumped: i64 = from_redis_value(bumped?)?;
    let counters: HashMap<String, Vec<u8>> = from_redis_value(counters?)?;
    let (counters, strange) = parse_numbers(counters);
    // Redis restarted empty, or another node removed this one as dead; either way its counts are gone too.
    if bumped <= std::mem::replace(&mut turn.bumped, bumped) {
        tracing::warn!(
            event = logs::NODE_FORGOTTEN,
            "Redis had forgotten this node; telling it again how many members rooms have here"
        );
        nodes.forgotten.fetch_add(1, Ordering::SeqCst);
    }
    let buried = nodes.note_counters(&mut turn, counters);
    // Every node does this, and it does no harm twice.
    if !buried.is_empty() {
        tracing::info!(event = logs::NODES_GONE, nodes = buried.join(","), "nodes are gone without a word");
        cmd("HDEL").arg(table).arg(buried).query_async::<()>(&mut redis).await?;
    }
    Ok(strange)
}

/// Whether a counter cannot be incremented: it is no number, or the greatest one.
fn is_no_number(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("not an integer") || detail.contains("overflow"))
}

/// The fields that are numbers, and the name of one that is not.
pub(super) fn parse_numbers<T: FromStr>(fields: HashMap<String, Vec<u8>>) -> (HashMap<String, T>, Option<String>) {
    let (mut numbers, mut strange) = (HashMap::new(), None);
    for (name, value) in fields {
        match std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok()) {
            Some(number) => _ = numbers.insert(name, number),
            None => strange = Some(name),
        }
    }
    (numbers, strange)
}

/// Removes this node's name, after all that is under way under it.
pub(super) async fn leave_fleet(fleet: &RedisFleet) -> Result<(), RedisError> {
    let mut resigned = fleet.nodes.resigned.write().await;
    *resigned = true;
    let own = fleet.nodes.own_name();
    cmd("HDEL").arg(fleet.keys.nodes()).arg(own).query_async(&mut fleet.links.probe.clone()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(2);

    fn look(before: &HashMap<String, Peer>, counters: &[(&str, i64)]) -> HashMap<String, Peer> {
        let counters = counters.iter().map(|(node, counter)| ((*node).to_owned(), *counter));
        compare_counters(before, counters.collect(), BEAT, Duration::ZERO)
    }

    #[test]
    fn a_node_is_dead_when_its_counter_stands_still_and_alive_with_its_next_bump() {
        let mut peers = look(&HashMap::new(), &[("a", 7), ("b", 1)]);
        for turn in 1..=8 {
            assert!(!peers["a"].is_dead(), "{turn}");
            peers = look(&peers, &[("a", 7), ("b", 1 + turn)]);
        }
        assert!(peers["a"].is_dead() && !peers["b"].is_dead());
        peers = look(&peers, &[("a", 1), ("b", 9)]);
        assert!(!peers["a"].is_dead(), "also when it begins anew");
        peers = look(&peers, &[("b", 9)]);
        assert_eq!(peers.keys().collect::<Vec<_>>(), ["b"]);
    }
}
