//! The fleet: what nodes tell each other besides events. Heartbeats, member counts of rooms, connection counts of users,
//! revocations of tokens, and kicks.
//!
//! The contract, which `tests/fleet_contract.rs` checks for both implementations:
//!
//! - **A counted fleet.** What nodes tell of their rooms and users is known to the others at once, and the counts of a dead
//!   node are not believed for longer than 30 s.
//! - **Counting stops nothing.** Where nodes cannot reach each other, each goes on with what it knows by itself.
//! - **A list that lasts.** A revocation is in this node's copy at once, reaches every node's copy in a moment, and stays
//!   there until its end, as long as one node or the store remembers it: what one of them lost comes back from the others.
//!   A copy is read whole before it counts as loaded.
//! - **A kick is asked and answered.** It is not stored: a node that does not receive it does not answer, and the answer says
//!   that not all nodes did.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hallway_rooms::key::Room;
use hallway_rooms::revocation::Mark;

pub mod alone;
pub mod control;
pub mod redis;

pub use crate::link::Unavailable;
use control::{Control, Noted};

/// What a node says of one user: the sockets it has here, and how many more ask to come in.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The user, by any name.
    pub user: Arc<str>,
    /// Sockets that are in.
    pub seats: usize,
    /// Sockets that ask.
    pub wants: usize,
}

/// How many sessions were kicked on other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kicked {
    /// As those nodes say that answered in time.
    pub sockets: usize,
    /// Whether every node did.
    pub complete: bool,
}

/// The contract stands at the top of this module.
#[async_trait]
pub trait Fleet: Send + Sync + fmt::Debug {
    /// Tells the other nodes how many sessions of this one are in each of these rooms, in place of what it told before.
    async fn tell_sizes(&self, sizes: &[(Room, usize)]) -> Result<(), Unavailable>;

    /// How often the others have forgotten what this node told of its rooms and users, which must then be told again.
    fn forgotten(&self) -> u64;

    /// How many sessions of the other nodes are in a room, as far as they have told. Fails at once while they are known to be
    /// out of reach.
    async fn others(&self, room: &Room) -> Result<usize, Unavailable>;

    /// Tells the other nodes how many sockets this one has of each of these users, in place of what it told before, and
    /// asks for more of them. The answer is how many it may have: `seats`, and as many of `wants` as `cap` leaves beside
    /// those of the other nodes. Count and answer are one act, so that nodes that ask at once are never given more
    /// together. Nothing where that cannot be said of one user.
    async fn seat(&self, asks: &[Ask], cap: usize) -> Result<Vec<Option<usize>>, Unavailable>;

    /// This node's copy of what is revoked, and what other nodes ask of it.
    fn control(&self) -> &Control;

    /// Tells every node of what was noted in this one's copy ([`Control::note`]). What cannot be told is told later.
    async fn revoke(&self, noted: &Noted) -> Result<(), Unavailable>;

    /// Asks the other nodes to kick a user's sessions, and waits a moment for their answers.
    async fn kick(&self, user: Mark) -> Result<Kicked, Unavailable>;

    /// Answers what came as a [`Kick`](control::Kick).
    async fn answer(&self, ticket: &str, sockets: usize) -> Result<(), Unavailable>;

    /// Takes this node out of the fleet for good: nothing it told counts any more.
    async fn resign(&self) -> Result<(), Unavailable>;
}
