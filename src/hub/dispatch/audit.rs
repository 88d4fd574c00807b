//! The audit: every open room is compared with the last offset that the broker has stored for it, many rooms per round
//! trip. It runs at once after a break of the event channel, and at intervals in any case: an event that entered the
//! broker without a message, as by a full sync from another server, is noticed by nothing else. A room that is behind
//! is read.
//!
//! An audit also proves that a room which is not behind was silent up to then. Without that proof a room in which
//! nothing was stored for longer than its last offset is remembered would look like one with a gap.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hallway_rooms::history::RoomFacts;
use hallway_rooms::key::Room;
use hallway_rooms::position::Position;

use super::Dispatch;
use crate::broker::{Broker, Unavailable};
use crate::hub::Hub;
use crate::hub::room::LocalRoom;

/// Rooms per round trip: some ten kilobytes, and less than a millisecond of Redis' time.
const ROOMS: usize = 512;
/// Round trips in flight at once.
const LOOKS: usize = 16;
/// Pause before the next try while the broker does not answer.
const RETRY: Duration = Duration::from_millis(100);
/// Failures in a row, of a broker that is healthy otherwise, after which each room is read and judged by itself.
const FAILURES: u32 = 10;

/// Rooms, and their positions when the broker was asked.
type ComparedRooms = Vec<(Arc<LocalRoom>, Position)>;

/// The running audit: batches that are waiting and in flight.
#[derive(Default)]
pub(super) struct Audit {
    /// Batches that have not begun; no more rooms than are open.
    rooms: VecDeque<Vec<Arc<LocalRoom>>>,
    /// Batches in flight, at most [`LOOKS`].
    running: FuturesUnordered<BoxFuture<'static, RoomComparison>>,
}

/// The result of one batch.
pub(super) struct RoomComparison {
    /// The rooms in the order in which the broker was asked.
    asked: ComparedRooms,
    /// The broker's answer in the same order; `None` if it gave none.
    facts: Option<Vec<RoomFacts>>,
}

impl Audit {
    /// Starts an audit of these rooms and drops one that is running: its answers may be older than the break.
    pub(super) fn restart_audit(&mut self, hub: &Hub, rooms: &[Arc<LocalRoom>]) {
        self.running.clear();
        self.rooms = rooms.chunks(ROOMS).map(<[_]>::to_vec).collect();
        self.begin_comparisons(hub);
    }

    /// Whether no batch is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Waits for the next batch that ends.
    pub(super) async fn next(&mut self) -> Option<RoomComparison> {
        self.running.next().await
    }

    fn begin_comparisons(&mut self, hub: &Hub) {
        while self.running.len() < LOOKS
            && let Some(rooms) = self.rooms.pop_front()
        {
            self.running.push(Box::pin(compare_rooms(hub.0.broker.clone(), rooms)));
        }
    }
}

async fn compare_rooms(broker: Arc<dyn Broker>, rooms: Vec<Arc<LocalRoom>>) -> RoomComparison {
    // Rooms that were closed meanwhile have no position and are left out.
    let asked: ComparedRooms = rooms.into_iter().filter_map(|local| local.position().map(|at| (local, at))).collect();
    let names: Vec<Room> = asked.iter().map(|(local, _)| local.room().clone()).collect();
    let mut failures = 0;
    while failures < FAILURES {
        match broker.facts(&names).await {
            Ok(facts) => return RoomComparison { asked, facts: Some(facts) },
            // While the broker is out of reach for everything, no room is at fault: the count begins again.
            Err(Unavailable(_)) => failures = if broker.health().ready { failures + 1 } else { 0 },
        }
        tokio::time::sleep(RETRY).await;
        // Returns at once if the broker is not known to be down, so the pause comes first.
        broker.health().recovered().await;
    }
    RoomComparison { asked, facts: None }
}

impl Dispatch {
    /// Starts an audit of every open room, unless one is running.
    pub(super) fn audit_all(&mut self) {
        if self.comparisons.is_empty() {
            self.comparisons.restart_audit(&self.hub, &self.hub.all_rooms());
        }
    }

    pub(super) fn take_comparison(&mut self, comparison: RoomComparison) {
        // Without an answer every room of the batch counts as behind, and the read of each finds out which one is at
        // fault.
        let facts = comparison
            .facts
            .map_or_else(|| vec![None; comparison.asked.len()], |facts| facts.into_iter().map(Some).collect());
        for ((local, asked), facts) in comparison.asked.iter().zip(facts) {
            if !facts.is_some_and(|facts| is_level(local, asked, &facts)) {
                self.backlog.request_read(local.room());
            }
        }
        self.comparisons.begin_comparisons(&self.hub);
    }
}

/// Whether all stored events of a room have been delivered; if so, its silence is proven up to this audit. The room may
/// have moved on while the broker was asked, so both positions count.
fn is_level(local: &LocalRoom, asked: &Position, facts: &RoomFacts) -> bool {
    // The room was closed meanwhile; opening it again reads its facts anyway.
    let Some(position) = local.position() else { return true };
    let continues = |p: &Position| facts.continues_from(p.delivered_offset(), p.complete_offset(), &[], false);
    let is_level = continues(asked) || continues(&position);
    if is_level {
        // Only for the position that the broker was asked about: the proof says nothing about a later one.
        local.extend_silence(asked.delivered_offset(), facts.quiet());
    }
    is_level
}
