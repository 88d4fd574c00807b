//! The census: tells the other nodes how many members each room has here. What changed is gathered and told together;
//! a room that did not change is told again from time to time, well before the broker forgets it.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use hallway_rooms::key::Room;
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{Hub, LocalRoom};
use crate::fleet::Unavailable;
use crate::logs;

/// Between two tellings: the others may know a count two seconds late, and this leaves most of that to the way there.
const TURN: Duration = Duration::from_millis(500);
/// Rooms told together.
const AT_ONCE: usize = 256;
/// Each room is told again within this time; brokers keep a count for an hour.
const RENEWAL: Duration = Duration::from_mins(10);

/// What is to be told.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// Rooms whose size changed: no more than there were here since the last telling.
    changed: Mutex<HashSet<Room>>,
    /// Held over a telling, so that none follows the end.
    turn: tokio::sync::Mutex<Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    over: bool,
    /// Breaks of the feed and lapses of the broker so far: after one the broker may have lost every count.
    losses: (u64, u64),
    renewal: Renewal,
    /// Whether a failure has been logged that still lasts.
    complained: bool,
}

/// The rooms that are due to be told again, spread evenly over the time that they have.
#[derive(Debug, Default)]
struct Renewal {
    rooms: VecDeque<Room>,
    share: usize,
    began: Option<Instant>,
}

impl Renewal {
    /// The next share; `all` is asked when a round is over.
    fn next(&mut self, all: impl FnOnce() -> Vec<Room>) -> impl Iterator<Item = Room> + '_ {
        if self.began.is_none_or(|at| at.elapsed() >= RENEWAL) {
            self.rooms = all().into();
            let turns = RENEWAL.as_millis() / TURN.as_millis();
            self.share = self.rooms.len().div_ceil(usize::try_from(turns / 2).unwrap_or(1));
            self.began = Some(Instant::now());
        }
        self.rooms.drain(..self.share.min(self.rooms.len()))
    }
}

impl Hub {
    /// Notes that a room's size here has changed.
    pub fn recount(&self, room: &Room) {
        self.0.census.changed.lock().insert(room.clone());
    }

    /// Tells the other nodes what changed until `stop`.
    pub async fn take_census(&self, stop: CancellationToken) {
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(turns.tick()).await.is_some() {
            self.tell_changes().await;
        }
    }

    /// Takes this node's members out of every count, for good.
    ///
    /// # Errors
    /// When the broker is out of reach: the other nodes then find out by themselves.
    pub async fn resign(&self) -> Result<(), Unavailable> {
        let mut turn = self.0.census.turn.lock().await;
        turn.over = true;
        self.0.fleet.resign().await?;
        self.all().iter().for_each(|local| self.recount(local.room()));
        let rooms: Vec<Room> = self.0.census.changed.lock().drain().collect();
        for chunk in rooms.chunks(AT_ONCE) {
            let nobody: Vec<_> = chunk.iter().map(|room| (room.clone(), 0)).collect();
            self.0.fleet.tell_sizes(&nobody).await?;
        }
        Ok(())
    }

    async fn tell_changes(&self) {
        let mut turn = self.0.census.turn.lock().await;
        if turn.over {
            return;
        }
        let losses = (self.breaks(), self.0.fleet.forgotten());
        if std::mem::replace(&mut turn.losses, losses) != losses {
            self.populated().iter().for_each(|room| self.recount(room));
        }
        turn.renewal.next(|| self.populated()).for_each(|room| self.recount(&room));
        match self.tell_all().await {
            Ok(()) => turn.complained = false,
            Err(Unavailable(error)) => {
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

    async fn tell_all(&self) -> Result<(), Unavailable> {
        let changed = std::mem::take(&mut *self.0.census.changed.lock());
        let rooms: Vec<Room> = changed.into_iter().collect();
        for (at, chunk) in rooms.chunks(AT_ONCE).enumerate() {
            let sizes: Vec<_> = chunk.iter().map(|room| (room.clone(), self.size(room))).collect();
            if let Err(unavailable) = self.0.fleet.tell_sizes(&sizes).await {
                self.0.census.changed.lock().extend(rooms[at * AT_ONCE..].iter().cloned());
                return Err(unavailable);
            }
        }
        Ok(())
    }

    fn populated(&self) -> Vec<Room> {
        let has_members = |local: &std::sync::Arc<LocalRoom>| (local.size() > 0).then(|| local.room().clone());
        self.all().iter().filter_map(has_members).collect()
    }
}

#[cfg(test)]
mod tests {
    use hallway_rooms::class::{Classes, Retention};

    use super::*;

    fn rooms(n: usize) -> Vec<Room> {
        let retention = Retention { max_events: 9, ttl: Duration::from_secs(9) };
        let classes = Classes::built_in(retention, Duration::from_secs(99));
        (0..n).map(|i| classes.room(&format!("order:{i}")).expect("a room")).collect()
    }

    /// How many rooms each turn of some rounds renews.
    async fn shares(n: usize, rounds: u32) -> Vec<usize> {
        let (mut renewal, rooms) = (Renewal::default(), rooms(n));
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
