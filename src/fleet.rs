//! The fleet: what nodes tell each other besides events. Heartbeats, member counts of rooms, connection counts of users,
//! revocations of tokens, and kicks.
//!
//! The contract, which `tests/fleet_contract.rs` checks for both implementations:
//!
//! - **A counted fleet.** The others know a count as soon as a node has announced it, and believe that of a dead node for no
//!   longer than 30 s.
//! - **Counts block nothing.** While nodes cannot reach each other, each goes on with its own counts.
//! - **A list that lasts.** A revocation is in this node's copy at once, reaches every node's copy in a moment, and stays
//!   there until its end, as long as one node or the store remembers it: what one of them lost comes back from the others.
//!   A copy is read whole before it counts as loaded.
//! - **A kick is asked and answered.** It is not stored: a node that does not receive it does not answer, and the answer says
//!   that not all nodes did.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use hallway_rooms::key::Room;
use hallway_rooms::revocation::SubjectHash;

pub mod alone;
pub mod control;
pub mod redis;

pub use crate::link::Unavailable;
use control::{NotedRevocation, RevocationList};

/// How many connections of a user this node has.
#[derive(Clone, Debug)]
pub struct UserCount {
    /// The user, by any name.
    pub user: Arc<str>,
    /// Connections here.
    pub here: usize,
}

/// How many sessions were kicked on other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KickResult {
    /// The sum of the answers that came in time.
    pub sockets: usize,
    /// Whether every node answered in time.
    pub complete: bool,
}

/// The contract stands at the top of this module.
#[async_trait]
pub trait Fleet: Send + Sync + fmt::Debug {
    /// Announces how many sessions of this node are in each of these rooms, in place of what it announced before.
    async fn announce_sizes(&self, sizes: &[(Room, usize)]) -> Result<(), Unavailable>;

    /// How often the counts of this node were lost so far. After each loss they must be announced again.
    fn forget_count(&self) -> u64;

    /// How many sessions of the other nodes are in a room, as they announced. Fails at once while they are known to be out of
    /// reach.
    async fn members_elsewhere(&self, room: &Room) -> Result<usize, Unavailable>;

    /// Announces how many connections of each of these users this node has, in place of what it announced before. Gives how
    /// many the other nodes have, or none for a user that cannot be counted. Both are one act: of two nodes that announce at
    /// the same moment, one sees the announcement of the other.
    async fn count_users(&self, counts: &[UserCount]) -> Result<Vec<Option<usize>>, Unavailable>;

    /// This node's copy of the list of revocations, and the orders of other nodes.
    fn control(&self) -> &RevocationList;

    /// Announces to every node what was noted in this one's copy ([`RevocationList::add_revocation`]). After a failure it is announced later.
    async fn announce_revocation(&self, noted: &NotedRevocation) -> Result<(), Unavailable>;

    /// Asks the other nodes to kick a user's sessions, and waits a moment for their answers.
    async fn kick_elsewhere(&self, user: SubjectHash) -> Result<KickResult, Unavailable>;

    /// Answers a [`Kick`](control::Kick).
    async fn answer_kick(&self, ticket: &str, sockets: usize) -> Result<(), Unavailable>;

    /// Removes this node from the fleet for good: the others count nothing of it any more.
    async fn leave_fleet(&self) -> Result<(), Unavailable>;
}
