//! Member counts: announces to the other nodes how many members each room has here, in all event loops together. Changes are collected and announced
//! together. A room that does not change is announced again from time to time, well before the fleet forgets it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::key::Room;
use metrics::gauge;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::totals::NodeRooms;
use crate::fleet::{Fleet, Unavailable};
use crate::logs;

/// Between two announcements: a count may reach the others two seconds late, and this leaves most of that for the way.
const TURN: Duration = Duration::from_millis(500);
/// Rooms of one announcement: one message of some ten kilobytes.
const AT_ONCE: usize = 256;
/// Each room is announced again within this time; the fleet keeps a count for an hour.
const RENEWAL: Duration = Duration::from_mins(10);

/// The announcements of a node's member counts.
#[derive(Debug)]
pub(super) struct MemberCounts {
    node: NodeRooms,
    fleet: Arc<dyn Fleet>,
    /// Held over an announcement, so that none follows the resignation.
    turn: tokio::sync::Mutex<CountTurn>,
}

#[derive(Debug, Default)]
struct CountTurn {
    /// This node has resigned.
    over: bool,
    /// Breaks of the event channel and losses of the fleet so far: after one, all counts may be lost.
    losses: (u64, u64),
    renewal: CountRenewal,
    /// Whether the present failure has been logged.
    complained: bool,
}

/// The rooms that are due again, spread evenly over [`RENEWAL`].
#[derive(Debug, Default)]
struct CountRenewal {
    rooms: VecDeque<Room>,
    /// Rooms per turn.
    share: usize,
    began: Option<Instant>,
}

impl CountRenewal {
    /// The rooms of the next turn; `all` is called when a round is over.
    fn next(&mut self, all: impl FnOnce() -> Vec<Room>) -> impl Iterator<Item = Room> + '_ {
        if self.began.is_none_or(|at| at.elapsed() >= RENEWAL) {
            self.rooms = all().into();
            // In half of the turns that there are: a slow turn must not make a room late.
            let turns = RENEWAL.as_millis() / TURN.as_millis();
            self.share = self.rooms.len().div_ceil(usize::try_from(turns / 2).unwrap_or(1));
            self.began = Some(Instant::now());
        }
        self.rooms.drain(..self.share.min(self.rooms.len()))
    }
}

impl MemberCounts {
    pub(super) fn new(node: NodeRooms, fleet: Arc<dyn Fleet>) -> Self {
        Self { node, fleet, turn: tokio::sync::Mutex::default() }
    }

    /// Announces changes until `stop`, and counts the open rooms for the metrics. `breaks` counts those of the event channel.
    pub(super) async fn announce_until(&self, breaks: impl Fn() -> u64, stop: CancellationToken) {
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(turns.tick()).await.is_some() {
            gauge!(crate::metrics::ROOMS).set(as_gauge(self.node.totals.count()));
            self.announce_changes(breaks()).await;
        }
    }

    pub(super) async fn withdraw_counts(&self) -> Result<(), Unavailable> {
        let mut turn = self.turn.lock().await;
        turn.over = true;
        // From here on the others count nothing of this node. The rest only removes what would expire in an hour.
        self.fleet.leave_fleet().await?;
        self.node.mark_all_changed(self.node.totals.all_rooms());
        for chunk in self.node.take_changed().chunks(AT_ONCE) {
            let nobody: Vec<_> = chunk.iter().map(|room| (room.clone(), 0)).collect();
            self.fleet.announce_sizes(&nobody).await?;
        }
        Ok(())
    }

    async fn announce_changes(&self, breaks: u64) {
        let mut turn = self.turn.lock().await;
        // An announcement would count this node again.
        if turn.over {
            return;
        }
        let losses = (breaks, self.fleet.forget_count());
        // After a loss every room is announced, whether it changed or not.
        if std::mem::replace(&mut turn.losses, losses) != losses {
            self.node.mark_all_changed(self.node.totals.populated_rooms());
        }
        self.node.mark_all_changed(turn.renewal.next(|| self.node.totals.populated_rooms()));
        match self.announce_all().await {
            Ok(()) => turn.complained = false,
            Err(Unavailable(error)) => {
                // Once for each outage, not with every turn.
                if !std::mem::replace(&mut turn.complained, true) {
                    tracing::warn!(
                        event = logs::ROOM_SIZES_UNTOLD,
                        error,
                        "the other nodes cannot be told how many members rooms have here; trying on"
                    );
                }
            }
        }
    }

    async fn announce_all(&self) -> Result<(), Unavailable> {
        let rooms = self.node.take_changed();
        for (at, chunk) in rooms.chunks(AT_ONCE).enumerate() {
            let sizes: Vec<_> = chunk.iter().map(|room| (room.clone(), self.node.totals.size(room))).collect();
            // What was not announced stays due, with its size at the time of the next attempt.
            if let Err(unavailable) = self.fleet.announce_sizes(&sizes).await {
                self.node.mark_all_changed(rooms[at * AT_ONCE..].iter().cloned());
                return Err(unavailable);
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn as_gauge(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use hallway_rooms::class::{Classes, Retention};

    use super::*;

    fn rooms(n: usize) -> Vec<Room> {
        let retention = Retention { max_events: 9, ttl: Duration::from_secs(9) };
        let classes = Classes::built_in(retention, Duration::from_secs(99));
        (0..n).map(|i| classes.find_room(&format!("order:{i}")).expect("a room")).collect()
    }

    /// How many rooms each turn of some rounds renews.
    async fn shares(n: usize, rounds: u32) -> Vec<usize> {
        let (mut renewal, rooms) = (CountRenewal::default(), rooms(n));
        let mut shares = Vec::new();
        let began = Instant::now();
        while began.elapsed() < RENEWAL * rounds {
            shares.push(renewal.next(|| rooms.clone()).count());
            tokio::time::advance(TURN).await;
        }
        shares
    }

    #[tokio::test(start_paused = true)]
    async fn every_room_is_renewed_once_a_round_and_never_all_at_once() {
        for n in [0, 1, 599, 601, 5000] {
            let shares = shares(n, 2).await;
            assert_eq!(shares.iter().sum::<usize>(), 2 * n, "{n}");
            assert!(shares.iter().all(|share| *share <= n.div_ceil(600)), "{n}: {shares:?}");
        }
    }
}
