//! The links of the broker, one for each kind of work.

use std::time::Duration;

use ::redis::RedisError;

use super::RedisSettings;
use crate::link::{Keeper, Link, LinkSettings};

/// How long a page of a history may take at the least: on a network that carries a hundredth of what is usual, so long is
/// waited for sixteen of them. Whether anything comes at all is seen by the link itself, and much sooner.
const PAGE: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Links {
    /// Publishing, and what is as short: heads, counts, rights of users.
    pub(super) commands: Link,
    /// Histories that clients ask for.
    pub(super) history: Link,
    /// Histories that live delivery waits for.
    pub(super) healing: Link,
    /// What readiness rests on, and signs of life.
    pub(super) probe: Link,
}

/// What keeps them.
pub(super) struct Keepers {
    /// Those that live delivery and readiness need.
    pub(super) live: [Keeper; 3],
    pub(super) history: Keeper,
}

impl Links {
    /// All of them, and what keeps them.
    pub(super) fn new(settings: &RedisSettings) -> Result<(Self, Keepers), RedisError> {
        let answer = settings.response_timeout;
        let link = |name, response_timeout| {
            let connect_timeout = settings.connect_timeout;
            let settings_of = LinkSettings { name, connect_timeout, response_timeout, block: Duration::ZERO };
            Link::new(&settings.client, settings_of)
        };
        let (commands, first) = link("commands", answer)?;
        let (history, keeper) = link("history", answer.max(PAGE))?;
        let (healing, second) = link("healing", answer.max(PAGE))?;
        let (probe, third) = link("probe", answer)?;
        let keepers = Keepers { live: [first, second, third], history: keeper };
        Ok((Self { commands, history, healing, probe }, keepers))
    }

    /// Has all of them looked at soon, because another one has just lost its connection.
    pub(super) fn check(&self) {
        [&self.commands, &self.history, &self.healing, &self.probe].into_iter().for_each(Link::check);
    }
}
