//! The gateway: builds all parts and owns all tasks. It is the only place that names a concrete broker or fleet.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::logs::{self, Hints};
use crate::metrics::NodeMetrics;
use axum::Json;
use axum::response::{IntoResponse, Response};
use hallway_rooms::class::{Classes, Retention, TypeRule};
use hallway_rooms::close::Close;
use http::StatusCode;
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::token::Verifier;
use crate::broker::EventRouter;
use crate::broker::redis::function::Function;
use crate::config::{ByteSize, Config, DevHost, Mode, Shutdown};
use crate::connections::Connections;
use crate::doors::socketio::Door;
use crate::essential::run_essential;
use crate::memory::{NodeMemory, limit_of_machine};
use crate::readiness::Readiness;
use crate::service::Service;
use crate::wire::Backlogs;

mod admission;
mod api;
mod build;
mod descriptors;
mod dev_guard;
mod event_loops;
mod forwarded;
mod front;
mod handshake;
mod live;
mod origins;
mod policy;
mod serve;
mod subprotocol;

use build::BuildContext;
use descriptors::Descriptors;
pub use descriptors::process_shortage;
use dev_guard::DevGuard;
use event_loops::EventLoops;
use front::MainListeners;
use live::LiveThread;
use origins::Origins;
pub use policy::build_policy;

/// Any error that stops a start.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Addresses the listeners were bound to, in the order of [`Gateway::addresses`].
    addresses: Vec<SocketAddr>,
    service: Service,
    readiness: Readiness,
    /// Cancelled first: the main listeners accept no more connections.
    closing: CancellationToken,
    /// Cancelled last: broker, dispatch, timers, and the API's and admin's own listeners.
    stop: CancellationToken,
    /// The upgraded connections, which a shutdown closes.
    connections: Connections,
    /// The wires with a backlog; read here for the memory limit.
    backlogs: Backlogs,
    /// Flushers; a shutdown waits for them, up to `shutdown.drain`.
    wires: TaskTracker,
    /// Listeners and their connections.
    servers: TaskTracker,
    /// All other tasks.
    tasks: TaskTracker,
    /// The threads in which clients live, and that of the live links. Fields drop in order, so they end after everything
    /// else.
    loops: EventLoops,
    _live: LiveThread,
}

/// How long a shutdown waits for tasks that were told to stop, and for the broker to take the close notice.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// Makes the room classes of a configuration.
///
/// # Errors
/// When a class has no valid form; the configuration has checked that before.
pub fn build_classes(config: &Config) -> Result<Classes, StartError> {
    let retention = Retention { max_events: config.history.max_events, ttl: config.history.ttl };
    let mut classes = Classes::built_in(retention, config.history.memory);
    classes.keep_latest(config.history.max_latest);
    // A room class may set only one of the two; the other one stays the node's.
    for (form, settings) in &config.rooms {
        let own = Retention {
            max_events: settings.history.max_events.unwrap_or(retention.max_events),
            ttl: settings.history.ttl.unwrap_or(retention.ttl),
        };
        classes.configure(form, own, |class| {
            class.retention = own;
            class.delivery = settings.delivery.unwrap_or(class.delivery);
        })?;
    }
    for (name, settings) in &config.types {
        classes.configure_type(name, TypeRule { delivery: settings.delivery, key: settings.key.clone() });
    }
    Ok(classes)
}

/// Makes the token verifier of a configuration, for the command line.
///
/// # Errors
/// When a key cannot be read.
pub fn build_verifier(config: &Config) -> Result<Verifier, StartError> {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let (memory, classes) = (NodeMemory::default(), Arc::new(build_classes(config)?));
    let (live, loops) = (&LiveThread::without_thread(), &EventLoops::without_threads(1));
    BuildContext { config, classes, tasks, stop, memory, live, loops }.build_verifier()
}

/// Renders the Redis function of a configuration.
#[must_use]
pub fn build_function(config: &Config) -> Function {
    // A checked configuration has no invalid class, so the fallback is there for the type only.
    let classes = build_classes(config).unwrap_or_else(|_| {
        let retention = Retention { max_events: config.history.max_events, ttl: config.history.ttl };
        Classes::built_in(retention, config.history.memory)
    });
    Function::render(&config.redis.prefix, &classes, config.history.id_window, config.limits.event_bytes.get())
}

/// Whether a call failed because Redis does not hold the function.
#[must_use]
pub(crate) fn function_is_absent(error: &redis::RedisError) -> bool {
    crate::broker::redis::function::is_absent(error)
}

/// How many event loops a configuration asks for.
fn count_loops(config: &Config) -> usize {
    // The standard library knows the CPU set and the cgroup's quota. Without an answer one loop is right everywhere.
    let usable = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(EventRouter::MOST_LOOPS);
    config.server.cores.map_or_else(usable, |cores| cores as usize)
}

/// Makes the JSON error of a request that is refused before it reaches a route.
fn refusal_response(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": {"code": code, "message": message}}))).into_response()
}

