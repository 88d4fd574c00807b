//! The embedded broker: the same promises within one process, for a laptop and for tests. Its data begin with the
//! process.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hallway_rooms::class::{Classes, Delivery};
use hallway_rooms::draft::Draft;
use hallway_rooms::entry::{ChainLink, Entry, Retained, RoomPlace};
use hallway_rooms::event::EventId;
use hallway_rooms::history::{RoomFacts, Start, leeway_ms};
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use parking_lot::Mutex;

use latest::LatestByKey;

use super::{Broker, EventRouter, Health, History, Placed, Publication, PublishError, ReadError, Unavailable};

mod latest;

/// Publishes between two sweeps for expired rooms: the cost of a sweep is spread over that many.
const SWEEP_EVERY: u64 = 1024;

/// Milliseconds since the Unix epoch; a parameter, so that tests can advance it.
pub type MillisClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The bounds of the embedded broker.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimits {
    /// `history.id_window` in milliseconds: how long an event id is recognized.
    pub id_window_ms: u64,
    /// `limits.event_bytes`: bytes of an event's JSON.
    pub event_bytes: usize,
}

/// A broker in memory.
pub struct MemoryBroker {
    classes: Arc<Classes>,
    limits: MemoryLimits,
    clock: MillisClock,
    /// When its data began: no history reaches further back.
    birth_ms: u64,
    /// The way to the hubs.
    events: EventRouter,
    state: Mutex<MemoryState>,
}

#[derive(Default)]
struct MemoryState {
    /// Rooms with data that have not expired.
    rooms: HashMap<Room, RoomStream>,
    /// Rooms whose events are passed to the hub.
    subscribed: HashSet<Room>,
    /// Counts up to the next sweep.
    publishes: u64,
}

#[derive(Default)]
struct RoomStream {
    /// The history, oldest first.
    entries: VecDeque<(Offset, Entry)>,
    /// When the history is forgotten as a whole: `ttl` behind the last event, as Redis expires a key.
    entries_expire_ms: u64,
    /// The last offset, which outlives the history so that its end is known.
    last: Option<Offset>,
    /// When the last offset is forgotten.
    last_expires_ms: u64,
    /// Offset by event id, and until when the id is recognized.
    ids: HashMap<EventId, (Offset, u64)>,
    /// The ids in the order of their end, so that the expired ones are found without a scan.
    id_order: VecDeque<EventId>,
    /// The last `latest` event of each key.
    latest: LatestByKey,
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryBroker({} rooms)", self.state.lock().rooms.len())
    }
}

impl MemoryBroker {
    /// An empty broker that begins at this moment.
    #[must_use]
    pub fn new(
        classes: Arc<Classes>,
        limits: MemoryLimits,
        clock: MillisClock,
        events: impl Into<EventRouter>,
    ) -> Self {
        let birth_ms = clock();
        Self { classes, limits, clock, birth_ms, events: events.into(), state: Mutex::default() }
    }

    fn memory_ms(&self) -> u64 {
        millis(self.classes.memory())
    }

    fn read_facts(&self, state: &mut MemoryState, room: &Room) -> RoomFacts {
        let now_ms = (self.clock)();
        let last = state.rooms.get_mut(room).and_then(|stream| {
            stream.expire(now_ms);
            stream.last
        });
        RoomFacts {
            now_ms,
            birth_ms: Some(self.birth_ms),
            last,
            memory: self.classes.memory(),
            memory_since_ms: self.birth_ms,
            twice: None,
        }
    }

    fn delivery(&self, event: &Publication, draft: &Draft<'_>, room: &Room) -> Delivery {
        event.delivery.unwrap_or_else(|| self.classes.delivery_of(&draft.kind, room))
    }

