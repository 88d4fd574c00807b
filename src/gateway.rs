//! The gateway: builds everything and owns everything. The only place that names a concrete broker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::class::{Classes, Retention};
use hallway_rooms::close::Close;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::redis::function::Function;
use crate::config::{Config, Mode};
use crate::connections::Connections;
use crate::doors::socketio::Door;
use crate::readiness::Readiness;

mod build;
mod front;
mod guard;

use build::Building;
use front::Front;

/// Anything that stops a start.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    readiness: Readiness,
    /// Cancelled first: no new connections.
    closing: CancellationToken,
    /// Cancelled last: broker, feed, timers.
    stop: CancellationToken,
    connections: Connections,
    wires: TaskTracker,
    servers: TaskTracker,
    tasks: TaskTracker,
}

/// For tasks that have been told to stop.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// The room classes of a configuration.
///
/// # Errors
/// When a class has no valid form; the configuration has checked that before.
pub fn classes(config: &Config) -> Result<Classes, StartError> {
    let retention = Retention { max_events: config.history.max_events, ttl: config.history.ttl };
    let mut classes = Classes::built_in(retention, config.history.memory);
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
        classes.configure_type(name, settings.delivery);
    }
    Ok(classes)
}

/// The Redis function of a configuration.
#[must_use]
pub fn function(config: &Config) -> Function {
    let classes = classes(config).unwrap_or_else(|_| {
        let retention = Retention { max_events: config.history.max_events, ttl: config.history.ttl };
        Classes::built_in(retention, config.history.memory)
    });
    Function::render(&config.redis.prefix, &classes, config.history.id_window, config.limits.event_bytes.get())
}

impl Gateway {
    /// Builds a gateway and binds its listeners.
    ///
    /// # Errors
    /// When a key cannot be read, a listener cannot be bound, or the Redis URL is none.
    pub async fn bind(config: &Config, mode: Mode, metrics: PrometheusHandle) -> Result<Self, StartError> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let building =
            Building { config, classes: Arc::new(classes(config)?), tasks: tasks.clone(), stop: stop.clone() };
        let verifier = Arc::new(building.verifier()?);
        let service = building.service(mode)?;
        let expiry = building.expiry();
        let connections = Connections::default();
        let ingest = building.ingest(&service)?;
        let readiness = Readiness::new(service.clone(), ingest, connections.clone());
        let settings = building.door();
        let front = Front {
            door: Door::new(service.clone(), verifier, expiry, tasks.clone(), &settings),
            settings,
            v1: building.api(service),
            readiness: readiness.clone(),
            connections: connections.clone(),
        };
        let mut gateway = Self {
            addresses: Vec::new(),
            readiness: readiness.clone(),
            connections,
            closing: CancellationToken::new(),
            stop,
            wires: TaskTracker::new(),
            servers: TaskTracker::new(),
            tasks,
        };
        gateway.listen(config, mode, front, metrics).await?;
        readiness.open();
        Ok(gateway)
    }

    /// Where it listens: the main listeners, then the API's own, then the admin's.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops in order: not ready, no new connections, transports closed (their clients come back elsewhere), then
    /// everything else. Takes at most `budget` and a moment.
    pub async fn shutdown(self, budget: Duration) {
        self.readiness.shut();
        self.closing.cancel();
        self.connections.close(Close::Draining.code());
        self.wires.close();
        let gone = timeout(budget, self.wires.wait()).await.is_ok();
        if !gone {
            tracing::warn!(left = self.connections.count(), "some peers did not take their last bytes in time");
        }
        self.stop.cancel();
        self.servers.close();
        self.tasks.close();
        let rest = async { tokio::join!(self.servers.wait(), self.tasks.wait()) };
        if timeout(LAST_MOMENT, rest).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
    }
}
