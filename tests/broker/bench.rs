//! The brokers on the bench: each with its feed, its way to let time go by, and few enough words to say what is tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hallway::broker::event_channel::{EventReceiver, event_channel};
use hallway::broker::memory::{MemoryBroker, MemoryLimits};
use hallway::broker::redis::{BrokerSettings, ReadLimits, RedisBroker};
use hallway::broker::{Broker, ChannelEvent, History, Placed, Publication, PublishError};
use hallway::fleet::Fleet;
use hallway::fleet::alone::Alone;
use hallway::fleet::redis::{FleetSettings, RedisFleet};
use hallway::redis::{Dispatcher, RedisSettings, SharedRedis as Connections};
use hallway_rooms::class::{Classes, Delivery, Retention};
use hallway_rooms::entry::Entry;
use hallway_rooms::history::{RoomFacts, Start};
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::harness::redis::Redis;
use crate::harness::{PATIENCE, eventually};

pub(crate) const MAX_EVENTS: u64 = 500;
/// Of rooms `order:…`.
pub(crate) const FEW_EVENTS: u64 = 5;
pub(crate) const EVENT_BYTES: usize = 4096;
pub(crate) const MAX_LATEST: usize = 20;
pub(crate) const REVOCATIONS: usize = 3;
const FEED_ITEMS: usize = 1000;

/// How long things are remembered; Redis has to live through it.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) ttl: Duration,
    pub(crate) memory: Duration,
    pub(crate) id_window: Duration,
}

pub(crate) const LONG: Times =
    Times { ttl: Duration::from_hours(1), memory: Duration::from_hours(7 * 24), id_window: Duration::from_mins(10) };
pub(crate) const SHORT: Times =
    Times { ttl: Duration::from_millis(500), memory: Duration::from_secs(4), id_window: Duration::from_secs(2) };

/// Which broker.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Memory,
    Redis,
}

enum Behind {
    Memory { clock: Arc<AtomicU64> },
    Redis { redis: Redis, stop: CancellationToken },
}

/// A broker and its fleet to be tried.
pub(crate) struct Bench {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) fleet: Arc<dyn Fleet>,
    pub(crate) feed: EventReceiver,
    pub(crate) times: Times,
    classes: Arc<Classes>,
    behind: Behind,
}

fn classes(times: Times) -> Arc<Classes> {
    let retention = Retention { max_events: MAX_EVENTS, ttl: times.ttl };
    let mut classes = Classes::built_in(retention, times.memory);
    let few = Retention { max_events: FEW_EVENTS, ttl: times.ttl };
    classes.configure("order:{orderId}", few, |class| class.retention = few).expect("a form");
    let none = Retention { max_events: 0, ttl: times.ttl };
    classes.configure("zone:{zoneId}", none, |class| class.retention = none).expect("a form");
    classes.keep_latest(MAX_LATEST);
    classes.into()
}

/// A node's broker and fleet, and the feed of the broker.
type Node = (Arc<dyn Broker>, Arc<dyn Fleet>, EventReceiver);

/// Starts a node's part of what several share on a Redis.
fn node(redis: &Redis, name: &str, (times, items): (Times, usize), stop: &CancellationToken) -> Node {
    let settings = RedisSettings {
        client: redis::Client::open(redis.url()).expect("a url"),
        prefix: "hallway".to_owned(),
        node: name.to_owned(),
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(5),
        canary: Duration::from_secs(2),
        live: tokio::runtime::Handle::current(),
    };
    let of_broker = BrokerSettings {
        allow_eviction: false,
        id_window: times.id_window,
        event_bytes: EVENT_BYTES,
        reads: ReadLimits { at_once: 16, kept_bytes: 1024 * 1024 },
    };
    let of_fleet = FleetSettings { heartbeat: Duration::from_secs(2), revocations: REVOCATIONS };
    let (to, from) = event_channel(items);
    let connections = Connections::start_links(settings, &TaskTracker::new(), stop).expect("a valid url");
    let mut dispatcher = Dispatcher::new(&connections);
    let fleet = RedisFleet::start(of_fleet, &connections, &mut dispatcher);
    let broker = RedisBroker::start(&of_broker, classes(times), to, &connections, dispatcher);
    (broker.expect("a valid url"), fleet, from)
}

impl Bench {
    pub(crate) async fn new(kind: Kind, times: Times) -> Self {
        Self::with_feed(kind, times, FEED_ITEMS).await
    }

