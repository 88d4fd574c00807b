//! Healing: what the live feed did not bring is read from the histories and delivered first, in order; one read per
//! room however many members it has.
//!
//! An event of several rooms is delivered once for all of them, so a room's missing entries may have to wait for
//! those of another room. Every entry names its predecessor in each of its rooms, which gives the order: a stack of
//! rooms, where the top one is what the one below waits for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use hallway_rooms::close::Close;
use hallway_rooms::entry::{Entry, Link};
use hallway_rooms::history::From;
use hallway_rooms::key::Room;
use hallway_rooms::limits::PAGE_EVENTS;

use super::Hub;
use super::cast::Target;
use super::room::LocalRoom;
use crate::broker::{History, Unavailable};
use crate::logs;

/// Rooms read at once.
const READS: usize = 32;
/// Between two tries while the broker does not answer.
const RETRY: Duration = Duration::from_millis(100);

/// So often in a row a room cannot be read while the broker is well before it is given up: longer than it takes to notice that
/// the broker is not.
const FAILURES: u32 = 10;

/// The missing entries of the rooms that are being healed.
#[derive(Default)]
struct Missing {
    queues: HashMap<Room, Queue>,
}

struct Queue {
    entries: VecDeque<Entry>,
    has_more: bool,
}

impl Hub {
    /// Reads every open room again: after a break of the feed.
    pub(super) async fn heal_all(&self) {
        self.0.breaks.fetch_add(1, Ordering::SeqCst);
        let rooms: Vec<_> = self.all().into_iter().filter(|local| local.at().is_some()).collect();
        if rooms.is_empty() {
            return;
        }
        tracing::info!(event = logs::FEED_BROKEN, rooms = rooms.len(), "the feed had a break; reading the histories");
        self.heal(rooms.clone()).await;
        self.renew(&rooms).await;
        tracing::info!(event = logs::FEED_HEALED, "the histories are read; live delivery goes on");
    }

    /// Brings `rooms` up to what the broker has stored.
    pub(super) async fn heal(&self, rooms: Vec<Arc<LocalRoom>>) {
        for chunk in rooms.chunks(READS) {
            let mut missing = Missing::default();
            self.load(chunk, &mut missing).await;
            for local in chunk {
                self.drain(local.clone(), &mut missing).await;
            }
        }
    }

    async fn load(&self, rooms: &[Arc<LocalRoom>], missing: &mut Missing) {
        let reads = rooms.iter().map(|local| async move { (local, self.read(local).await) });
        for (local, history) in join_all(reads).await {
            let Some(history) = history else { continue };
            self.judge(local, &history);
            let queue = Queue { entries: history.entries.into(), has_more: history.has_more };
            missing.queues.insert(local.room().clone(), queue);
        }
    }