    /// Assigns the event an offset in one room, or finds the one that it has.
    fn assign_offset(
        &self,
        state: &mut MemoryState,
        event: &Publication,
        room: &Room,
        now_ms: u64,
    ) -> (Placed, Option<Retained>) {
        let stream = state.rooms.entry(room.clone()).or_default();
        stream.expire(now_ms);
        stream.forget_ids(now_ms);
        if let Some((offset, _)) = stream.ids.get(&event.id) {
            return (Placed { room: room.clone(), offset: Some(*offset), duplicate: true }, None);
        }
        let offset = Offset::next(stream.last, now_ms);
        // A room without a last offset: whatever preceded it is older than the memory, so the first link points
        // there.
        let horizon = Offset::first_of_ms(now_ms.saturating_sub(self.memory_ms()));
        let link = ChainLink { offset, prev: stream.last.unwrap_or(horizon) };
        stream.ids.insert(event.id.clone(), (offset, now_ms + self.limits.id_window_ms));
        stream.id_order.push_back(event.id.clone());
        stream.last = Some(offset);
        // By the later of the two clocks: an offset may be ahead of a clock that was set back.
        stream.last_expires_ms = now_ms.max(offset.ms) + self.memory_ms() + leeway_ms(self.classes.memory());
        (Placed { room: room.clone(), offset: Some(offset), duplicate: false }, Some(Retained::Stored(link)))
    }

    /// Assigns the event a stamp in one room, unless it is the last of its key there already.
    fn assign_stamp(
        state: &mut MemoryState,
        id: &EventId,
        room: &Room,
        key: &str,
        now_ms: u64,
    ) -> (Placed, Option<Retained>) {
        let stream = state.rooms.entry(room.clone()).or_default();
        let stamp = stream.latest.next_stamp(key, id, now_ms);
        let placed = Placed { room: room.clone(), offset: None, duplicate: stamp.is_none() };
        (placed, stamp.map(Retained::Newest))
    }

    fn store_entry(&self, state: &mut MemoryState, entry: &Entry, now_ms: u64) {
        for place in &entry.places {
            if let (Some(stamp), Some(stream)) = (place.stamp(), state.rooms.get_mut(&place.room)) {
                stream.latest.keep_latest(stamp, entry.clone(), self.classes.max_latest());
            }
            // A place without a link is not part of the history.
            let (Some(link), Some(stream)) = (place.link(), state.rooms.get_mut(&place.room)) else { continue };
            let retention = self.classes.class_of(&place.room).retention;
            stream.entries.push_back((link.offset, entry.clone()));
            while stream.entries.len() as u64 > retention.max_events {
                stream.entries.pop_front();
            }
            stream.entries_expire_ms = now_ms + millis(retention.ttl);
        }
    }

    fn drop_idle_rooms(&self, state: &mut MemoryState, now_ms: u64) {
        state.publishes += 1;
        // Expiry is exact on each access; the sweep only frees rooms that are not accessed any more.
        if state.publishes.is_multiple_of(SWEEP_EVERY) {
            state.rooms.retain(|room, stream| {
                stream.expire(now_ms);
                stream.forget_ids(now_ms);
                stream.latest.expire(now_ms.saturating_sub(millis(self.classes.class_of(room).retention.ttl)));
                stream.last.is_some() || !stream.latest.is_empty()
            });
        }
    }
}

impl RoomStream {
    fn expire(&mut self, now_ms: u64) {
        // Clears the history first; its last offset says for longer that there was one.
        if now_ms >= self.entries_expire_ms {
            self.entries.clear();
        }
        if now_ms > self.last_expires_ms {
            self.last = None;
        }
    }

