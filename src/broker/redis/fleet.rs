//! The fleet: the nodes on one Redis, and how many members each has in a room.
//!
//! A node bumps its counter in `<prefix>:nodes` every `redis.heartbeat`. Whose counter stands still is dead to whoever
//! looks, by the looker's own clock: no two clocks are compared. A node puts its name there before any count, so that a
//! count without a name is one that a dead node left.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::redis::{RedisError, cmd, pipe};
use hallway_rooms::key::Room;
use metrics::{Gauge, gauge};
use parking_lot::Mutex;

use super::RedisBroker;
use crate::link::remedy;
use crate::logs;
use crate::metrics as names;

/// A node whose counter stood still for so long is dead: seven heartbeats at their default, and well within the 30 s
/// that its sockets may still be counted.
const DEAD: Duration = Duration::from_secs(15);
/// A node whose counter stood still for so long loses its name, so that one that starts later does not count it either.
/// One that was only cut off puts it back with its next bump.
const BURIED: Duration = Duration::from_secs(25);
/// A room's counts that nobody renews are gone by then; the hub renews its own several times meanwhile.
const KEPT: Duration = Duration::from_hours(1);

/// See the module.
pub(super) struct Fleet {
    /// This node's own name.
    node: String,
    heartbeat: Duration,
    others: Mutex<HashMap<String, Peer>>,
    /// Held over a bump, so that none follows the end.
    turn: tokio::sync::Mutex<Turn>,
    /// How often this node's name was gone.
    forgotten: AtomicU64,
    live: Gauge,
}

/// What this node wrote itself.
#[derive(Debug, Default)]
struct Turn {
    bumped: i64,
    looked: Option<Instant>,
    resigned: bool,
}

/// Another node, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    counter: i64,
    /// For how long its counter has stood still while somebody here looked.
    still: Duration,
}

impl Peer {
    fn is_dead(self) -> bool {
        self.still >= DEAD
    }
}

/// What is known of the others after a look that came `after` the one before. Newcomers are as good as `still`.
fn seen(
    before: &HashMap<String, Peer>,
    counters: HashMap<String, i64>,
    after: Duration,
    still: Duration,
) -> HashMap<String, Peer> {
    let peer = |(node, counter): (String, i64)| {
        let still = match before.get(&node) {
            Some(known) if known.counter == counter => known.still + after,
            Some(_) => Duration::ZERO,
            None => still,
        };
        (node, Peer { counter, still })
    };
    counters.into_iter().map(peer).collect()
}

impl Fleet {
    pub(super) fn new(node: String, heartbeat: Duration) -> Self {
        let live = gauge!(names::NODES);
        Self {
            node,
            heartbeat,
            others: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            forgotten: AtomicU64::new(0),
            live,
        }
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::SeqCst)
    }

    /// Notes a look at all counters; says who is dead for long.
    fn note(&self, turn: &mut Turn, mut counters: HashMap<String, i64>) -> Vec<String> {
        counters.remove(&self.node);
        // In the time that nobody looked, no counter was seen standing still.
        let after = turn.looked.map_or(Duration::ZERO, |at| at.elapsed().min(self.heartbeat * 2));
        // Whom a node finds when it starts may have died long ago.
        let still = if turn.looked.is_none() { DEAD.saturating_sub(self.heartbeat * 3) } else { Duration::ZERO };
        turn.looked = Some(Instant::now());
        let mut others = self.others.lock();
        *others = seen(&others, counters, after, still);
        self.live.set(f64::from(u32::try_from(live(&others)).unwrap_or(u32::MAX)));
        others.iter().filter(|(_, peer)| peer.still >= BURIED).map(|(node, _)| node.clone()).collect()
    }

    /// Nodes that are alive as seen from here, this one included.
    pub(super) fn live(&self) -> usize {
        live(&self.others.lock())
    }

    /// Keeps this node from resigning while its name is put into the table; nothing once it has.
    pub(super) async fn in_office(&self) -> Option<impl Sized> {
        let turn = self.turn.lock().await;
        (!turn.resigned).then_some(turn)
    }

    pub(super) fn own_name(&self) -> &str {
        &self.node
    }

    /// The others that are dead, and those that are not.
    pub(super) fn dead_and_live(&self) -> (Vec<String>, HashSet<String>) {
        let others = self.others.lock();
        let (dead, live): (Vec<_>, Vec<_>) = others.iter().partition(|(_, peer)| peer.is_dead());
        let name = |(node, _): (&String, &Peer)| node.clone();
        (dead.into_iter().map(name).collect(), live.into_iter().map(name).collect())
    }

    /// Whether a node that stands in the table right now counts.
    fn counts(&self, node: &str) -> bool {
        node != self.node && self.others.lock().get(node).is_none_or(|peer| !peer.is_dead())
    }
}

