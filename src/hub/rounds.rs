//! Rounds: the fan-outs that are under way take turns, a slice each.
//!
//! **The problem.** An event of 60 KB for five thousand members is a tenth of a second of work. What comes meanwhile for
//! a room of ten must not wait for it. But one session may be in both rooms, and it is to get all of its events in the
//! order of the feed: else an event of two rooms would overtake what came before it in one of them, and an answer to an
//! event would come before the event.
//!
//! **The rule.** The dispatch judges an entry and moves the positions of its rooms at once, in the order of the feed. What is
//! then to be delivered makes a fan-out, and those that have not ended are listed in that order.
//!
//! 1. A fan-out waits while an earlier one has yet to serve members of one of its rooms. The others take turns: one slice of
//!    members, then the next fan-out; between two slices the dispatch takes what the feed has. One that need not wait has its
//!    first slice at once, so that what is small is done before the next turn. Within a fan-out of several rooms the members
//!    of the smaller ones come first.
//! 2. Before a session is given something, it is given what it has yet to get of all earlier fan-outs in the list, whether
//!    they have begun or not. Its own turn in them then finds that it has had everything.
//! 3. When the last member of a room has had the events of a fan-out, the room is marked as served up to these.
//!
//! **Why it is right**, for a session in the rooms of an event:
//!
//! - *Order.* Whatever is pushed to it was preceded, in the same step, by all that is earlier in the list, oldest first (2). What
//!   is not in the list has ended. So its events come as if each fan-out had been completed before the next one, which also
//!   keeps what `session/copies.rs` says of copies: an earlier one has come when a later one is looked at.
//! - *Once.* A batch has stored events only. A membership knows by its standing what it has had of them, and a second push of
//!   the same finds nothing new.
//! - *A join meanwhile* finds the position moved, as during a delivery in one go: it begins behind these events, or catches up
//!   with them from the history. *A pause or leave* ends the membership, and what it did not get is behind its end.
//! - *`served`.* No later fan-out is done with a room before an earlier one (1). Whatever else is delivered in the room
//!   meanwhile, in one go, was preceded for each of its members by all that is in the list (2).
//! - *Progress.* The first of the list waits for none. A session gets each event of a fan-out once, so what is done early
//!   is not done again: a round costs a look at each member more, and only while something is under way.
//!
//! **A room that is set back** (`dispatch/heal.rs`) takes its members' standings with it, and what is under way would move
//! them forward again. So all fan-outs are completed before that.
//!
//! **Bounds.** The list has [`UNDER_WAY`] fan-outs at most; then the feed waits in its channel until one of them ends. Each has
//! no more than a batch may have. What is part of no batch (`deliver.rs`) is delivered in one go, and the others wait for it.
//!
//! **Example.** A1 goes to room A of 5,000; after the first slice B1 comes for room B of ten. Nine of them are only in B and
//! get B1. Ann is in both, and her slot in A is the last: she gets A1, then B1. A2 comes and waits for A1. The last slice
//! finds that Ann has had A1, A is served up to A1, and A2 begins.

use super::fan_out::FanOut;
use super::outgoing::DeliveryCounters;
use crate::session::Session;

/// Fan-outs under way: some large rooms at once, and few enough that a look at all of them costs less than a push.
const UNDER_WAY: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// In the order of the feed.
    under_way: Vec<FanOut>,
    /// Which one is next, if it waits for none.
    turn: usize,
}

impl Rounds {
    /// Whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether another fan-out may begin.
    pub(super) fn has_place(&self) -> bool {
        self.under_way.len() < UNDER_WAY
    }

    /// Begins a fan-out, unless it has to wait for an earlier one. True when that served a slice and members are left.
    pub(super) fn begin_fan_out(&mut self, fan_out: FanOut, counts: &DeliveryCounters) -> bool {
        self.under_way.push(fan_out);
        let at = self.under_way.len() - 1;
        !self.under_way[at].is_waiting() && self.serve_slice(at, counts)
    }

    /// Serves a slice of the next fan-out that waits for none.
    pub(super) fn serve_next(&mut self, counts: &DeliveryCounters) {
        let all = self.under_way.len();
        let next = (self.turn..all).chain(0..self.turn.min(all)).find(|at| !self.under_way[*at].is_waiting());
        if let Some(at) = next {
            self.turn = at + 1;
            self.serve_slice(at, counts);
        }
    }

    /// Completes all of them.
    pub(super) fn complete_all(&mut self, counts: &DeliveryCounters) {
        while !self.is_empty() {
            self.serve_slice(0, counts);
        }
    }

    /// Gives a session what it has yet to get of all that is under way, because it is to get something that came after.
    #[inline]
    pub(super) fn serve_session(&mut self, session: &Session, counts: &DeliveryCounters) {
        self.under_way.iter_mut().for_each(|fan_out| fan_out.serve_session(session, counts));
    }

    /// True when members are left.
    fn serve_slice(&mut self, at: usize, counts: &DeliveryCounters) -> bool {
        let (before, rest) = self.under_way.split_at_mut(at);
        let more = rest[0].serve_slice(before, counts);
        if !more {
            self.under_way.remove(at);
            // Those behind it have moved up.
            self.turn -= usize::from(at < self.turn);
        }
        more
    }
}

#[cfg(test)]
mod tests;
