//! A session's membership of one room: which of the room's events are new to it. How it begins is in `service/join.rs`,
//! how one that is behind goes live in `service/catch_up.rs`, what a second copy is in `session/copies.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use hallway_rooms::entry::{Retained, Stamp};
use hallway_rooms::offset::Offset;
use parking_lot::Mutex;

/// What a member gets of a room's live events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberDelivery {
    /// It is being read to from the history, up to here so far: nothing live.
    CatchingUp(Offset),
    /// It has had everything up to here, and gets what is newer.
    Live(Offset),
    /// Nothing any more.
    Left,
}

/// A session's standing in one room.
#[derive(Debug)]
pub struct Membership(Mutex<MembershipState>);

#[derive(Debug)]
struct MembershipState {
    /// Everything that came behind this, up to the standing, has been told.
    since: Offset,
    /// What it gets, and up to where it has had everything: one value, so that both change in one act.
    standing: MemberDelivery,
    /// By key, `latest` events that it was told before they came by the feed; made on first use.
    #[expect(clippy::box_collection, reason = "a node has many memberships, and few of them have any")]
    ahead: Option<Box<HashMap<u64, Offset>>>,
}

impl Membership {
    /// Gets what is newer than `head`, of which nothing has been told.
    #[must_use]
    pub fn receiving_from(head: Offset) -> Arc<Self> {
        Self::with_standing(head, MemberDelivery::Live(head))
    }

    /// Is read to from `sent` on, of which nothing has been told.
    #[must_use]
    pub fn catching_up_from(sent: Offset) -> Arc<Self> {
        Self::with_standing(sent, MemberDelivery::CatchingUp(sent))
    }

    fn with_standing(since: Offset, standing: MemberDelivery) -> Arc<Self> {
        Arc::new(Self(Mutex::new(MembershipState { since, standing, ahead: None })))
    }

    /// Notes that what came behind `since` has been told as well: together with the answer that tells it. Before that an
    /// event in it may still come by another room, and after it no more; were it noted sooner, the event would be held
    /// back there, and what follows it in that room would overtake it.
    pub fn note_sent_since(&self, since: Offset) {
        let mut state = self.0.lock();
        state.since = state.since.min(since);
    }

    /// Its standing right now.
    #[must_use]
    pub fn current_standing(&self) -> MemberDelivery {
        self.0.lock().standing
    }

    /// Changes the standing, unless the room was left: that is for good.
    pub fn change_standing(&self, to: MemberDelivery) {
        let mut state = self.0.lock();
        // A task that still works for a membership that has ended must not bring it back.
        if state.standing != MemberDelivery::Left {
            state.standing = to;
        }
    }

    /// Notes that it was read to up to here. False where it is read to no more.
    pub fn read_to(&self, to: Offset) -> bool {
        let MemberDelivery::CatchingUp(sent) = &mut self.0.lock().standing else { return false };
        *sent = to;
        true
    }

    /// Takes an earlier place, because the broker forgot its newest entries: what it stores next may lie before the old one.
    pub fn rewind_to(&self, to: Offset) {
        if let MemberDelivery::Live(at) = &mut self.0.lock().standing {
            *at = to.min(*at);
        }
    }

    /// Ends it, for a successor at the same place that gets nothing live until it is told to go on. None where the room was
    /// left.
    #[must_use]
    pub fn end_for_successor(&self) -> Option<Arc<Self>> {
        let mut state = self.0.lock();
        let (MemberDelivery::CatchingUp(to) | MemberDelivery::Live(to)) = state.standing else { return None };
        state.standing = MemberDelivery::Left;
        let next =
            MembershipState { since: state.since, standing: MemberDelivery::CatchingUp(to), ahead: state.ahead.take() };
        Some(Arc::new(Self(Mutex::new(next))))
    }

