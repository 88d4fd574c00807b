//! Assurance: every open room is compared with what the broker has last stored in it, many in one round trip: at once after
//! a break of the feed, and from time to time whatever happens. An event that came into the broker without a message, as by
//! a full sync from another server, is noticed by nothing else; a room that is not level is read.
//!
//! A room that is level has proven its silence up to then. Without that, one that nothing was stored in for longer than its
//! last offset is remembered would look like one with a gap.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hallway_rooms::history::Facts;
use hallway_rooms::key::Room;
use hallway_rooms::position::Position;

use super::Hub;
use super::feed::Task;
use super::room::LocalRoom;
use crate::broker::{Broker, Unavailable};

/// Rooms compared in one round trip: some ten kilobytes, and less than a millisecond of Redis.
const ROOMS: usize = 512;
/// Round trips at once.
const LOOKS: usize = 16;
/// Between two tries while the broker does not answer.
const RETRY: Duration = Duration::from_millis(100);
/// So often in a row the broker does not answer though it is well; then each room is read, and judged by itself.
const FAILURES: u32 = 10;

/// Rooms and where they stood when the broker was asked.
type Asked = Vec<(Arc<LocalRoom>, Position)>;

/// Comparisons that have ended, are under way, and are to begin.
#[derive(Default)]
pub(super) struct Looks {
    /// No more than are open.
    rooms: VecDeque<Vec<Arc<LocalRoom>>>,
    running: FuturesUnordered<BoxFuture<'static, Look>>,
}

/// One comparison of many rooms; nothing is known where the broker did not say it.
pub(super) struct Look {
    asked: Asked,
    facts: Option<Vec<Facts>>,
}

impl Looks {
    /// Compares all these, whatever was compared before.
    pub(super) fn restart(&mut self, hub: &Hub, rooms: &[Arc<LocalRoom>]) {
        self.running.clear();
        self.rooms = rooms.chunks(ROOMS).map(<[_]>::to_vec).collect();
        self.begin(hub);
    }

    /// Whether nothing is being compared.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The next comparison that ends.
    pub(super) async fn next(&mut self) -> Option<Look> {
        self.running.next().await
    }

    fn begin(&mut self, hub: &Hub) {
        while self.running.len() < LOOKS
            && let Some(rooms) = self.rooms.pop_front()
        {
            self.running.push(Box::pin(look(hub.0.broker.clone(), rooms)));
        }
    }
}

async fn look(broker: Arc<dyn Broker>, rooms: Vec<Arc<LocalRoom>>) -> Look {
    let asked: Asked = rooms.into_iter().filter_map(|local| local.position().map(|at| (local, at))).collect();
    let names: Vec<Room> = asked.iter().map(|(local, _)| local.room().clone()).collect();
    let mut failures = 0;
    while failures < FAILURES {
        match broker.facts(&names).await {
            Ok(facts) => return Look { asked, facts: Some(facts) },
            Err(Unavailable(_)) => failures = if broker.health().ready { failures + 1 } else { 0 },
        }
        tokio::time::sleep(RETRY).await;
        broker.health().recovered().await;
    }
    Look { asked, facts: None }
}

impl Task {
    /// Compares every open room, unless that is being done.
    pub(super) fn look_at_all(&mut self) {
        if self.looks.is_empty() {
            self.looks.restart(&self.hub, &self.hub.all());
        }
    }

    pub(super) fn take_look(&mut self, look: Look) {
        let facts =
            look.facts.map_or_else(|| vec![None; look.asked.len()], |facts| facts.into_iter().map(Some).collect());
        for ((local, asked), facts) in look.asked.iter().zip(facts) {
            if !facts.is_some_and(|facts| is_level(local, asked, &facts)) {
                self.backlog.want(local.room());
            }
        }
        self.looks.begin(&self.hub);
    }
}

/// Whether everything that is stored in a room has been delivered; if so, its silence is proven up to now. A room may have
/// moved on while the broker was asked.
fn is_level(local: &LocalRoom, asked: &Position, facts: &Facts) -> bool {
    let Some(position) = local.position() else { return true };
    let continues = |p: &Position| facts.continues(p.at(), p.reach(), &[], false);
    let is_level = continues(asked) || continues(&position);
    if is_level {
        local.vouch(asked.at(), facts.quiet());
    }
    is_level
}
