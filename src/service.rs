//! The verbs: join, leave, read, publish, locate, acknowledge, refresh,
//! revoke. The only place where the rules of rooms meet hub and broker; every door
//! translates its wire to these and nothing else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::class::Classes;
use hallway_rooms::close::Refusal;
use hallway_rooms::key::Room;
use tokio_util::task::TaskTracker;

use crate::auth::claims::Claims;
use crate::auth::policy::{Action, Desk, Explanation, Policy};
use crate::auth::token::Verifier;
use crate::broker::Broker;
use crate::fleet::Fleet;
use crate::hub::Hub;
use crate::rate::Rate;
use crate::session::Session;
use crate::sessions::Sessions;

mod acknowledge;
mod answer;
mod catch_up;
mod current;
mod farewell;
mod join;
mod join_rooms;
mod leave;
mod locate;
mod missed;
mod page;
mod parked;
mod patience;
pub mod publish;
mod reader;
mod refresh;
pub mod reply;
pub mod revoke;
mod row;
mod seats;
mod size;
mod turns;

pub use acknowledge::{Acknowledgement, Status};
pub use answer::{Answer, Frame};
pub use join_rooms::Wanted;
pub use missed::Window;
pub use revoke::Revoked;
pub use seats::{Seat, Seats};
pub use turns::{TurnLimits, Turns};

/// Bounds of the verbs.
#[derive(Clone, Copy, Debug)]
pub struct ServiceLimits {
    /// Rooms one session may be in.
    pub rooms_per_socket: usize,
    /// Bytes of an event's JSON.
    pub event_bytes: usize,
    /// Bytes of event text in one answer.
    pub page_bytes: usize,
    /// Frames that are sent to one session at once of what it missed, if there was room for more before.
    pub burst: usize,
    /// How long a command with an answer waits for the broker.
    pub answer_wait: Duration,
    /// How long a join that nobody can be told about waits for the broker.
    pub join_wait: Duration,
    /// Locations that one session may report.
    pub locations: Rate,
    /// The longest that a token may be good for from its `iat` on, leeway included.
    pub token_life: Duration,
    /// Sessions that one user may have on all nodes.
    pub connections_per_user: usize,
    /// How long a CONNECT waits for the broker to say how many its user has.
    pub seat_wait: Duration,
}

/// See the module.
#[derive(Clone)]
pub struct Service(Arc<Parts>);

/// What the verbs work with.
#[derive(Debug)]
pub struct Parts {
    /// Who is where on this node.
    pub hub: Hub,
    /// Where events get their place.
    pub broker: Arc<dyn Broker>,
    /// What nodes tell each other besides events.
    pub fleet: Arc<dyn Fleet>,
    /// What rooms there are.
    pub classes: Arc<Classes>,
    /// Who may join what.
    pub policy: Arc<Policy>,
    /// Whose tokens are believed, for whoever asks what a token opens.
    pub verifier: Verifier,
    /// Bounds.
    pub limits: ServiceLimits,
    /// Who is signed in on this node.
    pub sessions: Sessions,
    /// How many sessions each user has here.
    pub seats: Seats,
    /// Who reads histories.
    pub turns: Turns,
    /// Owns the tasks that bring late members up to date.
    pub tasks: TaskTracker,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service({:?})", self.0.hub)
    }
}

impl Service {
    /// Puts the verbs together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// How the broker is.
    #[must_use]
    pub fn health(&self) -> crate::broker::Health {
        self.0.broker.health()
    }

    /// Begins a session, before anything it does. It is found by its user first, and its token looked up behind that: a
    /// revocation that is not in the list yet finds it.
    ///
    /// # Errors
    /// When its token has been revoked; it has ended then.
    pub fn begin(&self, session: &Arc<Session>) -> Result<(), Revoked> {
        self.0.sessions.add(session);
        if self.is_revoked(&session.claims()) {
            self.finish(session);
            return Err(Revoked);
        }
        Ok(())
    }

    /// Checks a key.
    ///
    /// # Errors
    /// `invalid-room` when it has no known form.
    pub fn room(&self, key: &str) -> Result<Room, Refusal> {
        self.0.classes.room(key).map_err(|_| Refusal::InvalidRoom)
    }

    /// Checks a key and whether the bearer of `claims` may do this in that room.
    async fn entrance(&self, claims: &Claims, key: &str, action: Action) -> Result<Room, Refusal> {
        let room = self.room(key)?;
        self.0.policy.admits(claims, &room, action).await?;
        Ok(room)
    }

    /// Explains whether a token opens a room.
    pub async fn explain(&self, token: &str, key: &str) -> Explanation {
        let Parts { verifier, classes, policy, .. } = &*self.0;
        let revoked = |claims: &Claims| self.is_revoked(claims);
        Desk { verifier, classes, policy, revoked: &revoked }.explain(token, key).await
    }

    /// Answers, where an answer is wanted.
    pub fn respond(session: &Session, mut answer: Answer, body: &str) {
        answer.give(session, body);
    }
}
