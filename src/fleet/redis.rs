//! The fleet on one Redis: heartbeats in a hash that all nodes share (`nodes.rs`), counts in a hash per room (`members.rs`)
//! and per user (`users.rs`), the list of revocations (`revoked.rs`), and kicks by pub/sub (`kick.rs`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{RedisError, RedisResult, Value};
use async_trait::async_trait;
use hallway_rooms::key::Room;
use hallway_rooms::revocation::SubjectHash;

mod kick;
mod members;
mod nodes;
mod revoked;
mod users;

use super::control::{NotedRevocation, RevocationList};
use super::{Fleet, KickResult, Unavailable, UserCount};
use crate::link::Link;
use crate::redis::checks::Checks;
use crate::redis::complaints::Complaints;
use crate::redis::keys::RedisKeys;
use crate::redis::links::Links;
use crate::redis::{Dispatcher, SharedRedis, unavailable};
use kick::PendingKicks;
use nodes::Nodes;
use revoked::RevocationSync;

/// What a fleet on Redis needs to know beside where Redis is.
#[derive(Clone, Copy, Debug)]
pub struct FleetSettings {
    /// Between two signs of life of this node.
    pub heartbeat: Duration,
    /// `limits.revocations`.
    pub revocations: usize,
}

/// See the module.
pub struct RedisFleet {
    keys: RedisKeys,
    links: Links,
    checks: Arc<Checks>,
    complaints: Complaints,
    nodes: Nodes,
    revoked: RevocationSync,
    answers: PendingKicks,
}

impl fmt::Debug for RedisFleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisFleet({} nodes)", self.nodes.live_nodes())
    }
}

impl RedisFleet {
    /// This node's part in the fleet on a Redis. Returns at once, and puts its handlers into the dispatcher.
    #[must_use]
    pub fn start(settings: FleetSettings, redis: &SharedRedis, dispatcher: &mut Dispatcher) -> Arc<Self> {
        let fleet = Arc::new(Self {
            keys: redis.keys.clone(),
            links: redis.links.clone(),
            checks: redis.checks.clone(),
            complaints: Complaints::default(),
            nodes: Nodes::new(redis.settings.node.clone(), settings.heartbeat),
            revoked: RevocationSync::new(settings.revocations),
            answers: PendingKicks::default(),
        });
        fleet.register(dispatcher);
        redis.spawn_live(nodes::run(fleet.clone()));
        redis.spawn_live(revoked::sync_list(fleet.clone(), redis.settings.canary));
        fleet
    }

    /// Revocations and requests to kick come on the channel of all nodes, answers on this node's own.
    fn register(self: &Arc<Self>, dispatcher: &mut Dispatcher) {
        let (lists, kicks, answers, losses) = (self.clone(), self.clone(), self.clone(), self.clone());
        let control = self.keys.control();
        dispatcher.on_channel(&control, move |message| revoked::handle_revocations(&lists, message));
        dispatcher.on_channel(&control, move |message| kick::handle_kick_request(&kicks, message));
        dispatcher.on_channel(&self.own_channel(), move |message| answers.answers.take_answer(message));
        dispatcher.on_restored(move || losses.revoked.require_reload());
    }

    fn own_channel(&self) -> String {
        self.keys.node_channel(self.nodes.own_name())
    }

    /// The link for requests that a client or a service waits for. Heartbeats and member counts go by the one for probes.
    fn connection(&self) -> Link {
        self.links.commands.clone()
    }
}

/// The answers of a pipeline of so many commands.
fn pipeline_answers<const N: usize>(answers: Vec<RedisResult<Value>>) -> RedisResult<[RedisResult<Value>; N]> {
    answers
        .try_into()
        .map_err(|_| RedisError::from((::redis::ErrorKind::UnexpectedReturnType, "another number of answers")))
}

#[async_trait]
impl Fleet for RedisFleet {
    async fn announce_sizes(&self, sizes: &[(Room, usize)]) -> Result<(), Unavailable> {
        self.checks.reachable()?;
        members::announce_sizes(self, sizes).await.map_err(|e| unavailable(&e))
    }

    fn forget_count(&self) -> u64 {
        self.nodes.forget_count()
    }

    async fn members_elsewhere(&self, room: &Room) -> Result<usize, Unavailable> {
        self.checks.reachable()?;
        members::members_elsewhere(self, room).await.map_err(|e| unavailable(&e))
    }

    async fn count_users(&self, counts: &[UserCount]) -> Result<Vec<Option<usize>>, Unavailable> {
        self.checks.reachable()?;
        users::count_connections(self, counts).await.map_err(|e| unavailable(&e))
    }

    fn control(&self) -> &RevocationList {
        self.revoked.control()
    }

    async fn announce_revocation(&self, noted: &NotedRevocation) -> Result<(), Unavailable> {
        revoked::announce_revocation(self, noted).await
    }

    async fn kick_elsewhere(&self, user: SubjectHash) -> Result<KickResult, Unavailable> {
        self.checks.reachable()?;
        kick::ask_nodes(self, user).await.map_err(|e| unavailable(&e))
    }

    async fn answer_kick(&self, ticket: &str, sockets: usize) -> Result<(), Unavailable> {
        kick::send_answer(self, ticket, sockets).await.map_err(|e| unavailable(&e))
    }

    async fn leave_fleet(&self) -> Result<(), Unavailable> {
        self.checks.reachable()?;
        nodes::leave_fleet(self).await.map_err(|e| unavailable(&e))
    }
}
