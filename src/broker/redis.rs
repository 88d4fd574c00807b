//! The Redis broker: publishing is one function call, and a room is a channel and a stream. The probe decides whether
//! Redis can be relied on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{AsyncCommands, RedisError, cmd};
use async_trait::async_trait;
use hallway_rooms::class::Classes;
use hallway_rooms::entry::Entry;
use hallway_rooms::history::{RoomFacts, Start};
use hallway_rooms::key::Room;
use tokio::time::timeout;

use super::{
    Broker, EventRouter, Health, History, HistoryRequest, Outcomes, Placed, Publication, PublishError, ReadError,
    Resumed, Unavailable,
};

mod access;
mod canary;
pub mod function;
mod latest;
mod marks;
mod plain;
mod probe;
mod publish;
mod publish_all;
mod pubsub;
mod read;
mod reads;
mod rights;
mod subscriptions;

use crate::link::{Link, named_client, remedy};
use crate::logs;
use crate::redis::checks::Checks;
use crate::redis::complaints::Complaints;
use crate::redis::keys::RedisKeys;
use crate::redis::links::Links;
use crate::redis::{Dispatcher, RedisSettings, SharedRedis, unavailable};
use canary::Canary;
use function::Function;
pub use reads::ReadLimits;
use reads::SharedReads;
use subscriptions::Subscriptions;

/// How long a read for live delivery waits for its link: longer than a reconnect takes while Redis can be reached.
const HEALING_BACK: Duration = Duration::from_secs(10);

/// The settings of the Redis broker, besides those of Redis itself.
#[derive(Clone, Copy, Debug)]
pub struct BrokerSettings {
    /// Whether an evicting `maxmemory-policy` is accepted.
    pub allow_eviction: bool,
    /// `history.id_window`: how long an event id is recognized.
    pub id_window: Duration,
    /// `limits.event_bytes`: bytes of an event's JSON.
    pub event_bytes: usize,
    /// Bounds of reading histories for clients.
    pub reads: ReadLimits,
}

/// A broker on Redis.
pub struct RedisBroker {
    classes: Arc<Classes>,
    keys: RedisKeys,
    links: Links,
    reads: SharedReads,
    /// The library that publishes and reads, rendered with this node's settings.
    function: Function,
    /// The channels that this node wants.
    subscriptions: Subscriptions,
    checks: Arc<Checks>,
    /// Proof that the pub/sub connection delivers.
    canary: Canary,
    complaints: Complaints,
    /// Bound of a plain message on a room's channel, which no function has checked.
    event_bytes: usize,
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisBroker({})", self.checks.is_up())
    }
}

impl RedisBroker {
    /// Starts a broker and its tasks. Returns at once; until Redis answers the broker is not ready. From here on
    /// pub/sub messages reach the dispatcher.
    ///
    /// # Errors
    /// When the URL is invalid.
    pub fn start(
        settings: &BrokerSettings,
        classes: Arc<Classes>,
        events: impl Into<EventRouter>,
        redis: &SharedRedis,
        mut dispatcher: Dispatcher,
    ) -> Result<Arc<Self>, RedisError> {
        let events = events.into();
        // The connection for pub/sub is no link: it has its own name in Redis' list of clients.
        let of_pubsub =
            RedisSettings { client: named_client(&redis.settings.client, pubsub::NAME)?, ..redis.settings.clone() };
        let keys = redis.keys.clone();
        let function = Function::render(keys.prefix(), &classes, settings.id_window, settings.event_bytes);
        let broker = Arc::new(Self {
            classes,
            links: redis.links.clone(),
            reads: SharedReads::new(settings.reads),
            function,
            subscriptions: Subscriptions::new(of_pubsub.response_timeout),
            checks: redis.checks.clone(),
            canary: Canary::new(keys.node_channel(&of_pubsub.node)),
            complaints: Complaints::default(),
            event_bytes: settings.event_bytes,
            keys,
        });
        // Before the connection: the dispatcher's table is complete when the first message comes.
        pubsub::register(&broker, events.clone(), &mut dispatcher);
        // Behind the registration: the dispatcher cannot be changed once messages come.
        let every = of_pubsub.canary;
        redis.spawn_live(pubsub::run_connection(broker.clone(), of_pubsub, dispatcher, events.clone()));
        redis.spawn_live(probe::run_probe(broker.clone(), *settings, every, events));
        let (tasks, stop) = redis.tasks();
        // Reads for clients are megabytes to parse, so they do not run where live delivery does.
        redis.spawn(reads::serve_reads(broker.clone(), tasks, stop));
        Ok(broker)
    }