    pub(crate) async fn with_feed(kind: Kind, times: Times, items: usize) -> Self {
        let ((broker, fleet, from), behind): (Node, _) = match kind {
            Kind::Memory => {
                let (to, from) = event_channel(items);
                let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
                let id_window_ms = u64::try_from(times.id_window.as_millis()).expect("not that long");
                let limits = MemoryLimits { id_window_ms, event_bytes: EVENT_BYTES };
                let time = clock.clone();
                let now = Arc::new(move || time.load(Ordering::Relaxed));
                let broker = MemoryBroker::new(classes(times), limits, now, to);
                ((Arc::new(broker), Arc::new(Alone::new(REVOCATIONS)), from), Behind::Memory { clock })
            }
            Kind::Redis => {
                let (redis, stop) = (Redis::start().await, CancellationToken::new());
                (node(&redis, "a-node", (times, items), &stop), Behind::Redis { redis, stop })
            }
        };
        eventually("the broker is ready", || async { broker.health().ready.then_some(()) }).await;
        let mut bench = Self { broker, fleet, feed: from, times, classes: classes(times), behind };
        if let Kind::Redis = kind {
            assert!(matches!(bench.next().await, ChannelEvent::Restored), "a new connection says that it is one");
        }
        bench
    }

    /// Another node's part of the fleet, where several nodes can share what is behind it; ready when this returns.
    pub(crate) async fn another(&self, name: &str) -> Arc<dyn Fleet> {
        match &self.behind {
            Behind::Memory { .. } => self.fleet.clone(),
            Behind::Redis { redis, stop } => {
                let (broker, fleet, _) = node(redis, name, (self.times, FEED_ITEMS), stop);
                eventually("the broker is ready", || async { broker.health().ready.then_some(()) }).await;
                fleet
            }
        }
    }

    pub(crate) fn room(&self, key: &str) -> Room {
        self.classes.find_room(key).expect("a room")
    }

    pub(crate) fn publication(&self, id: &str, rooms: &[&str], text: &str) -> Publication {
        let rooms = rooms.iter().map(|key| self.room(key)).collect();
        let id = id.parse().expect("an id");
        Publication { rooms, text: text.as_bytes().to_vec(), id, requires_ack: false, delivery: None }
    }

    pub(crate) async fn try_publish(&self, id: &str, rooms: &[&str], text: &str) -> Result<Vec<Placed>, PublishError> {
        self.broker.publish(self.publication(id, rooms, text)).await
    }

