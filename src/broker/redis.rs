//! The Redis broker: publishing is one function call, and a room is a channel and a stream. The probe decides whether
//! Redis can be relied on.
//!
//! Each kind of work has a link of its own ([`link`](crate::link)), because the replies of one connection are
//! ordered: a megabyte of history for a client then delays no publish, no healing and no canary.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{AsyncCommands, Client, RedisError, cmd};
use async_trait::async_trait;
use futures_util::FutureExt;
use hallway_rooms::class::Classes;
use hallway_rooms::entry::Entry;
use hallway_rooms::history::{Facts, From};
use hallway_rooms::key::Room;
use hallway_rooms::revocation::Mark;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::{Control, Noted};
use super::feed::FeedSender;
use super::{
    Ask, Broker, Health, History, Kicked, Outcomes, Placed, Portion, Publication, PublishError, Resumed, Unavailable,
};

mod access;
mod canary;
mod checks;
mod fleet;
pub mod function;
mod keys;
mod kick;
mod latest;
mod links;
mod marks;
mod plain;
mod probe;
mod publish;
mod publish_all;
mod pubsub;
mod read;
mod reads;
mod revoked;
mod rights;
mod subscriptions;
mod users;

use crate::link::{Link, named, remedy};
use crate::logs;
use canary::Canary;
use checks::Checks;
use fleet::Fleet;
use function::Function;
use keys::Keys;
use kick::Answers;
use links::Links;
pub use reads::ReadLimits;
use reads::Reads;
use revoked::Revoked;
use subscriptions::Subscriptions;

/// How long a read for live delivery waits for its link: longer than a reconnect takes while Redis can be reached.
const HEALING_BACK: Duration = Duration::from_secs(10);

/// The settings of the Redis broker.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// The Redis client, with its credentials: never logged.
    pub client: Client,
    /// The prefix of every key.
    pub prefix: String,
    /// This process's name among the nodes: a restart gets another one.
    pub node: String,
    /// Interval of this node's heartbeats.
    pub heartbeat: Duration,
    /// Timeout of a connection attempt.
    pub connect_timeout: Duration,
    /// Timeout of a reply.
    pub response_timeout: Duration,
    /// Interval of the canaries.
    pub canary: Duration,
    /// Whether an evicting `maxmemory-policy` is accepted.
    pub allow_eviction: bool,
    /// `history.id_window`: how long an event id is recognized.
    pub id_window: Duration,
    /// `limits.event_bytes`: bytes of an event's JSON.
    pub event_bytes: usize,
    /// `limits.revocations`: the most revocations kept.
    pub revocations: usize,
    /// Bounds of reading histories for clients.
    pub reads: ReadLimits,
    /// The runtime of live delivery, where pub/sub messages are read; readiness depends on it too.
    pub live: Handle,
}

/// A broker on Redis.
pub struct RedisBroker {
    classes: Arc<Classes>,
    keys: Keys,
    links: Links,
    reads: Reads,
    /// The library that publishes and reads, rendered with this node's settings.
    function: Function,
    /// The channels that this node wants.
    subscriptions: Subscriptions,
    /// Whether Redis can be relied on.
    checks: Checks,
    fleet: Fleet,
    /// The revocation list.
    revoked: Revoked,
    /// Replies of other nodes to kicks.
    answers: Answers,
    /// Proof that the pub/sub connection delivers.
    canary: Canary,
    /// Bound of a plain message on a room's channel, which no function has checked.
    event_bytes: usize,
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisBroker({})", self.checks.is_up())
    }
}

