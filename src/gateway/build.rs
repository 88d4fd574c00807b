//! The parts of a gateway, each made from its section of the configuration.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hallway_rooms::class::Classes;
use hallway_rooms::limits::PAGE_BYTES;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use super::entrance::{Entrance, Handshakes};
use crate::api::{ApiKey, ApiState, v1};
use crate::auth::policy::{DefaultRules, Open, Policy};
use crate::auth::token::{KeyError, TokenRules, Verifier};
use crate::broker::Broker;
use crate::broker::feed::{FeedSender, feed};
use crate::broker::memory::{MemoryBroker, MemoryLimits};
use crate::broker::redis::{RedisBroker, RedisSettings};
use crate::clock::now_ms;
use crate::config::{Config, Mode};
use crate::connections::{Caps, Connections};
use crate::doors::socketio::{Expiry, SocketIoSettings};
use crate::hub::Hub;
use crate::ingest::{Ingest, IngestSettings};
use crate::rate::Rate;
use crate::readiness::Readiness;
use crate::service::{Parts, Seats, Service, ServiceLimits};
use crate::sessions::Sessions;

/// A CONNECT waits so long for Redis at most, and no longer than for any other answer. Above any healthy answer, below
/// the patience of a person.
const SEAT_WAIT: Duration = Duration::from_secs(1);
/// So many times `limits.commands_per_minute` in a minute are no slip any more.
const TOO_OFTEN: u32 = 10;

/// What is shared while building.
pub(super) struct Building<'a> {
    pub(super) config: &'a Config,
    pub(super) classes: Arc<Classes>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Building<'_> {
    pub(super) fn verifier(&self) -> Result<Verifier, KeyError> {
        let auth = &self.config.auth;
        let mut verifier = Verifier::new(TokenRules {
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
            leeway_s: auth.leeway.as_secs(),
            max_ttl_s: auth.max_token_ttl.as_secs(),
        });
        if let Some(secret) = &auth.hs256_secret {
            verifier.add_secret(secret.expose().as_bytes());
        }
        for path in &auth.public_key_file {
            verifier.add_public_key(path)?;
        }
        Ok(verifier)
    }

    pub(super) fn service(&self, mode: Mode) -> Result<Service, StartError> {
        let limits = &self.config.limits;
        let (to_hub, from_broker) = feed(limits.feed_items);
        let broker = self.broker(to_hub)?;
        let hub = Hub::new(broker.clone(), self.config.redis.linger, self.classes.memory());
        let (feeder, tidier, stop) = (hub.clone(), hub.clone(), self.stop.clone());
        self.tasks.spawn(async move { feeder.run(from_broker, stop).await });
        let stop = self.stop.clone();
        self.tasks.spawn(async move { tidier.tidy(stop).await });
        let (census, stop) = (hub.clone(), self.stop.clone());
        self.tasks.spawn(async move { census.take_census(stop).await });
        let service = Service::new(Parts {
            hub,
            broker,
            classes: self.classes.clone(),
            policy: self.policy(mode),
            limits: ServiceLimits {
                rooms_per_socket: limits.rooms_per_socket,
                event_bytes: limits.event_bytes.get(),
                // An answer must find room beside what else waits for its socket.
                page_bytes: PAGE_BYTES.min(limits.queue_bytes.get() / 4),
                join_wait: self.config.redis.join_wait,
                locations: Rate::per_second(limits.locations_per_second),
                connections_per_user: limits.connections_per_user as usize,
                seat_wait: self.config.redis.response_timeout.min(SEAT_WAIT),
            },
            sessions: Sessions::default(),
            seats: Seats::default(),
            tasks: self.tasks.clone(),
        });
        let (usher, stop) = (service.clone(), self.stop.clone());
        self.tasks.spawn(async move { usher.usher(stop).await });
        Ok(service)
    }

    fn broker(&self, feed: FeedSender) -> Result<Arc<dyn Broker>, StartError> {
        let (redis, event_bytes) = (&self.config.redis, self.config.limits.event_bytes.get());
        let id_window = self.config.history.id_window;
        let Some(url) = &redis.url else {
            let id_window_ms = u64::try_from(id_window.as_millis()).unwrap_or(u64::MAX);
            let limits = MemoryLimits { id_window_ms, event_bytes };
            return Ok(Arc::new(MemoryBroker::new(self.classes.clone(), limits, Arc::new(now_ms), feed)));
        };
        let settings = RedisSettings {
            url: url.expose().to_owned(),
            prefix: redis.prefix.clone(),
            node: uuid::Uuid::now_v7().to_string(),
            heartbeat: redis.heartbeat,
            connect_timeout: redis.connect_timeout,
            response_timeout: redis.response_timeout,
            canary: redis.canary,
            allow_eviction: redis.allow_eviction,
            id_window,
            event_bytes,
        };
        let broker = RedisBroker::start(&settings, self.classes.clone(), feed, &self.tasks, &self.stop);
        Ok(broker.map_err(|error| format!("redis.url: {error}"))?)
    }

    /// The ingest stream's reader; there is none without a Redis.
    pub(super) fn ingest(&self, service: &Service) -> Result<Option<Ingest>, StartError> {
        let (redis, ingest) = (&self.config.redis, &self.config.ingest);
        let Some(url) = &redis.url else { return Ok(None) };
        let settings = IngestSettings {
            url: url.expose().to_owned(),
            prefix: redis.prefix.clone(),
            connect_timeout: redis.connect_timeout,
            response_timeout: redis.response_timeout,
            lease: ingest.lease,
            batch: ingest.batch,
            rejected: ingest.rejected,
            event_bytes: self.config.limits.event_bytes.get(),
        };
        let started = Ingest::start(&settings, service.clone(), &self.tasks, self.stop.clone());
        Ok(Some(started.map_err(|error| format!("redis.url: {error}"))?))
    }

    fn policy(&self, mode: Mode) -> Arc<dyn Policy> {
        if mode.is_dev() {
            return Arc::new(Open);
        }
        Arc::new(DefaultRules::new(self.config.auth.staff_roles.clone()))
    }

    pub(super) fn expiry(&self) -> Expiry {
        let expiry = Expiry::default();
        let (timer, stop) = (expiry.clone(), self.stop.clone());
        self.tasks.spawn(async move { timer.run(stop).await });
        expiry
    }

    pub(super) fn connections(&self) -> Connections {
        let limits = &self.config.limits;
        Connections::new(Caps { all: limits.connections, per_ip: limits.connections_per_ip })
    }

    pub(super) fn entrance(&self, readiness: Readiness, connections: Connections) -> Entrance {
        let handshakes = Handshakes::per_second(self.config.limits.handshakes_per_second);
        Entrance { readiness, connections, proxies: self.config.server.trusted_proxies.clone().into(), handshakes }
    }

    pub(super) fn door(&self) -> SocketIoSettings {
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
        }
    }

    pub(super) fn api(&self, service: Service) -> Router {
        let key = ApiKey::new(self.config.api.key.as_ref().map(|key| key.expose()));
        let event_bytes = self.config.limits.event_bytes.get();
        v1(ApiState::new(service, key, event_bytes, self.config.api.batch_events))
    }
}
