//! Reading histories for clients: one read per room at a time, whose result goes to every command that has waited for
//! it.
//!
//! A thousand clients that return to one room ask for the same megabytes. A read for each would be a thousand times
//! the bytes from Redis, whose replies would come too late and would be requested again.
//!
//! **What is shared, and why it is correct.** A command has subscribed before it asks, and needs a read that is
//! younger than that. So a command that comes during a read waits for the next one. A read begins at the start of one
//! of the waiting commands. Each gets the entries behind its own start, and `complete` is judged for each from the
//! facts of the read and from every link that it gets (`stretch.rs`).
//!
//! **What is kept.** Pages stay for some seconds (`kept.rs`), so that a reply which came too late serves the retry,
//! and the last client of a herd costs no more than the first. A kept page covers the past alone: the entries after
//! its end are read each time, with the facts, and a page whose end is not the link of what is found there is
//! dropped.
//!
//! **The order.** A room is in the queue once, however many commands wait for it, and goes to the end after a read.
//! Within a room the reads go through the requested starts from the oldest to the newest, and then begin again, so
//! that neither clients far behind nor those close to the head are passed over.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ::redis::RedisError;
use hallway_rooms::entry::Entry;
use hallway_rooms::history::{RoomFacts, Start};
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{RedisBroker, latest, read, room_unreadable};
use crate::broker::{HistoryRequest, Resumed, Unavailable};
use crate::metrics::{HISTORY_READS, HISTORY_READS_SHARED};
use freshness::HistorySource;
use kept::KeptPages;
use queue::{LatestWaiters, ReadBatch, ReadQueue};

mod freshness;
mod kept;
mod queue;
mod range;

/// Bounds of reading histories for clients.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Rooms read at the same time.
    pub at_once: usize,
    /// Bytes of pages kept for later reads.
    pub kept_bytes: usize,
}

/// The shared reads.
pub(super) struct SharedReads {
    state: Mutex<ReadsState>,
    /// Pages of the last seconds.
    kept: Mutex<KeptPages>,
    /// Permits for concurrent reads.
    budget: Arc<Semaphore>,
    /// Signals that a room was queued.
    asked: Notify,
}

/// The waiting commands. Bounded by the commands under way, of which every session has few.
#[derive(Default)]
struct ReadsState {
    /// Per room; removed when no command waits.
    lines: HashMap<Room, ReadQueue>,
    /// Rooms to read, each once.
    order: VecDeque<Room>,
}

impl SharedReads {
    pub(super) fn new(limits: ReadLimits) -> Self {
        Self {
            state: Mutex::default(),
            kept: Mutex::new(KeptPages::new(limits.kept_bytes)),
            budget: Arc::new(Semaphore::new(limits.at_once)),
            asked: Notify::new(),
        }
    }

    /// A part of a room's history, from a read that begins after this call.
    pub(super) async fn read_page(&self, room: &Room, portion: HistoryRequest) -> Result<Resumed, Unavailable> {
        let (to, answer) = oneshot::channel();
        self.enqueue(room, |line| line.add_waiter(portion, to));
        answer.await.unwrap_or_else(|_| Err(given_up()))
    }

    /// The `latest` events of a room, from a read that begins after this call.
    pub(super) async fn read_latest(&self, room: &Room) -> Result<Vec<Entry>, Unavailable> {
        let (to, answer) = oneshot::channel();
        self.enqueue(room, |line| line.ask_latest(to));
        answer.await.unwrap_or_else(|_| Err(given_up()))
    }

    fn enqueue(&self, room: &Room, ask: impl FnOnce(&mut ReadQueue)) {
        let mut state = self.state.lock();
        let line = state.lines.entry(room.clone()).or_default();
        ask(line);
        // A room that is queued or being read is not queued again: two reads would ask for the same.
        if !std::mem::replace(&mut line.stands, true) {
            state.order.push_back(room.clone());
            self.asked.notify_one();
        }
    }

    async fn next(&self) -> Room {
        loop {
            if let Some(room) = self.state.lock().order.pop_front() {
                return room;
            }
            self.asked.notified().await;
        }
    }

    /// Takes the commands that wait for a room: the read that begins is theirs.
    fn begin_read(&self, room: &Room) -> ReadBatch {
        self.state.lock().lines.get_mut(room).map(ReadQueue::take_batch).unwrap_or_default()
    }

    /// Queues a room again after a read if commands still wait for it.
    fn end_read(&self, room: &Room) {
        let mut state = self.state.lock();
        let Some(line) = state.lines.get(room) else { return };
        if line.is_empty() {
            state.lines.remove(room);
        } else {
            state.order.push_back(room.clone());
            self.asked.notify_one();
        }
    }

    /// Puts commands back whose starts the read did not reach.
    fn put_back(&self, room: &Room, left: ReadBatch, cursor: Offset) {
        if let Some(line) = self.state.lock().lines.get_mut(room) {
            line.put_back(left, cursor);
        }
    }
}

