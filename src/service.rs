//! The verbs of the gateway: join, leave, missed, publish, locate, acknowledge, refresh and revoke. This is the only
//! place where the rules of rooms meet the hub and the broker. Every door translates its protocol to these verbs and
//! does nothing else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::class::Classes;
use hallway_rooms::close::Refusal;
use hallway_rooms::key::Room;
use tokio_util::task::TaskTracker;

use crate::auth::action::Action;
use crate::auth::claims::Claims;
use crate::auth::policy::{Policy, PolicyExplainer, PolicyExplanation};
use crate::auth::token::Verifier;
use crate::broker::Broker;
use crate::fleet::Fleet;
use crate::hub::Hubs;
use crate::rate::Rate;
use crate::session::Session;
use crate::sessions::Sessions;

mod acknowledge;
mod answer;
mod catch_up;
mod close_notice;
mod compose;
mod current;
mod fair_queue;
mod join;
mod join_rooms;
mod leave;
mod locate;
mod missed;
mod page;
mod paused;
pub mod publish;
mod reader;
mod refresh;
pub mod reply;
pub mod revoke;
mod row;
mod size;
mod user_quota;
mod wait_budget;

pub use acknowledge::{AckStatus, Acknowledgement};
pub use answer::{PendingReply, ReplyFramer};
pub use fair_queue::{FairQueue, FairQueueLimits};
pub use join_rooms::WantedRoom;
pub use missed::Window;
pub use revoke::TokenRevoked;
pub use user_quota::{QuotaSlot, UserQuota};

/// Bounds of the verbs.
#[derive(Clone, Copy, Debug)]
pub struct ServiceLimits {
    /// Rooms that one session may be a member of.
    pub rooms_per_socket: usize,
    /// Bytes of one event's JSON.
    pub event_bytes: usize,
    /// Bytes of event text in one answer; a larger result is split into pages.
    pub page_bytes: usize,
    /// Missed events sent to one session in one go, before the catch-up checks whether its socket is crowded.
    pub burst: usize,
    /// How long a command with an answer waits for the broker.
    pub answer_wait: Duration,
    /// How long a join without an ack callback waits for the broker. Its refusal cannot be reported, so it waits
    /// longer than a command with an answer, and its failure closes the transport.
    pub join_wait: Duration,
    /// Rate of location reports per session.
    pub locations: Rate,
    /// The longest lifetime of a token, counted from its `iat`, leeway included. A revocation is kept for this long.
    pub token_life: Duration,
    /// Sessions that one user may have on all nodes together: the connection quota.
    pub connections_per_user: usize,
    /// How long a CONNECT waits for the broker's count of the user's sessions. After that the quota counts this node
    /// alone.
    pub quota_wait: Duration,
}

/// The service. Clones share it.
#[derive(Clone)]
pub struct Service(Arc<ServiceParts>);

/// The parts that the verbs work with.
#[derive(Debug)]
pub struct ServiceParts {
    /// The rooms of this node and their members, by event loop.
    pub hubs: Hubs,
    /// Assigns offsets, stores events and reads histories.
    pub broker: Arc<dyn Broker>,
    /// What nodes tell each other besides events.
    pub fleet: Arc<dyn Fleet>,
    /// The configured room classes: which keys are valid, and what each class keeps.
    pub classes: Arc<Classes>,
    /// Decides which claims may join which room.
    pub policy: Arc<Policy>,
    /// Verifies tokens for the policy explainer, which is given a token and not a session.
    pub verifier: Verifier,
    /// The bounds of the verbs.
    pub limits: ServiceLimits,
    /// The sessions of this node, by user and by token.
    pub sessions: Sessions,
    /// The connection quota: how many sessions each user has.
    pub quota: UserQuota,
    /// The fair queue for reads of histories.
    pub turns: FairQueue,
    /// Owns the tasks that catch members up and the tasks that hold a turn until its answer is sent.
    pub tasks: TaskTracker,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service({:?})", self.0.hubs)
    }
}

impl Service {
    /// Makes a service of its parts.
    #[must_use]
    pub fn new(parts: ServiceParts) -> Self {
        Self(Arc::new(parts))
    }

    /// The broker's health.
    #[must_use]
    pub fn health(&self) -> crate::broker::Health {
        self.0.broker.health()
    }

    /// Registers a session before it does anything. The session is indexed first and its token is checked second: a
    /// revocation that is not in the list yet finds the session in the index.
    ///
    /// # Errors
    /// When the token has been revoked. The session has been finished then.
    pub fn begin_session(&self, session: &Arc<Session>) -> Result<(), TokenRevoked> {
        self.0.sessions.add(session);
        if self.is_revoked(&session.claims()) {
            self.finish_session(session);
            return Err(TokenRevoked);
        }
        Ok(())
    }

    /// Checks a key.
    ///
    /// # Errors
    /// `invalid-room` when it has no known form.
    pub fn find_room(&self, key: &str) -> Result<Room, Refusal> {
        self.0.classes.find_room(key).map_err(|_| Refusal::InvalidRoom)
    }

    /// Checks a key, and whether `claims` permit this action in its room.
    async fn admit_to_room(&self, claims: &Claims, key: &str, action: Action) -> Result<Room, Refusal> {
        let room = self.find_room(key)?;
        self.0.policy.check_access(claims, &room, action).await?;
        Ok(room)
    }

    /// Explains whether a token permits a join of a room, and which rule decides it.
    pub async fn explain(&self, token: &str, key: &str) -> PolicyExplanation {
        let ServiceParts { verifier, classes, policy, .. } = &*self.0;
        let revoked = |claims: &Claims| self.is_revoked(claims);
        PolicyExplainer { verifier, classes, policy, revoked: &revoked }.explain(token, key).await
    }

    /// Gives the answer, if the client asked for one.
    pub fn respond_to(session: &Session, mut answer: PendingReply, body: &str) {
        answer.send_answer(session, body);
    }
}