    /// Publishes a plain event.
    pub(crate) async fn publish(&self, id: &str, rooms: &[&str]) -> Vec<Placed> {
        self.try_publish(id, rooms, r#"{"type":"a.thing","payload":{"n":1}}"#).await.expect("it is published")
    }

    /// Publishes so many plain events to one room and returns their offsets.
    pub(crate) async fn publish_many(&self, count: usize, room: &str) -> Vec<Offset> {
        let mut offsets = Vec::new();
        for i in 0..count {
            offsets.push(self.publish(&format!("many-{i}"), &[room]).await[0].offset.expect("it is stored"));
        }
        offsets
    }

    /// Publishes an event that is to be kept nowhere.
    pub(crate) async fn publish_ephemeral(&self, id: &str, rooms: &[&str]) -> Vec<Placed> {
        let event = self.publication(id, rooms, r#"{"type":"a.thing","payload":{"n":1}}"#);
        let event = Publication { delivery: Some(Delivery::Ephemeral), ..event };
        self.broker.publish(event).await.expect("it is published")
    }

    /// Publishes an agent's location, of which the newest is kept.
    pub(crate) async fn locate(&self, id: &str, rooms: &[&str], agent: &str) -> Vec<Placed> {
        let text = format!(r#"{{"type":"agent.location_updated","payload":{{"agentId":"{agent}"}}}}"#);
        self.try_publish(id, rooms, &text).await.expect("it is published")
    }

    /// The ids of what is current.
    pub(crate) async fn latest(&self, room: &str) -> Vec<String> {
        let latest = self.broker.latest(&self.room(room)).await.expect("the broker is up");
        latest.iter().map(|entry| entry.id.to_string()).collect()
    }

    /// Lets the broker's clock tick.
    pub(crate) async fn tick(&self, room: &str) {
        let before = self.facts(room).await.now_ms;
        let later = async || self.facts(room).await.now_ms > before;
        self.live_through(Duration::from_millis(1), "the clock ticks", later).await;
    }

    /// Lets time go by until what was current is too old, while another key of the room is renewed.
    pub(crate) async fn let_the_newest_grow_old(&self, room: &str, other: &str) {
        let gone = async || {
            self.locate("again", &[room], other).await;
            !self.latest(room).await.contains(&"old".to_owned())
        };
        self.live_through(self.times.ttl, "what is current grows old", gone).await;
    }

    pub(crate) async fn subscribe(&self, room: &str) {
        self.broker.subscribe(&self.room(room)).await.expect("the broker is up");
    }

    pub(crate) async fn history(&self, room: &str, from: Start, limit: usize) -> History {
        self.broker.history(&self.room(room), from, limit).await.expect("the broker is up")
    }

    pub(crate) async fn facts(&self, room: &str) -> RoomFacts {
        self.broker.facts_of(&self.room(room)).await.expect("the broker is up")
    }

    /// The verdict on a resume.
    pub(crate) async fn complete(&self, room: &str, from: Start) -> bool {
        self.history(room, from, 1000).await.complete
    }

    /// The whole history's offsets.
    pub(crate) async fn offsets(&self, room: &str) -> Vec<Offset> {
        let history = self.history(room, Start::Since(0), 100_000).await;
        history.entries.iter().map(|entry| entry.link_in(&self.room(room)).expect("it is of the room").offset).collect()
    }

    /// The next item of the feed.
    pub(crate) async fn next(&mut self) -> ChannelEvent {
        timeout(PATIENCE, self.feed.recv()).await.expect("in time").expect("the broker lives")
    }

    /// The next item of the feed, which must be an entry.
    pub(crate) async fn entry(&mut self) -> Entry {
        match self.next().await {
            ChannelEvent::Entry(entry) => Arc::unwrap_or_clone(entry),
            other @ (ChannelEvent::Missed(_) | ChannelEvent::Restored) => panic!("no entry: {other:?}"),
        }
    }

    /// Lets time go by until `over`; a millisecond at least.
    async fn live_through(&self, time: Duration, what: &str, over: impl AsyncFn() -> bool) {
        match &self.behind {
            Behind::Memory { clock } => {
                self.pass(clock, time);
                assert!(over().await, "{what}");
            }
            Behind::Redis { .. } => eventually(what, || async { over().await.then_some(()) }).await,
        }
    }

    fn pass(&self, clock: &AtomicU64, time: Duration) {
        clock.fetch_add(u64::try_from(time.as_millis()).expect("not that long") + 1, Ordering::Relaxed);
    }

    pub(crate) async fn let_the_stream_expire(&self, room: &str) {
        let gone = async || self.offsets(room).await.is_empty();
        self.live_through(self.times.ttl, "the stream expires", gone).await;
    }

    pub(crate) async fn let_the_last_offset_be_forgotten(&self, room: &str) {
        let gone = async || self.facts(room).await.last.is_none();
        self.live_through(2 * self.times.memory, "the last offset is forgotten", gone).await;
    }

    pub(crate) async fn let_the_id_be_forgotten(&self, room: &str, id: &str) {
        let key = format!("hallway:{{{room}}}:id:{id}");
        let gone = async || match &self.behind {
            Behind::Memory { .. } => true,
            Behind::Redis { redis, .. } => {
                let mut exists = redis::cmd("EXISTS");
                exists.arg(&key).query_async::<i64>(&mut redis.client().await).await.expect("redis is up") == 0
            }
        };
        self.live_through(self.times.id_window, "the id is forgotten", gone).await;
    }

    /// Makes the broker's clock lag behind a room by so much: from now on its last offset lies ahead.
    pub(crate) async fn set_the_clock_back(&self, room: &str, by: Duration) -> Offset {
        let by_ms = u64::try_from(by.as_millis()).expect("not that long");
        match &self.behind {
            Behind::Memory { clock } => {
                clock.fetch_add(by_ms, Ordering::Relaxed);
                let placed = self.publish("ahead", &[room]).await;
                clock.fetch_sub(by_ms, Ordering::Relaxed);
                placed[0].offset.expect("it is stored")
            }
            Behind::Redis { redis, .. } => {
                let ahead = Offset { ms: self.facts(room).await.now_ms + by_ms, n: 4 };
                let mut set = redis::cmd("SET");
                set.arg(format!("hallway:{{{room}}}:last")).arg(ahead.to_string());
                set.query_async::<()>(&mut redis.client().await).await.expect("redis is up");
                ahead
            }
        }
    }

    /// Makes a room's history something that is no stream, and takes the function out of Redis.
    pub(crate) async fn spoil(&self, room: &str) {
        let Behind::Redis { redis, .. } = &self.behind else { panic!("only Redis can be spoilt") };
        let mut spoil = redis::pipe();
        spoil.cmd("SET").arg(format!("hallway:{{{room}}}:history")).arg("no stream").cmd("FUNCTION").arg("FLUSH");
        spoil.exec_async(&mut redis.client().await).await.expect("redis is up");
    }

    /// A command of its own to Redis.
    pub(crate) async fn redis(&self, words: &[&str]) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        self.ask::<redis::Value>(&words).await;
    }

    /// What Redis answers to a command.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, words: &[String]) -> T {
        let Behind::Redis { redis, .. } = &self.behind else { panic!("only Redis can be asked") };
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query_async(&mut redis.client().await).await.expect("redis answers")
    }

    /// Lets idle time go by; only the memory broker's clock can be asked for it.
    pub(crate) fn idle(&self, time: Duration) {
        let Behind::Memory { clock } = &self.behind else { panic!("hours cannot be lived through") };
        self.pass(clock, time);
    }

    /// How much longer a room's last offset is remembered, where that can be asked.
    pub(crate) async fn last_is_kept_for(&self, room: &str) -> Option<Duration> {
        let Behind::Redis { redis, .. } = &self.behind else { return None };
        let mut left = redis::cmd("PTTL");
        left.arg(format!("hallway:{{{room}}}:last"));
        let left: u64 = left.query_async(&mut redis.client().await).await.expect("it expires");
        Some(Duration::from_millis(left))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Behind::Redis { stop, .. } = &self.behind {
            stop.cancel();
        }
    }
}