    /// Refuses on a cluster node, which rejects events for reasons that are not theirs. A publisher must not take
    /// that for a verdict on the event.
    fn is_no_cluster(&self) -> Result<(), Unavailable> {
        if self.links.commands.is_cluster() { Err(Unavailable(remedy::cluster_remedy().to_owned())) } else { Ok(()) }
    }

    /// The link for publishes and other short requests.
    fn command_link(&self) -> Link {
        self.links.commands.clone()
    }

    /// Whether any history can be read by the link for healing. If so, a room that cannot be read has a failure of its own.
    async fn reads_at_all(&self) -> bool {
        // The keys of no room: whether histories can be read is a question of rights, not of data.
        let [history, ..] = self.keys.trial_keys();
        let mut range = cmd("XRANGE");
        range.arg(history).arg("-").arg("+").arg("COUNT").arg(1);
        range.exec_async(&mut self.links.healing.clone()).await.is_ok()
    }
}

/// As [`unavailable`]; logs a key of this room that holds something else, which no check of Redis shows.
fn room_unreadable(broker: &RedisBroker, room: &Room, error: &RedisError) -> Unavailable {
    if remedy::is_wrong_type(error) && broker.complaints.may_complain() {
        let keys = broker.keys.channel(room);
        tracing::warn!(event = logs::ROOM_KEY_STRANGE, %error, "a key {keys}:history, :last or :latest holds something else; rename or delete it");
    }
    unavailable(error)
}

#[async_trait]
impl Broker for RedisBroker {
    async fn publish(&self, event: Publication) -> Result<Vec<Placed>, PublishError> {
        publish::publish(self, event).await
    }

    async fn publish_all(&self, events: Vec<Publication>) -> Result<Outcomes, Unavailable> {
        publish_all::publish_all(self, &events).await
    }

    async fn subscribe(&self, room: &Room) -> Result<(), Unavailable> {
        self.checks.reachable()?;
        self.subscriptions.subscribe_channel(self.keys.channel(room)).await
    }

    fn unsubscribe(&self, room: &Room) -> bool {
        self.subscriptions.unsubscribe_channel(self.keys.channel(room))
    }

    async fn history(&self, room: &Room, from: Start, limit: usize) -> Result<History, ReadError> {
        let mut link = self.links.healing.clone();
        // Readiness does not depend on this link. Without the wait, a failure of the link would count against the room.
        timeout(HEALING_BACK, link.wait_until_connected()).await.ok();
        match read::read_history(self, &mut link, room, from, limit).await {
            Ok(history) => Ok(history),
            Err(error) => {
                // Asked only after a failure: whether any history can be read by this link.
                let failure = room_unreadable(self, room, &error);
                // Only a fault of the room itself closes its members; an outage is waited for.
                let is_the_room = self.checks.is_up() && self.reads_at_all().await;
                Err(if is_the_room { ReadError::Room(failure) } else { ReadError::Unavailable(failure) })
            }
        }
    }

    async fn read_for_client(&self, room: &Room, portion: HistoryRequest) -> Result<Resumed, Unavailable> {
        self.reads.read_page(room, portion).await
    }

    async fn latest(&self, room: &Room) -> Result<Vec<Entry>, Unavailable> {
        self.reads.read_latest(room).await
    }

    async fn facts(&self, rooms: &[Room]) -> Result<Vec<RoomFacts>, Unavailable> {
        match rooms {
            // A join waits for it, so it goes by the link of short requests, and fails as a read of the history would.
            [room] => {
                let facts = read::read_facts(self, &mut self.command_link(), room).await;
                facts.map(|facts| vec![facts]).map_err(|e| room_unreadable(self, room, &e))
            }
            rooms => read::facts_of(self, &mut self.links.healing.clone(), rooms).await.map_err(|e| unavailable(&e)),
        }
    }

    fn health(&self) -> Health {
        let ready = self.checks.is_up();
        let problem = (!ready).then(|| self.checks.first_problem());
        Health { ready, kind: "redis", problem, recovery: Some(self.checks.watch()) }
    }
}

/// Publishes a message on a channel, and returns the number of subscribers on its server.
async fn publish_message(broker: &RedisBroker, channel: &str, message: &[u8]) -> Result<usize, RedisError> {
    broker.command_link().publish(channel, message).await
}
