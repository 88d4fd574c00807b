//! Builds the parts of a gateway, each from its section of the configuration.

use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::class::Classes;
use hallway_rooms::limits::PAGE_BYTES;
use redis::RedisError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::StartError;
use super::admission::Admission;
use super::descriptors::Descriptors;
use super::event_loops::EventLoops;
use super::live::LiveThread;
use super::policy::build_policy;
use crate::auth::jwks::{Jwks, JwksSettings};
use crate::auth::keys::VerifyingKey;
use crate::auth::token::{TokenRules, Verifier};
use crate::broker::event_channel::{EventReceiver, event_channel_within};
use crate::broker::memory::{MemoryBroker, MemoryLimits};
use crate::broker::redis::{BrokerSettings, ReadLimits, RedisBroker};
use crate::broker::{Broker, EventRouter, LoopBroker};
use crate::clock::now_ms;
use crate::config::{Config, Mode};
use crate::connections::{AddressShares, Connections, SlotLimits};
use crate::doors::socketio::{Expiry, SocketIoSettings};
use crate::essential::run_essential;
use crate::fleet::Fleet;
use crate::fleet::alone::Alone;
use crate::fleet::redis::{FleetSettings, RedisFleet};
use crate::hub::Hubs;
use crate::ingest::{IngestSettings, IngestStatus};
use crate::logs::Hints;
use crate::memory::NodeMemory;
use crate::rate::Rate;
use crate::readiness::Readiness;
use crate::redis::{Dispatcher, RedisSettings, SharedRedis};
use crate::service::{FairQueue, FairQueueLimits, Service, ServiceLimits, ServiceParts, UserQuota};
use crate::sessions::Sessions;

/// Longest wait of a CONNECT for the quota check in Redis, or `redis.response_timeout` if that is shorter. Above any
/// healthy answer, shorter than a person waits.
const SEAT_WAIT: Duration = Duration::from_secs(1);
/// Factor on `limits.commands_per_minute` above which a transport is closed: that is a broken client and no slip.
pub(super) const TOO_OFTEN: u32 = 10;

/// The two ways of a node to the others: one for events, one for all else.
type BrokerAndFleet = (Arc<dyn Broker>, Arc<dyn Fleet>);

/// A mistake in the URL, said with the key that mends it.
fn of_url(error: RedisError) -> String {
    format!("redis.url: {error}")
}

/// The inputs that all parts are built from.
pub(super) struct BuildContext<'a> {
    pub(super) config: &'a Config,
    /// The room classes of `config`.
    pub(super) classes: Arc<Classes>,
    /// Where the parts spawn their tasks.
    pub(super) tasks: TaskTracker,
    /// Ends those tasks.
    pub(super) stop: CancellationToken,
    /// The node's memory budget.
    pub(super) memory: NodeMemory,
    /// The thread of the links to Redis that live delivery needs.
    pub(super) live: &'a LiveThread,
    /// The threads in which clients live.
    pub(super) loops: &'a EventLoops,
}