fn given_up() -> Unavailable {
    Unavailable("the read was given up".to_owned())
}

/// Reads requested rooms, for ever. A read goes on even if no command waits for it any more: its page serves the
/// retries.
pub(super) async fn serve_reads(broker: Arc<RedisBroker>, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        // Before a room is taken from the queue: it collects waiting commands for as long as possible.
        let Ok(permit) = broker.reads.budget.clone().acquire_owned().await else { return };
        let room = broker.reads.next().await;
        let reading = broker.clone();
        let one = async move {
            let turn = RoomTurn { broker: &reading, room: &room };
            turn.read_room().await;
            drop(permit);
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(one));
    }
}

/// The read of one room. Dropping it queues the room again, however the read ended.
struct RoomTurn<'a> {
    broker: &'a RedisBroker,
    room: &'a Room,
}

impl Drop for RoomTurn<'_> {
    fn drop(&mut self) {
        self.broker.reads.end_read(self.room);
    }
}

impl RoomTurn<'_> {
    async fn read_room(&self) {
        let mut batch = self.broker.reads.begin_read(self.room);
        let latest = batch.take_latest();
        // Both reads at once: a join waits for both.
        tokio::join!(self.read_pages(batch), self.read_latest_events(latest));
    }

    async fn read_latest_events(&self, waiting: Vec<LatestWaiters>) {
        // Most rooms have no `latest` events requested; no command is sent for nothing.
        if waiting.is_empty() {
            return;
        }
        let read =
            latest::read_latest(self.broker, self.room).await.map_err(|e| room_unreadable(self.broker, self.room, &e));
        waiting.into_iter().for_each(|one| _ = one.send(read.clone()));
    }

    async fn read_pages(&self, batch: ReadBatch) {
        let Some(place) = batch.start_offset() else { return };
        let asked = batch.waiter_count();
        match freshness::read_beyond_kept(self, &self.broker.reads.kept, &batch, place).await {
            Ok(stretch) => {
                let left = batch.answer_reached(self.room, &stretch, place);
                let others = asked.saturating_sub(left.waiter_count() + 1);
                counter!(HISTORY_READS_SHARED).increment(others as u64);
                self.broker.reads.put_back(self.room, left, place);
            }
            // A failed read fails all of its commands, each of which decides about a retry by its own budget.
            Err(error) => batch.fail_all(&room_unreadable(self.broker, self.room, &error)),
        }
    }
}

impl HistorySource for RoomTurn<'_> {
    type Error = RedisError;

    fn room(&self) -> &Room {
        self.room
    }

    fn breaks(&self) -> u64 {
        self.broker.links.history.breaks()
    }

    async fn read_facts(&self) -> Result<RoomFacts, RedisError> {
        counter!(HISTORY_READS).increment(1);
        read::read_facts(self.broker, &mut self.broker.links.history.clone(), self.room).await
    }

    async fn read_page(&self, place: Offset, events: usize, bytes: usize) -> Result<Resumed, RedisError> {
        counter!(HISTORY_READS).increment(1);
        let mut link = self.broker.links.history.clone();
        let page = read::read_page(self.broker, &mut link, self.room, (Start::After(place), events, bytes)).await?;
        Ok(page.to_history(self.room, Start::After(place), events).into_shared())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hallway_rooms::class::{Classes, Retention};

    use super::*;

    fn rooms() -> [Room; 2] {
        let retention = Retention { max_events: 9, ttl: Duration::from_secs(9) };
        let classes = Classes::built_in(retention, Duration::from_secs(99));
        ["order:a", "order:b"].map(|key| classes.find_room(key).expect("a room"))
    }

    fn ask(reads: &SharedReads, room: &Room) -> oneshot::Receiver<Result<Resumed, Unavailable>> {
        let (to, answer) = oneshot::channel();
        let portion = HistoryRequest { from: Start::Since(0), events: 1, bytes: 1 };
        reads.enqueue(room, |line| line.add_waiter(portion, to));
        answer
    }

    #[tokio::test]
    async fn a_room_stands_in_the_queue_once_and_goes_to_its_end() {
        let reads = SharedReads::new(ReadLimits { at_once: 1, kept_bytes: 0 });
        let [herd, other] = rooms();
        let _many: Vec<_> = (0..100).map(|_| ask(&reads, &herd)).collect();
        let _one = ask(&reads, &other);
        assert_eq!(reads.next().await, herd);
        let batch = reads.begin_read(&herd);
        let _late = ask(&reads, &herd);
        reads.put_back(&herd, batch, Offset::default());
        reads.end_read(&herd);
        assert_eq!([reads.next().await, reads.next().await], [other, herd]);
        assert!(reads.state.lock().order.is_empty());
    }
}
