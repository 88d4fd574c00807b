//! What broker and fleet share of a node's Redis: its names there, its connections, whether it can be relied on, and the
//! table by which messages of pub/sub find their handlers. Each of the two has its own handles of these, and neither knows
//! of the other.

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

use crate::link::Unavailable;
use checks::Checks;
pub use dispatcher::Dispatcher;
use keys::Keys;
use links::Links;

/// Where Redis is, and what a node is called there.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Where Redis is, with its credentials: never logged.
    pub client: Client,
    /// The first word of every key.
    pub prefix: String,
    /// This node's name among the others: another one with every start.
    pub node: String,
    /// For making a connection.
    pub connect_timeout: Duration,
    /// For a reply.
    pub response_timeout: Duration,
    /// Between two canaries, and two looks at whatever else is looked at from time to time.
    pub canary: Duration,
    /// Where what comes through pub/sub is read, and what else live delivery and readiness need.
    pub live: Handle,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Redis {
    pub(crate) settings: RedisSettings,
    pub(crate) keys: Keys,
    pub(crate) links: Links,
    pub(crate) checks: Arc<Checks>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Redis {
    /// Connections that are made at once and kept until `stop`. Returns before Redis answers.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn start(settings: RedisSettings, tasks: &TaskTracker, stop: &CancellationToken) -> Result<Self, RedisError> {
        let (links, keepers) = Links::new(&settings)?;
        let redis = Self {
            keys: Keys::new(&settings.prefix),
            settings,
            links,
            checks: Arc::new(Checks::new()),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        keepers.live.into_iter().for_each(|keeper| redis.spawn_live(keeper.run().boxed()));
        redis.spawn(keepers.history.run());
        Ok(redis)
    }

    /// Runs a task until the node stops, where live delivery runs.
    pub(crate) fn spawn_live(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(self.stop.clone().run_until_cancelled_owned(task), &self.settings.live);
    }

    /// Runs a task until the node stops, beside live delivery and never before it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(task));
    }

    /// What tasks are spawned on that come and go, and what ends them.
    pub(crate) fn tasks(&self) -> (TaskTracker, CancellationToken) {
        (self.tasks.clone(), self.stop.clone())
    }
}

/// What a failure of Redis is to users of broker and fleet.
pub(crate) fn unavailable(error: &RedisError) -> Unavailable {
    Unavailable(error.to_string())
}
