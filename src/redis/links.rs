//! The links of a node to Redis, one for each kind of work: answers of one connection come one behind the other, so a megabyte
//! of history that a client asked for must hold up no publish, no healing and no canary.

use std::time::Duration;

use ::redis::RedisError;

use super::RedisSettings;
use crate::link::{Keeper, Link, LinkSettings};

/// The least timeout for a page of history. It suffices for sixteen of them on a network with a hundredth of the
/// usual speed. A connection without any traffic is detected by the link itself, and much sooner.
const PAGE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// Publishing, and what is as short: heads, counts, rights of users.
    pub(crate) commands: Link,
    /// Histories that clients ask for.
    pub(crate) history: Link,
    /// Histories that live delivery waits for.
    pub(crate) healing: Link,
    /// What readiness rests on, and signs of life.
    pub(crate) probe: Link,
}

/// What keeps them.
pub(crate) struct Keepers {
    /// Those that live delivery and readiness need.
    pub(crate) live: [Keeper; 3],
    pub(crate) history: Keeper,
}

impl Links {
    /// All of them, and what keeps them.
    pub(crate) fn new(settings: &RedisSettings) -> Result<(Self, Keepers), RedisError> {
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
        let keepers = Keepers { live: [first, second, third], history: keeper };
        Ok((Self { commands, history, healing, probe }, keepers))
    }

    /// Has all of them looked at soon, because another one has just lost its connection.
    pub(crate) fn check(&self) {
        [&self.commands, &self.history, &self.healing, &self.probe].into_iter().for_each(Link::check);
    }
}