    fn forget_ids(&mut self, now_ms: u64) {
        while let Some(oldest) = self.id_order.front() {
            // The ids are in the order of their end, so the rest is valid too.
            if self.ids.get(oldest).is_some_and(|(_, until)| *until > now_ms) {
                break;
            }
            if let Some(oldest) = self.id_order.pop_front() {
                self.ids.remove(&oldest);
            }
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn publish(&self, event: Publication) -> Result<Vec<Placed>, PublishError> {
        if event.text.len() > self.limits.event_bytes {
            let message = format!("the event has {} bytes, more than limits.event_bytes", event.text.len());
            return Err(PublishError::TooLarge(message));
        }
        let draft = Draft::parse(&event.text).map_err(|e| PublishError::Invalid(e.to_its_publisher()))?;
        // One lock for all rooms: the event gets its offsets and is offered in the same order everywhere.
        let mut state = self.state.lock();
        let now_ms = (self.clock)();
        let (mut placed, mut places, mut earlier) = (Vec::new(), Vec::new(), Vec::new());
        let key = self.classes.latest_key(&draft);
        for room in &event.rooms {
            let (at, keep) = match self.delivery(&event, &draft, room) {
                Delivery::Durable => self.assign_offset(&mut state, &event, room, now_ms),
                Delivery::Latest => Self::assign_stamp(&mut state, &event.id, room, &key, now_ms),
                Delivery::Ephemeral => {
                    (Placed { room: room.clone(), offset: None, duplicate: false }, Some(Retained::Nothing))
                }
            };
            match keep {
                Some(keep) => places.push(RoomPlace { room: room.clone(), keep }),
                // A known id is stored no second time, but its offset is passed on: members recognize the copy by it.
                None => earlier.extend(at.offset.map(|offset| (room.clone(), offset))),
            }
            placed.push(at);
        }
        // A publisher's clock may be ahead, but no event is from the future.
        let timestamp = draft.timestamp.unwrap_or(now_ms).min(now_ms);
        let received = places.iter().any(|p| state.subscribed.contains(&p.room));
        let Publication { text, id, requires_ack, .. } = event;
        let entry = Entry { id, timestamp, requires_ack, places, earlier, text };
        self.store_entry(&mut state, &entry, now_ms);
        self.drop_idle_rooms(&mut state, now_ms);
        // Behind the store, so that a hub which reads at once finds the event.
        if received {
            self.events.route_entry(entry);
        }
        Ok(placed)
    }

    async fn subscribe(&self, room: &Room) -> Result<(), Unavailable> {
        self.state.lock().subscribed.insert(room.clone());
        Ok(())
    }

    fn unsubscribe(&self, room: &Room) -> bool {
        self.state.lock().subscribed.remove(room);
        true
    }

    async fn history(&self, room: &Room, from: Start, limit: usize) -> Result<History, ReadError> {
        let mut state = self.state.lock();
        let facts = self.read_facts(&mut state, room);
        let stream = state.rooms.get(room);
        let stored = stream.into_iter().flat_map(|s| &s.entries);
        let mut wanted: Vec<Entry> =
            // One more than asked for tells whether more follow.
            stored.filter(|(o, _)| from.includes_offset(*o)).take(limit + 1).map(|(_, e)| e.clone()).collect();
        let has_more = wanted.len() > limit;
        wanted.truncate(limit);
        let links: Vec<ChainLink> = wanted.iter().filter_map(|entry| entry.link_in(room)).collect();
        Ok(History { facts, complete: facts.complete(from, &links, has_more), entries: wanted, has_more })
    }

    async fn latest(&self, room: &Room) -> Result<Vec<Entry>, Unavailable> {
        let state = self.state.lock();
        let oldest = (self.clock)().saturating_sub(millis(self.classes.class_of(room).retention.ttl));
        Ok(state.rooms.get(room).map(|stream| stream.latest.newer_than(oldest)).unwrap_or_default())
    }

    async fn facts(&self, rooms: &[Room]) -> Result<Vec<RoomFacts>, Unavailable> {
        let mut state = self.state.lock();
        Ok(rooms.iter().map(|room| self.read_facts(&mut state, room)).collect())
    }

    fn health(&self) -> Health {
        Health { ready: true, kind: "embedded", problem: None, recovery: None }
    }
}