fn live(others: &HashMap<String, Peer>) -> usize {
    1 + others.values().filter(|peer| !peer.is_dead()).count()
}

/// Bumps this node's counter and looks at the others' for ever.
pub(super) async fn run(broker: Arc<RedisBroker>) {
    let mut turns = tokio::time::interval(broker.fleet.heartbeat);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        turns.tick().await;
        let outcome = bump(&broker).await;
        let wrong = outcome.as_ref().err().filter(|error| remedy::is_wrong_type(error));
        if let (Some(error), false) = (wrong, told) {
            let key = broker.keys.nodes();
            tracing::error!(event = logs::NODES_KEY_STRANGE, %error, key, "this key holds something else, so nodes do not see each other; rename or delete it");
        }
        told = wrong.is_some();
        if let Err(error) = outcome {
            // Of whatever else is wrong with Redis the probe tells.
            tracing::debug!(event = logs::HEARTBEAT_FAILED, %error, "no heartbeat");
        }
    }
}

async fn bump(broker: &RedisBroker) -> Result<(), RedisError> {
    let (fleet, table) = (&broker.fleet, broker.keys.nodes());
    let mut turn = fleet.turn.lock().await;
    if turn.resigned {
        return Ok(());
    }
    let mut both = pipe();
    both.cmd("HINCRBY").arg(&table).arg(&fleet.node).arg(1).cmd("HGETALL").arg(&table);
    let (bumped, counters): (i64, HashMap<String, i64>) = both.query_async(&mut broker.links.probe.clone()).await?;
    if bumped <= std::mem::replace(&mut turn.bumped, bumped) {
        tracing::warn!(
            event = logs::NODE_FORGOTTEN,
            "Redis had forgotten this node; telling it again how many members rooms have here"
        );
        fleet.forgotten.fetch_add(1, Ordering::SeqCst);
    }
    let buried = fleet.note(&mut turn, counters);
    if buried.is_empty() {
        return Ok(());
    }
    tracing::info!(event = logs::NODES_GONE, nodes = buried.join(","), "nodes are gone without a word");
    cmd("HDEL").arg(table).arg(buried).query_async(&mut broker.links.probe.clone()).await
}

pub(super) async fn tell_sizes(broker: &RedisBroker, sizes: &[(Room, usize)]) -> Result<(), RedisError> {
    let node = &broker.fleet.node;
    let mut tell = pipe();
    if sizes.iter().any(|(_, size)| *size > 0) {
        tell.cmd("HSETNX").arg(broker.keys.nodes()).arg(node).arg(0).ignore();
    }
    let kept = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
    for (room, size) in sizes {
        let members = broker.keys.members(room);
        if *size == 0 {
            tell.cmd("HDEL").arg(members).arg(node).ignore();
        } else {
            tell.cmd("HSET").arg(&members).arg(node).arg(size).ignore();
            tell.cmd("PEXPIRE").arg(members).arg(kept).ignore();
        }
    }
    tell.query_async(&mut broker.links.probe.clone()).await
}

/// The names are read behind the counts: a count that is seen has had its name before.
pub(super) async fn others(broker: &RedisBroker, room: &Room) -> Result<usize, RedisError> {
    let members = broker.keys.members(room);
    let mut both = pipe();
    both.cmd("HGETALL").arg(&members).cmd("HKEYS").arg(broker.keys.nodes());
    let mut redis = broker.connection();
    let (counts, nodes): (HashMap<String, usize>, HashSet<String>) = both.query_async(&mut redis).await?;
    let left: Vec<&String> =
        counts.keys().filter(|node| !nodes.contains(*node) && **node != broker.fleet.node).collect();
    if !left.is_empty() {
        cmd("HDEL").arg(members).arg(&left).query_async::<()>(&mut redis).await?;
    }
    let counted = counts.iter().filter(|(node, _)| nodes.contains(*node) && broker.fleet.counts(node));
    Ok(counted.map(|(_, size)| size).sum())
}

pub(super) async fn resign(broker: &RedisBroker) -> Result<(), RedisError> {
    let mut turn = broker.fleet.turn.lock().await;
    turn.resigned = true;
    cmd("HDEL").arg(broker.keys.nodes()).arg(&broker.fleet.node).query_async(&mut broker.links.probe.clone()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(2);

    fn look(before: &HashMap<String, Peer>, counters: &[(&str, i64)]) -> HashMap<String, Peer> {
        let counters = counters.iter().map(|(node, counter)| ((*node).to_owned(), *counter));
        seen(before, counters.collect(), BEAT, Duration::ZERO)
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
