//! The list of all wires of the node with a backlog, or with a long incoming message. When they hold more than the
//! node's memory budget, the slowest are closed.
//!
//! **Which wire is the slowest.** Its cost is the bytes that wait for a peer times how long the peer has not worked
//! them off (`charge.rs`). So a phone that is slow at little is closed after a client that asks for megabytes and does
//! not read, and a peer that takes its bytes promptly costs next to nothing, however many it is sent. A frame that
//! waits for many sockets counts for each of them here: its memory is freed when the last one has sent it, so the
//! sockets that are farthest behind have to go first in any case.

use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;
use slab::Slab;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::logs;
use crate::memory::NodeMemory;
use crate::metrics::{MEMORY_BUDGET, MEMORY_HELD, MEMORY_SHED};

/// Pause between two passes while too much is held and no wire has a backlog to free.
const AGAIN: Duration = Duration::from_millis(20);
/// How often the gauge of held bytes is set.
const SAID_EVERY: Duration = Duration::from_secs(1);
/// How often closed transports are logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// A wire as this list sees it. Calls by `dyn` are no cost here: a wire is listed when it has fallen behind.
pub(super) trait Sheddable: Send + Sync {
    /// The cost of the wire's slowness in byte-microseconds; 0 once it is dead.
    fn cost(&self, now: Instant) -> u128;

    /// Closes the wire and releases what it holds, at once.
    fn shed(self: Arc<Self>);
}

/// The wires with a backlog, and the memory they share; see the module. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct Backlogs {
    /// The node's budget, which this list defends.
    memory: NodeMemory,
    /// Weak: being listed must not keep a closed wire alive.
    behind: Arc<Mutex<Slab<Weak<dyn Sheddable>>>>,
}

/// The entry of one wire in the list; its drop removes it.
#[derive(Debug)]
pub(super) struct ListedBacklog {
    /// The list that the entry is in.
    behind: Arc<Mutex<Slab<Weak<dyn Sheddable>>>>,
    /// Key of the entry.
    key: usize,
}

impl Drop for ListedBacklog {
    fn drop(&mut self) {
        let gone = self.behind.lock().try_remove(self.key);
        // The last reference to a wire may go here, so it is dropped outside the lock of the list.
        drop(gone);
    }
}

impl Backlogs {
    /// An empty list for a node with this memory.
    #[must_use]
    pub fn new(memory: NodeMemory) -> Self {
        Self { memory, behind: Arc::default() }
    }

    /// The memory that the wires share.
    #[must_use]
    pub fn memory(&self) -> &NodeMemory {
        &self.memory
    }

    pub(super) fn register_wire(&self, wire: Weak<dyn Sheddable>) -> ListedBacklog {
        let key = self.behind.lock().insert(wire);
        ListedBacklog { behind: self.behind.clone(), key }
    }

    /// Closes the slowest wires whenever too much is held. It never returns.
    pub async fn watch_memory(self) {
        let mut said = ReportedBacklogs::new(&self.memory);
        let mut turns = interval(SAID_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.memory.wait_until_over_budget() => {
                    let shed = self.shed_slowest();
                    said.report_shed(&self.memory, shed);
                    // The memory is held by something else, for instance commands that wait; a loop without a pause
                    // would spin.
                    if shed == 0 {
                        sleep(AGAIN).await;
                    }
                }
                _ = turns.tick() => {}
            }
            said.report_held(&self.memory);
        }
    }

    /// Closes the slowest wires until the budget holds. Gives how many were closed.
    fn shed_slowest(&self) -> usize {
        let mut shed = 0;
        for (_, wire) in self.slowest_first() {
            // Each close frees memory at once, so that as few clients as possible are closed.
            if !self.memory.is_over() {
                break;
            }
            wire.shed();
            shed += 1;
        }
        shed
    }

    fn slowest_first(&self) -> Vec<(u128, Arc<dyn Sheddable>)> {
        let behind: Vec<Arc<dyn Sheddable>> =
            self.behind.lock().iter().filter_map(|(_, wire)| wire.upgrade()).collect();
        // Wires are upgraded first and locked later: the list's lock is not held while those of wires are taken.
        let now = Instant::now();
        let mut costs: Vec<_> = behind.into_iter().map(|wire| (wire.cost(now), wire)).collect();
        // A cost of 0 means dead or without a backlog: a kill would free nothing.
        costs.retain(|(cost, _)| *cost > 0);
        costs.sort_unstable_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        costs
    }
}

/// Metrics and log of closed transports.
struct ReportedBacklogs {
    /// Bytes held for sockets.
    held: Gauge,
    /// Transports closed to free memory.
    shed: Counter,
    /// Transports closed since the last log line.
    unlogged: usize,
    /// When the last line was logged.
    logged: Option<Instant>,
}

impl ReportedBacklogs {
    fn new(memory: &NodeMemory) -> Self {
        gauge!(MEMORY_BUDGET).set(as_number(memory.socket_budget()));
        Self { held: gauge!(MEMORY_HELD), shed: counter!(MEMORY_SHED), unlogged: 0, logged: None }
    }

    fn report_held(&self, memory: &NodeMemory) {
        self.held.set(as_number(memory.held_bytes()));
    }

    fn report_shed(&mut self, memory: &NodeMemory, count: usize) {
        self.shed.increment(count as u64);
        self.unlogged += count;
        let due = self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY);
        // `watch` calls this also when nothing was closed; the counts that wait for the next line are kept.
        if !due || self.unlogged == 0 {
            return;
        }
        tracing::warn!(
            event = logs::MEMORY_SHED,
            transports = self.unlogged,
            budget = memory.socket_budget(),
            limit = memory.limit(),
            "more waited for slow sockets than this node has memory for, and the slowest were closed; they come back with \
             their offsets. If that goes on, give each node more memory (limits.memory) or add nodes"
        );
        (self.unlogged, self.logged) = (0, Some(Instant::now()));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of bytes is exact up to 8 PiB")]
fn as_number(bytes: usize) -> f64 {
    bytes as f64
}
