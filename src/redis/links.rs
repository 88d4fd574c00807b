//! The links of a node to Redis, one for each kind of work. The replies of one connection are ordered, so a megabyte
//! of history for a client must not delay publishes, healing and canaries.

use std::time::Duration;

use ::redis::RedisError;

use super::RedisSettings;
use crate::link::{ConnectionLoop, Link, LinkSettings};

/// The least timeout for a page of history. It suffices for sixteen of them on a network with a hundredth of the
/// usual speed. A connection without any traffic is detected by the link itself, and much sooner.
const PAGE: Duration = Duration::from_secs(30);

/// The links of a node. Clones share the connections.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// Publishing and other short commands: heads, counts, quotas.
    pub(crate) commands: Link,
    /// Histories for clients.
    pub(crate) history: Link,
    /// Histories for live delivery, which must not wait behind clients' pages.
    pub(crate) healing: Link,
    /// Readiness and heartbeats, which must not wait behind anything.
    pub(crate) probe: Link,
}

/// The connection loops of the links.
pub(crate) struct LinkTasks {
    /// Those on which live delivery and readiness depend.
    pub(crate) live: [ConnectionLoop; 3],
    pub(crate) history: ConnectionLoop,
}

impl Links {
    /// Makes all links and their connection loops.
    pub(crate) fn new(settings: &RedisSettings) -> Result<(Self, LinkTasks), RedisError> {
        let answer = settings.response_timeout;
        let link = |name, response_timeout| {
            let connect_timeout = settings.connect_timeout;
            let settings_of = LinkSettings { name, connect_timeout, response_timeout, block: Duration::ZERO };
            Link::new(&settings.client, settings_of)
        };
        // Short replies only: a late one means trouble. Pages may take long on a slow network.
        let (commands, first) = link("commands", answer)?;
        let (history, keeper) = link("history", answer.max(PAGE))?;
        let (healing, second) = link("healing", answer.max(PAGE))?;
        let (probe, third) = link("probe", answer)?;
        let keepers = LinkTasks { live: [first, second, third], history: keeper };
        Ok((Self { commands, history, healing, probe }, keepers))
    }

    /// Checks all links soon, because another connection has just broken.
    pub(crate) fn request_checks(&self) {
        [&self.commands, &self.history, &self.healing, &self.probe].into_iter().for_each(Link::request_check);
    }
}