impl BuildContext<'_> {
    pub(super) fn build_verifier(&self) -> Result<Verifier, StartError> {
        let auth = &self.config.auth;
        let rules = TokenRules {
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
            leeway: auth.leeway,
            max_ttl: auth.max_token_ttl,
            require_iat: auth.require_iat,
        };
        // Secrets, key files and a JWKS may be combined: that is how an operator moves from one to another.
        let mut keys: Vec<VerifyingKey> =
            auth.hs256_secret.iter().map(|secret| VerifyingKey::secret(secret.expose().as_bytes())).collect();
        for path in &auth.public_key_file {
            keys.push(VerifyingKey::from_file(path)?);
        }
        Ok(Verifier::new(rules, keys, self.build_jwks()?))
    }

    fn build_jwks(&self) -> Result<Option<Jwks>, StartError> {
        let auth = &self.config.auth;
        let Some(url) = &auth.jwks_url else { return Ok(None) };
        let settings = JwksSettings {
            url: Url::parse(url)?,
            refresh: auth.jwks_refresh,
            cooldown: auth.jwks_cooldown,
            wait: auth.jwks_wait,
            timeout: auth.jwks_timeout,
            max_stale: auth.jwks_max_stale,
        };
        let started = Jwks::start(&settings, &self.tasks, self.stop.clone());
        Ok(Some(started.map_err(|error| format!("auth.jwks_url: the JWKS {error}"))?))
    }

    pub(super) fn build_service(&self, mode: Mode, verifier: Verifier) -> Result<Service, StartError> {
        let limits = &self.config.limits;
        let (router, channels) = self.event_channels();
        let (broker, fleet) = self.broker_and_fleet(router.clone())?;
        let hubs = self.build_hubs((&broker, &router), fleet.clone(), channels);
        let service = Service::new(ServiceParts {
            hubs,
            broker,
            fleet,
            classes: self.classes.clone(),
            policy: Arc::new(build_policy(self.config, mode, self.stop.clone())?),
            verifier,
            limits: ServiceLimits {
                rooms_per_socket: limits.rooms_per_socket,
                event_bytes: limits.event_bytes.get(),
                // A quarter, because an answer has to fit beside the frames that already wait for its socket.
                page_bytes: PAGE_BYTES.min(limits.queue_bytes.get() / 4),
                burst: limits.queue_frames / 4,
                answer_wait: self.config.redis.answer_wait,
                join_wait: self.config.redis.join_wait,
                locations: Rate::per_second(limits.locations_per_second),
                // A token may be issued by a clock that is ahead and be shown to one that is behind, by the leeway
                // each.
                token_life: self.config.auth.max_token_ttl + self.config.auth.leeway * 2,
                connections_per_user: limits.connections_per_user as usize,
                quota_wait: self.config.redis.response_timeout.min(SEAT_WAIT),
            },
            sessions: Sessions::default(),
            quota: UserQuota::default(),
            turns: FairQueue::new(FairQueueLimits { bytes: limits.read_bytes.get(), per_user: limits.reads_per_user }),
            tasks: self.tasks.clone(),
        });
        let (obeying, stop) = (service.clone(), self.stop.clone());
        self.spawn_essential("control", async move { obeying.follow_control(stop).await });
        // One task for all questions about the quota: it keeps this node's reports on a user in order.
        let (quota_sync, stop) = (service.clone(), self.stop.clone());
        self.spawn_essential("quota sync", async move { quota_sync.sync_quotas(stop).await });
        Ok(service)
    }

    fn spawn_essential(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(run_essential(name, task));
    }

    /// An event channel for each loop. They share the memory that one would have.
    fn event_channels(&self) -> (EventRouter, Vec<EventReceiver>) {
        let loops = self.loops.all().len();
        let (items, bytes) = (self.config.limits.feed_items, self.memory.channel_budget() / loops);
        let (senders, receivers) = (0..loops).map(|_| event_channel_within(items, bytes)).unzip();
        (EventRouter::new(senders), receivers)
    }

    /// Builds the hub of each loop, and starts what they do by themselves.
    fn build_hubs(
        &self,
        (broker, router): (&Arc<dyn Broker>, &EventRouter),
        fleet: Arc<dyn Fleet>,
        channels: Vec<EventReceiver>,
    ) -> Hubs {
        let redis = &self.config.redis;
        // Audits are well within the time for which Redis keeps a room's last offset: a quiet room whose offset had
        // expired would look like one with a gap.
        let audit = redis.audit.min(self.classes.memory() / 4);
        let hubs = Hubs::new(LoopBroker::for_loops(broker, router, channels.len()), fleet, redis.linger, audit);
        for ((hub, channel), event_loop) in hubs.all().iter().zip(channels).zip(self.loops.all()) {
            let (feeder, tidier) = (hub.clone(), hub.clone());
            let (stop, stop_tidier) = (self.stop.clone(), self.stop.clone());
            event_loop.run_dispatch(async move { feeder.run_dispatch(channel, stop).await }, &self.tasks);
            self.spawn_essential("unsubscribe", async move { tidier.unsubscribe_empty_rooms(stop_tidier).await });
        }
        let (member_counts, stop) = (hubs.clone(), self.stop.clone());
        self.spawn_essential("member counts", async move { member_counts.run_member_counts(stop).await });
        hubs
    }

    /// Both on the configured Redis, or both of this node alone where there is none.
    fn broker_and_fleet(&self, events: EventRouter) -> Result<BrokerAndFleet, StartError> {
        let event_bytes = self.config.limits.event_bytes.get();
        let (id_window, revocations) = (self.config.history.id_window, self.config.limits.revocations);
        // No `redis.url` means a single node by choice. A configured Redis that is down never leads here.
        let Some(redis) = self.redis()? else {
            let id_window_ms = u64::try_from(id_window.as_millis()).unwrap_or(u64::MAX);
            let limits = MemoryLimits { id_window_ms, event_bytes };
            let broker = MemoryBroker::new(self.classes.clone(), limits, Arc::new(now_ms), events);
            return Ok((Arc::new(broker), Arc::new(Alone::new(revocations))));
        };
        let settings = BrokerSettings {
            allow_eviction: self.config.redis.allow_eviction,
            id_window,
            event_bytes,
            reads: ReadLimits { at_once: self.config.limits.reads, kept_bytes: self.config.limits.read_bytes.get() },
        };
        // The fleet first: when the broker starts, pub/sub does, and all handlers must be there.
        let mut dispatcher = Dispatcher::new(&redis);
        let of_fleet = FleetSettings { heartbeat: self.config.redis.heartbeat, revocations };
        let fleet = RedisFleet::start(of_fleet, &redis, &mut dispatcher);
        let broker = RedisBroker::start(&settings, self.classes.clone(), events, &redis, dispatcher);
        Ok((broker.map_err(of_url)?, fleet))
    }

    /// The connections to the configured Redis, if there is one.
    fn redis(&self) -> Result<Option<SharedRedis>, StartError> {
        let redis = &self.config.redis;
        let Some(client) = redis.client()? else { return Ok(None) };
        let settings = RedisSettings {
            client,
            prefix: redis.prefix.clone(),
            // A fresh id with each start: counts of a node that crashed expire under its old id.
            node: uuid::Uuid::now_v7().to_string(),
            connect_timeout: redis.connect_timeout,
            response_timeout: redis.response_timeout,
            canary: redis.canary,
            live: self.live.handle(),
        };
        Ok(Some(SharedRedis::start_links(settings, &self.tasks, &self.stop).map_err(of_url)?))
    }

    /// Starts the reader of the ingest stream; none without Redis.
    pub(super) fn build_ingest(&self, service: &Service) -> Result<Option<IngestStatus>, StartError> {
        let (redis, ingest) = (&self.config.redis, &self.config.ingest);
        let Some(client) = redis.client()? else { return Ok(None) };
        let settings = IngestSettings {
            client,
            prefix: redis.prefix.clone(),
            connect_timeout: redis.connect_timeout,
            response_timeout: redis.response_timeout,
            lease: ingest.lease,
            batch: ingest.batch,
            rejected: ingest.rejected,
            event_bytes: self.config.limits.event_bytes.get(),
        };
        let started = IngestStatus::start(&settings, service.clone(), &self.tasks, self.stop.clone());
        Ok(Some(started.map_err(of_url)?))
    }

    pub(super) fn build_expiry(&self) -> Expiry {
        let expiry = Expiry::new(self.config.auth.expiring_lead);
        let (timer, stop) = (expiry.clone(), self.stop.clone());
        self.spawn_essential("expiry", async move { timer.run(stop).await });
        expiry
    }

    pub(super) fn build_connections(&self) -> Connections {
        let limits = &self.config.limits;
        let bearable = Descriptors::of_process(self.config).clients;
        // The lower of the operator's limit and of what the process has descriptors for.
        let all = limits.connections.map(|allowed| allowed.min(bearable));
        Connections::new(SlotLimits { all, per_ip: limits.connections_per_ip })
    }

    pub(super) fn build_admission(&self, readiness: Readiness, connections: Connections) -> Admission {
        let limits = &self.config.limits;
        let handshakes = Arc::new(AddressShares::per_second(limits.handshakes_per_second, limits.handshakes_per_ip));
        Admission { readiness, connections, proxies: self.config.server.trusted_proxies.clone().into(), handshakes }
    }

    pub(super) fn door_settings(&self, hints: Hints) -> SocketIoSettings {
        let (server, socketio, limits) = (&self.config.server, &self.config.socketio, &self.config.limits);
        let mut namespaces = vec![server.namespace.clone()];
        namespaces.extend(server.aliases.iter().cloned());
        SocketIoSettings {
            namespaces,
            ping_interval: socketio.ping_interval,
            ping_timeout: socketio.ping_timeout,
            connect_timeout: socketio.connect_timeout,
            frame_bytes: limits.frame_bytes.get(),
            pending_commands: limits.pending_commands,
            commands: Rate::per_minute(limits.commands_per_minute),
            most_commands: limits.commands_per_minute.saturating_mul(TOO_OFTEN),
            memory: self.memory.clone(),
            hints,
        }
    }
}
