//! The wires that are behind, or in the midst of a long message, of all listeners: when they hold more than the node has memory for, the slowest are let go.
//!
//! **Who is the slowest.** What counts is the bytes that wait for a peer times how long it has not worked off what waited for
//! it (`charge.rs`). So a phone that is slow at little goes after one that asks for megabytes and does not read, and a peer
//! that takes what it is given costs next to nothing, however much it is given. A frame that many wait for counts for each of
//! them here: it goes when the last of them has it, so those who are farthest behind have to go first in any case.

use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;
use slab::Slab;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::MEMORY_FULL;
use super::shared::Shared;
use crate::logs;
use crate::memory::Memory;
use crate::metrics::{MEMORY_BUDGET, MEMORY_HELD, MEMORY_SHED};

/// Between two looks while too much is held, though no wire is behind that could be let go.
const AGAIN: Duration = Duration::from_millis(20);
/// How often it is said how much is held.
const SAID_EVERY: Duration = Duration::from_secs(1);
/// How often it is logged that transports were let go.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// See the module. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Backlogs {
    memory: Memory,
    behind: Arc<Mutex<Slab<Weak<Shared>>>>,
}

/// A wire's place among those that are behind.
#[derive(Debug)]
pub(super) struct Listed {
    behind: Arc<Mutex<Slab<Weak<Shared>>>>,
    seat: usize,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let gone = self.behind.lock().try_remove(self.seat);
        drop(gone);
    }
}

impl Backlogs {
    /// Of a node with so much memory.
    #[must_use]
    pub fn new(memory: Memory) -> Self {
        Self { memory, behind: Arc::default() }
    }

    /// What is held by them.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(super) fn list(&self, wire: &Arc<Shared>) -> Listed {
        let seat = self.behind.lock().insert(Arc::downgrade(wire));
        Listed { behind: self.behind.clone(), seat }
    }

    /// Lets the slowest go whenever too much is held, for ever.
    pub async fn watch(self) {
        let mut said = Said::new(&self.memory);
        let mut turns = interval(SAID_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.memory.pressed() => {
                    let shed = self.shed();
                    said.shed(&self.memory, shed);
                    if shed == 0 {
                        sleep(AGAIN).await;
                    }
                }
                _ = turns.tick() => {}
            }
            said.held(&self.memory);
        }
    }

    /// Lets the slowest go until no more is held than may be. Says how many went.
    fn shed(&self) -> usize {
        let mut shed = 0;
        for (_, wire) in self.slowest_first() {
            if !self.memory.is_over() {
                break;
            }
            wire.kill(MEMORY_FULL);
            // What has arrived goes with the connection, in a moment: it is no reason to let go of another one.
            wire.arrives(0);
            shed += 1;
        }
        shed
    }

    fn slowest_first(&self) -> Vec<(u128, Arc<Shared>)> {
        let behind: Vec<Arc<Shared>> = self.behind.lock().iter().filter_map(|(_, wire)| wire.upgrade()).collect();
        let now = Instant::now();
        let mut costs: Vec<_> = behind.into_iter().map(|wire| (wire.cost(now), wire)).collect();
        costs.retain(|(cost, _)| *cost > 0);
        costs.sort_unstable_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        costs
    }
}

/// What operators are told.
struct Said {
    held: Gauge,
    shed: Counter,
    /// Let go since it was logged.
    unlogged: usize,
    logged: Option<Instant>,
}

impl Said {
    fn new(memory: &Memory) -> Self {
        gauge!(MEMORY_BUDGET).set(as_number(memory.budget()));
        Self { held: gauge!(MEMORY_HELD), shed: counter!(MEMORY_SHED), unlogged: 0, logged: None }
    }

    fn held(&self, memory: &Memory) {
        self.held.set(as_number(memory.held()));
    }

    fn shed(&mut self, memory: &Memory, count: usize) {
        self.shed.increment(count as u64);
        self.unlogged += count;
        let due = self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY);
        if !due || self.unlogged == 0 {
            return;
        }
        tracing::warn!(
            event = logs::MEMORY_SHED,
            transports = self.unlogged,
            budget = memory.budget(),
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