    /// From where on everything came, for one that is told everything behind `place`: this membership may reach that far.
    #[must_use]
    pub fn complete_since(&self, place: Offset) -> Offset {
        let state = self.0.lock();
        match state.standing {
            MemberDelivery::CatchingUp(to) | MemberDelivery::Live(to) if place <= to => state.since.min(place),
            MemberDelivery::CatchingUp(_) | MemberDelivery::Live(_) | MemberDelivery::Left => place,
        }
    }

    /// Ends it for good. Says between which offsets it had everything, if it had not ended before.
    pub(super) fn end_for_good(&self) -> Option<(Offset, Offset)> {
        let mut state = self.0.lock();
        match std::mem::replace(&mut state.standing, MemberDelivery::Left) {
            MemberDelivery::CatchingUp(to) | MemberDelivery::Live(to) => Some((state.since, to)),
            MemberDelivery::Left => None,
        }
    }

    /// Notes `latest` events that it has been told and the feed has yet to bring, older ones of their keys included.
    pub fn set_ahead(&self, stamps: impl Iterator<Item = Stamp>) {
        let mut state = self.0.lock();
        for stamp in stamps {
            let sent = state.ahead.get_or_insert_default().entry(stamp.key).or_default();
            *sent = stamp.at.max(*sent);
        }
    }

    /// Whether an event that the room keeps so is news to it.
    #[must_use]
    pub fn is_news(&self, keep: Retained) -> bool {
        let state = self.0.lock();
        match (state.standing, keep) {
            (MemberDelivery::Live(from), Retained::Stored(link)) => link.offset > from,
            (MemberDelivery::Live(_), Retained::Newest(stamp)) => !state.is_behind(stamp),
            (MemberDelivery::Live(_), Retained::Nothing) => true,
            (MemberDelivery::CatchingUp(_) | MemberDelivery::Left, _) => false,
        }
    }

    /// Whether an event is news to it; if so, it is no longer.
    #[must_use]
    pub fn accept_news(&self, keep: Retained) -> bool {
        let mut state = self.0.lock();
        match (&mut state.standing, keep) {
            (MemberDelivery::Live(to), Retained::Stored(link)) if link.offset > *to => {
                *to = link.offset;
                true
            }
            (MemberDelivery::Live(_), Retained::Newest(stamp)) => state.accept_stamp(stamp),
            // A stored event that is not newer was told; one that is kept nowhere has no past.
            (MemberDelivery::Live(_), Retained::Stored(_) | Retained::Nothing) => keep == Retained::Nothing,
            (MemberDelivery::CatchingUp(_) | MemberDelivery::Left, _) => false,
        }
    }

    /// Takes all that the room stores up to `last` for told, if it gets what is live. Says from where on it was news: there
    /// is some behind that.
    #[must_use]
    #[inline]
    pub fn accept_up_to(&self, last: Offset) -> Option<Offset> {
        match &mut self.0.lock().standing {
            MemberDelivery::Live(to) if *to < last => Some(std::mem::replace(to, last)),
            MemberDelivery::Live(_) | MemberDelivery::CatchingUp(_) | MemberDelivery::Left => None,
        }
    }

    /// Whether it gets what is live and has not had everything up to `last`.
    #[must_use]
    pub fn awaits(&self, last: Offset) -> bool {
        matches!(self.0.lock().standing, MemberDelivery::Live(to) if to < last)
    }

    /// Whether what is at `offset` came since it joined, live or from the history.
    pub(super) fn has_had(&self, offset: Offset) -> bool {
        let state = self.0.lock();
        match state.standing {
            MemberDelivery::CatchingUp(to) | MemberDelivery::Live(to) => state.since < offset && offset <= to,
            MemberDelivery::Left => false,
        }
    }
}

impl MembershipState {
    /// Whether it was told this one, or a newer one of its key.
    fn is_behind(&self, stamp: Stamp) -> bool {
        self.ahead.as_ref().and_then(|ahead| ahead.get(&stamp.key)).is_some_and(|sent| stamp.at <= *sent)
    }