    /// Reads what is newer than the room's position, until the broker answers. A room that cannot be read while the broker is
    /// well is given up: all others wait for this one.
    async fn read(&self, local: &LocalRoom) -> Option<History> {
        let (mut told, mut failures) = (false, 0);
        loop {
            let from = From::After(local.at()?);
            let read = match self.0.broker.history(local.room(), from, PAGE_EVENTS).await {
                Ok(history) if is_behind(&history, local) => self.rewind(local, &history).await,
                read => read,
            };
            let error = match read {
                Ok(history) => return Some(history),
                Err(Unavailable(error)) => error,
            };
            failures = if self.0.broker.health().ready { failures + 1 } else { 0 };
            if failures >= FAILURES {
                // The way to the histories may be in trouble while all else is well: that is no fault of this room.
                if self.0.broker.reads().await {
                    self.give_up(local, &error);
                    return None;
                }
                failures = 0;
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(
                    event = logs::HISTORY_UNREADABLE,
                    error,
                    "a history cannot be read; live delivery waits for the broker"
                );
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Costs a room that cannot be read its members, who come back and ask for it again. Until somebody is let in, nothing of it
    /// is taken in here.
    fn give_up(&self, local: &LocalRoom, error: &str) {
        self.0.counts.unreadable.increment(1);
        tracing::error!(event = logs::ROOM_UNREADABLE, room = %local.room(), error, "a room cannot be read, so its members are closed; see what its keys in Redis hold");
        for member in local.close_for_a_while() {
            member.session.close(Close::RoomUnreadable);
        }
    }

    /// The broker lost the newest entries of a room: what is new among those it has is what no id here knows.
    async fn rewind(&self, local: &LocalRoom, history: &History) -> Result<History, Unavailable> {
        let (Some(position), Some(last)) = (local.position(), history.facts.last) else { return Ok(history.clone()) };
        let unseen = self.0.broker.history(local.room(), From::After(position.floor()), PAGE_EVENTS).await?;
        self.0.counts.rewound.increment(1);
        tracing::warn!(event = logs::ROOM_REWOUND, room_class = ?local.room().class(), lost_up_to = %position.at(), last = %last, "the broker forgot the newest entries of a room");
        local.rewind(last);
        Ok(unseen)
    }

    /// Members of a room whose history does not reach back lose their transport: nothing is skipped silently.
    fn judge(&self, local: &LocalRoom, history: &History) {
        let Some(position) = local.position() else { return };
        let links: Vec<Link> = history.entries.iter().filter_map(|entry| entry.link(local.room())).collect();
        if history.facts.continues(position.at(), position.reach(), &links, history.has_more) {
            return;
        }
        let first = links.first().map(|link| link.prev);
        local.cut(position.at().max(first.unwrap_or_else(|| history.facts.head())));
        self.0.counts.cut_off.increment(1);
        for member in local.members() {
            member.session.close(Close::HistoryLost);
        }
    }

    /// Delivers a room's missing entries, those that it waits for first.
    async fn drain(&self, local: Arc<LocalRoom>, missing: &mut Missing) {
        let mut stack = vec![local];
        let mut idle_turns = 0;
        while let Some(top) = stack.last().cloned() {
            let Some(entry) = self.next_of(&top, missing).await else {
                stack.pop();
                continue;
            };
            let (targets, gaps) = self.weigh(&entry);
            let blocked = gaps.into_iter().find(|gap| gap.room() != top.room());
            let stuck = idle_turns > stack.len() + missing.queues.len();
            match blocked {
                Some(gap) if !stuck && !targets.is_empty() => {
                    idle_turns += 1;
                    self.wait_for(gap, &mut stack, missing).await;
                }
                _ => {
                    idle_turns = 0;
                    self.pass(&top, &entry, targets, missing).await;
                }
            }
        }
    }

    async fn wait_for(&self, gap: Arc<LocalRoom>, stack: &mut Vec<Arc<LocalRoom>>, missing: &mut Missing) {
        if let Some(at) = stack.iter().position(|waiting| Arc::ptr_eq(waiting, &gap)) {
            stack.truncate(at + 1);
            return;
        }
        let unread = missing.queues.get(gap.room()).is_none_or(|q| q.entries.is_empty() && !q.has_more);
        if unread {
            self.load(std::slice::from_ref(&gap), missing).await;
        }
        stack.push(gap);
    }

    async fn pass(&self, top: &LocalRoom, entry: &Entry, targets: Vec<Target>, missing: &mut Missing) {
        if let Some(queue) = missing.queues.get_mut(top.room()) {
            queue.entries.pop_front();
        }
        if !targets.is_empty() {
            self.0.counts.healed.increment(1);
            self.deliver_next(entry, targets).await;
        }
    }

    /// The first missing entry of a room that it has not had; reads on where a page was full.
    async fn next_of(&self, local: &Arc<LocalRoom>, missing: &mut Missing) -> Option<Entry> {
        let queue = missing.queues.get_mut(local.room())?;
        if queue.entries.is_empty() && queue.has_more {
            self.load(std::slice::from_ref(local), missing).await;
        }
        missing.queues.get(local.room())?.entries.front().cloned()
    }
}

fn is_behind(history: &History, local: &LocalRoom) -> bool {
    let last = history.facts.last;
    last.is_some_and(|last| local.at().is_some_and(|at| last < at))
}