impl RedisBroker {
    /// Starts a broker and its tasks. Returns at once; until Redis answers the broker is not ready.
    ///
    /// # Errors
    /// When the URL is invalid.
    pub fn start(
        settings: &RedisSettings,
        classes: Arc<Classes>,
        feed: FeedSender,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>, RedisError> {
        let (links, keepers) = Links::new(settings)?;
        let client = named(&settings.client, pubsub::NAME)?;
        let keys = Keys::new(&settings.prefix);
        let function = Function::render(&settings.prefix, &classes, settings.id_window, settings.event_bytes);
        let subscriptions = Subscriptions::new(settings.response_timeout);
        let canary = Canary::new(keys.canary(&settings.node));
        let broker = Arc::new(Self {
            classes,
            keys,
            links,
            reads: Reads::new(settings.reads),
            function,
            subscriptions,
            checks: Checks::new(),
            fleet: Fleet::new(settings.node.clone(), settings.heartbeat),
            revoked: Revoked::new(settings.revocations),
            answers: Answers::default(),
            canary,
            event_bytes: settings.event_bytes,
        });
        // On the runtime of live delivery: a busy runtime of commands must not make the node look dead.
        let live = |task| tasks.spawn_on(stop.clone().run_until_cancelled_owned(task), &settings.live);
        keepers.live.into_iter().for_each(|keeper| _ = live(keeper.run().boxed()));
        live(fleet::run(broker.clone()).boxed());
        live(revoked::run(broker.clone(), settings.canary).boxed());
        live(pubsub::run(broker.clone(), client, settings.clone(), feed.clone()).boxed());
        live(probe::run(broker.clone(), settings.clone(), feed).boxed());
        // Pages of histories are megabytes to parse, so they are read on the other runtime.
        tasks.spawn(stop.clone().run_until_cancelled_owned(keepers.history.run()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(reads::run(broker.clone(), tasks.clone(), stop.clone())));
        Ok(broker)
    }

    /// Refuses at once while Redis cannot be reached, instead of waiting for a reply that may not come.
    fn reachable(&self) -> Result<(), Unavailable> {
        if self.checks.is_up() { Ok(()) } else { Err(Unavailable(self.checks.problem())) }
    }

    /// Refuses on a cluster node, which rejects events for reasons that are not theirs. A publisher must not take
    /// that for a verdict on the event.
    fn is_no_cluster(&self) -> Result<(), Unavailable> {
        if self.links.commands.is_cluster() { Err(Unavailable(remedy::cluster().to_owned())) } else { Ok(()) }
    }

    /// The link for publishing and other short commands.
    fn connection(&self) -> Link {
        self.links.commands.clone()
    }
}

fn unavailable(error: &RedisError) -> Unavailable {
    Unavailable(error.to_string())
}

/// The same for a read of one room. A wrong type in the room's keys is logged, since no check of Redis would show it.
fn unreadable(broker: &RedisBroker, room: &Room, error: &RedisError) -> Unavailable {
    if remedy::is_wrong_type(error) && broker.subscriptions.may_complain() {
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
        self.reachable()?;
        self.subscriptions.add(self.keys.channel(room)).await
    }

    fn unsubscribe(&self, room: &Room) -> bool {
        self.subscriptions.remove(self.keys.channel(room))
    }

    async fn history(&self, room: &Room, from: From, limit: usize) -> Result<History, Unavailable> {
        let mut link = self.links.healing.clone();
        // Readiness does not depend on this link. Its reconnect is not a failure of the room, which would be given up
        // for it.
        timeout(HEALING_BACK, link.connected()).await.ok();
        read::history(self, &mut link, room, from, limit).await.map_err(|e| unreadable(self, room, &e))
    }

    async fn resume(&self, room: &Room, portion: Portion) -> Result<Resumed, Unavailable> {
        self.reads.page(room, portion).await
    }

    async fn latest(&self, room: &Room) -> Result<Vec<Entry>, Unavailable> {
        self.reads.latest(room).await
    }

    async fn facts(&self, room: &Room) -> Result<Facts, Unavailable> {
        read::facts(self, &mut self.connection(), room).await.map_err(|e| unreadable(self, room, &e))
    }

    async fn facts_of(&self, rooms: &[Room]) -> Result<Vec<Facts>, Unavailable> {
        read::facts_of(self, &mut self.links.healing.clone(), rooms).await.map_err(|e| unavailable(&e))
    }

    async fn tell_sizes(&self, sizes: &[(Room, usize)]) -> Result<(), Unavailable> {
        self.reachable()?;
        fleet::tell_sizes(self, sizes).await.map_err(|e| unavailable(&e))
    }

    fn forgotten(&self) -> u64 {
        self.fleet.forgotten()
    }

    async fn others(&self, room: &Room) -> Result<usize, Unavailable> {
        self.reachable()?;
        fleet::others(self, room).await.map_err(|e| unavailable(&e))
    }

    fn control(&self) -> &Control {
        self.revoked.control()
    }

    async fn revoke(&self, noted: &Noted) -> Result<(), Unavailable> {
        revoked::revoke(self, noted).await
    }

    async fn kick(&self, user: Mark) -> Result<Kicked, Unavailable> {
        self.reachable()?;
        kick::ask(self, user).await.map_err(|e| unavailable(&e))
    }

    async fn answer(&self, ticket: &str, sockets: usize) -> Result<(), Unavailable> {
        kick::answer(self, ticket, sockets).await.map_err(|e| unavailable(&e))
    }

    async fn seat(&self, asks: &[Ask], cap: usize) -> Result<Vec<Option<usize>>, Unavailable> {
        self.reachable()?;
        users::seat(self, asks, cap).await.map_err(|e| unavailable(&e))
    }

    async fn resign(&self) -> Result<(), Unavailable> {
        self.reachable()?;
        fleet::resign(self).await.map_err(|e| unavailable(&e))
    }

    async fn reads(&self) -> bool {
        // The keys of no room: whether histories can be read is a question of rights, not of data.
        let [history, ..] = self.keys.trial();
        let mut range = cmd("XRANGE");
        range.arg(history).arg("-").arg("+").arg("COUNT").arg(1);
        range.exec_async(&mut self.links.healing.clone()).await.is_ok()
    }

    fn health(&self) -> Health {
        let ready = self.checks.is_up();
        Health { ready, kind: "redis", problem: (!ready).then(|| self.checks.problem()) }
    }

    async fn reachable(&self) {
        self.checks.is_back().await;
    }
}

/// Publishes a message on a channel, and returns the number of subscribers on its server.
async fn tell(broker: &RedisBroker, channel: &str, message: &[u8]) -> Result<usize, RedisError> {
    broker.connection().publish(channel, message).await
}