    /// Whether this one is news; from the one that was told on, all of its key are.
    fn accept_stamp(&mut self, stamp: Stamp) -> bool {
        let behind = self.is_behind(stamp);
        if let Some(ahead) = &mut self.ahead
            && ahead.get(&stamp.key).is_some_and(|sent| stamp.at >= *sent)
        {
            ahead.remove(&stamp.key);
            // Memory is given back: few memberships ever have any.
            if ahead.is_empty() {
                self.ahead = None;
            }
        }
        !behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_tells_counts_as_told_from_the_answer_on() {
        let membership = Membership::receiving_from(Offset::first_of_ms(9));
        assert!(!membership.has_had(Offset::first_of_ms(7)), "the answer that tells it is yet to go out");
        membership.note_sent_since(Offset::first_of_ms(5));
        assert!(membership.has_had(Offset::first_of_ms(7)));
        assert_eq!([5, 10].map(|ms| membership.has_had(Offset::first_of_ms(ms))), [false, false]);
        assert_eq!(membership.end_for_good(), Some((Offset::first_of_ms(5), Offset::first_of_ms(9))));
    }

    #[test]
    fn one_that_was_left_is_read_to_no_more() {
        let membership = Membership::catching_up_from(Offset::first_of_ms(5));
        assert!(membership.read_to(Offset::first_of_ms(7)));
        assert_eq!(membership.current_standing(), MemberDelivery::CatchingUp(Offset::first_of_ms(7)));
        membership.change_standing(MemberDelivery::Live(Offset::first_of_ms(8)));
        assert!(!membership.read_to(Offset::first_of_ms(9)), "it hears what is live");
        membership.change_standing(MemberDelivery::Left);
        assert!(!membership.read_to(Offset::first_of_ms(9)));
        assert_eq!(membership.current_standing(), MemberDelivery::Left);
    }

    fn at(ms: u64) -> Offset {
        Offset::first_of_ms(ms)
    }

    #[test]
    fn a_successor_stands_where_it_was_and_hears_nothing_and_the_one_before_ends() {
        let before = Membership::receiving_from(at(3));
        before.set_ahead([Stamp { key: 1, at: at(9) }].into_iter());
        let news = Retained::Stored(hallway_rooms::entry::ChainLink { offset: at(5), prev: at(3) });
        assert!(before.accept_news(news));
        let next = before.end_for_successor().expect("it has not ended");
        assert_eq!(
            (before.current_standing(), next.current_standing()),
            (MemberDelivery::Left, MemberDelivery::CatchingUp(at(5)))
        );
        assert!(before.end_for_successor().is_none() && !next.is_news(Retained::Nothing));
        next.change_standing(MemberDelivery::Live(at(5)));
        assert!(!next.accept_news(news) && !next.is_news(Retained::Newest(Stamp { key: 1, at: at(8) })), "it was told");
        assert!(next.is_news(Retained::Newest(Stamp { key: 2, at: at(8) })));
    }

    #[test]
    fn what_a_live_member_accepts_begins_where_it_stood_and_comes_once() {
        let membership = Membership::receiving_from(at(3));
        assert!(membership.awaits(at(5)));
        assert_eq!([5, 5, 4, 7].map(|last| membership.accept_up_to(at(last))), [Some(at(3)), None, None, Some(at(5))]);
        assert!(!membership.awaits(at(7)));
        for standing in [MemberDelivery::CatchingUp(at(7)), MemberDelivery::Left] {
            membership.change_standing(standing);
            assert!(!membership.awaits(at(9)) && membership.accept_up_to(at(9)).is_none());
        }
    }

    #[test]
    fn what_came_before_counts_where_it_reaches_as_far_as_what_is_told_next() {
        let before = Membership::with_standing(at(3), MemberDelivery::Live(at(7)));
        assert_eq!([1, 3, 5, 7, 8].map(|place| before.complete_since(at(place))), [1, 3, 3, 3, 8].map(at));
        before.change_standing(MemberDelivery::Left);
        assert_eq!(before.complete_since(at(5)), at(5));
    }
}
