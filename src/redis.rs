//! The parts of a node's Redis that broker and fleet share: key names, connections, the checks of its health, and the
//! table by which pub/sub messages find their handlers. Broker and fleet each have their own handles of these, and
//! neither knows of the other.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{Client, RedisError};
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) mod checks;
pub(crate) mod complaints;
mod dispatcher;
pub(crate) mod keys;
pub(crate) mod links;

use crate::essential::run_essential;
use crate::link::Unavailable;
use checks::Checks;
pub use dispatcher::Dispatcher;
use keys::RedisKeys;
use links::Links;

/// The Redis of a node, and the node's name there.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// The Redis client, with its credentials: never logged.
    pub client: Client,
    /// The prefix of every key.
    pub prefix: String,
    /// This process's name among the nodes: a restart gets another one.
    pub node: String,
    /// Timeout of a connection attempt.
    pub connect_timeout: Duration,
    /// Timeout of a reply.
    pub response_timeout: Duration,
    /// Interval of the canaries and of the other periodic checks.
    pub canary: Duration,
    /// The runtime of live delivery, where pub/sub messages are read; readiness depends on it too.
    pub live: Handle,
}

/// The shared parts. Clones share the connections.
#[derive(Clone, Debug)]
pub struct SharedRedis {
    pub(crate) settings: RedisSettings,
    pub(crate) keys: RedisKeys,
    pub(crate) links: Links,
    pub(crate) checks: Arc<Checks>,
    /// Tracks every task, so that a shutdown can wait for them.
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl SharedRedis {
    /// Starts the connections, which are kept until `stop`. Returns before Redis answers.
    ///
    /// # Errors
    /// When the URL is invalid.
    pub fn start_links(
        settings: RedisSettings,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, RedisError> {
        let (links, keepers) = Links::new(&settings)?;
        let redis = Self {
            keys: RedisKeys::new(&settings.prefix),
            settings,
            links,
            checks: Arc::new(Checks::new()),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        keepers.live.into_iter().for_each(|keeper| redis.spawn_live(keeper.run_loop().boxed()));
        // Pages of histories are megabytes to parse: on the other runtime, beside live delivery.
        redis.spawn(keepers.history.run_loop());
        Ok(redis)
    }

    /// Runs a task until the node stops, on the runtime of live delivery.
    pub(crate) fn spawn_live(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = run_essential("live link", self.stop.clone().run_until_cancelled_owned(task));
        self.tasks.spawn_on(task, &self.settings.live);
    }

    /// Runs a task until the node stops, on the runtime that live delivery is independent of.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(run_essential("link", self.stop.clone().run_until_cancelled_owned(task)));
    }

    /// The tracker for short-lived tasks, and the token that ends them.
    pub(crate) fn tasks(&self) -> (TaskTracker, CancellationToken) {
        (self.tasks.clone(), self.stop.clone())
    }
}

/// The error that users of broker and fleet get for a failure of Redis.
pub(crate) fn unavailable(error: &RedisError) -> Unavailable {
    Unavailable(error.to_string())
}