impl Gateway {
    /// Builds a gateway and binds its listeners, on the current runtime. In dev mode it answers to the names of
    /// loopback and to `hosts`, and logs why it refuses clients.
    ///
    /// # Errors
    /// When a key cannot be read, a listener cannot be bound, or the Redis URL is invalid.
    pub fn bind(config: &Config, mode: Mode, hosts: &[DevHost], metrics: NodeMetrics) -> Result<Self, StartError> {
        let threads = (EventLoops::start_threads(count_loops(config))?, LiveThread::start_thread()?);
        let (mut gateway, front) = Self::build_parts(config, mode, hosts, threads)?;
        // Warnings and no errors: both compare with the worst case that the limits allow.
        if let Some(problem) = config.is_tight_with(gateway.backlogs.memory().limit()) {
            tracing::warn!(event = logs::MEMORY_SMALL, "there is little memory for what is allowed: {problem}");
        }
        if let Some(problem) = process_shortage(config) {
            tracing::warn!(event = logs::DESCRIPTORS_FEW, "there are few descriptors for what is allowed: {problem}");
        }
        // Ready only when all listeners are bound: a load balancer must not send clients before.
        gateway.open_listeners(config, front, metrics)?;
        gateway.readiness.mark_open();
        Ok(gateway)
    }

    /// Builds all of a gateway but its listeners, and drops it. Nothing connects and no other process is asked. If this
    /// succeeds, [`Gateway::bind`] can start, as far as the configuration goes.
    ///
    /// # Errors
    /// As [`Gateway::bind`], addresses left out.
    pub fn try_out(config: &Config) -> Result<(), StartError> {
        // Tasks of a runtime with one thread run only while something is waited for, and nothing is.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _inside = runtime.enter();
        let threads = (EventLoops::without_threads(count_loops(config)), LiveThread::without_thread());
        let (gateway, _) = Self::build_parts(config, Mode::Production, &[], threads)?;
        gateway.stop.cancel();
        Ok(())
    }

    fn build_parts(
        config: &Config,
        mode: Mode,
        hosts: &[DevHost],
        (loops, live): (EventLoops, LiveThread),
    ) -> Result<(Self, MainListeners), StartError> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        // One budget for all listeners and sockets: the parts below get clones of it.
        let memory = NodeMemory::new(config.limits.memory.map_or_else(limit_of_machine, ByteSize::get));
        let building = BuildContext {
            config,
            classes: Arc::new(build_classes(config)?),
            tasks: tasks.clone(),
            stop: stop.clone(),
            memory: memory.clone(),
            live: &live,
            loops: &loops,
        };
        let verifier = building.build_verifier()?;
        let service = building.build_service(mode, verifier.clone())?;
        let expiry = building.build_expiry();
        let connections = building.build_connections();
        let ingest = building.build_ingest(&service)?;
        let readiness = Readiness::new(service.clone(), verifier.clone(), ingest, connections.clone());
        // In production a refused client must not be able to fill the log.
        let hints = if mode.is_dev() { Hints::for_developers() } else { Hints::none() };
        let settings = building.door_settings(hints.clone());
        let front = MainListeners {
            doors: (loops.all().iter())
                .map(|_| Door::new(service.clone(), verifier.clone(), expiry.clone(), tasks.clone(), &settings))
                .collect(),
            settings,
            v1: building.build_api(service.clone())?,
            readiness: readiness.clone(),
            admission: building.build_admission(readiness.clone(), connections.clone()),
            origins: Origins::new(&config.server.origins),
            // A guard in production would refuse the names that clients really use.
            guard: mode.is_dev().then(|| DevGuard::new(hosts, hints)),
        };
        let backlogs = Backlogs::new(memory);
        let watch = stop.clone().run_until_cancelled_owned(backlogs.clone().watch_memory());
        tasks.spawn(run_essential("memory watch", watch));
        let gateway = Self {
            backlogs,
            addresses: Vec::new(),
            service,
            readiness,
            connections,
            closing: CancellationToken::new(),
            stop,
            wires: TaskTracker::new(),
            servers: TaskTracker::new(),
            tasks,
            loops,
            _live: live,
        };
        Ok((gateway, front))
    }

    /// The bound addresses: the main listeners, then the API's own, then the admin's.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops in order: not ready, no new connections, a close notice to every session, transports closed (their clients
    /// reconnect to another node) and the node removed from the fleet's counts, then everything else. It takes at most
    /// `shutdown.drain` plus a few seconds.
    pub async fn shutdown(self, settings: &Shutdown) {
        self.readiness.mark_stopping();
        self.closing.cancel();
        // Before the close: the notice carries the pause before the reconnect, which spreads the clients over time.
        self.service.announce_drain(settings.reconnect_spread).await;
        self.connections.close_all(Close::Draining.code());
        self.wires.close();
        let gone = timeout(settings.drain, self.wires.wait());
        // Side by side: a broker out of reach must not use up the time that clients have for their last bytes.
        let (gone, resigned) = tokio::join!(gone, timeout(LAST_MOMENT, self.service.leave_fleet()));
        if resigned.is_err() {
            tracing::warn!(
                event = logs::FAREWELL_LATE,
                "the broker did not take this node's word in time; the others forget it within half a minute"
            );
        }
        if gone.is_err() {
            tracing::warn!(
                event = logs::PEERS_CUT_OFF,
                left = self.connections.count(),
                "some peers did not take their last bytes in time"
            );
        }
        // Only here: until the last transport is closed its commands need the broker, and its last events live
        // delivery.
        self.stop.cancel();
        self.servers.close();
        self.tasks.close();
        let rest = async { tokio::join!(self.servers.wait(), self.tasks.wait()) };
        if timeout(LAST_MOMENT, rest).await.is_err() {
            tracing::warn!(event = logs::TASKS_LEFT, "some tasks did not end in time");
        }
    }
}
