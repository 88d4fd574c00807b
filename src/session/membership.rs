//! A session's standing in one room: what of its events is news to it.

use std::collections::HashMap;
use std::sync::Arc;

use hallway_rooms::entry::{Keep, Stamp};
use hallway_rooms::offset::Offset;
use parking_lot::Mutex;

/// What a member gets of a room's live events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is being read to from the history, up to here so far: nothing live.
    CatchingUp(Offset),
    /// It has had everything up to here, and gets what is newer.
    Live(Offset),
    /// Nothing any more.
    Left,
}

/// A session's standing in one room.
#[derive(Debug)]
pub struct Membership {
    since: Offset,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    standing: Standing,
    /// By key, `latest` events that it was told before they came by the feed; made on first use.
    #[expect(clippy::box_collection, reason = "a node has many memberships, and few of them have any")]
    ahead: Option<Box<HashMap<u64, Offset>>>,
}

impl Membership {
    /// Begins with a standing. Everything that came behind `since` up to there has been told.
    #[must_use]
    pub fn begin(since: Offset, standing: Standing) -> Arc<Self> {
        Arc::new(Self { since, state: Mutex::new(State { standing, ahead: None }) })
    }

    /// Begins at the offset that the client is told, with nothing missing.
    #[must_use]
    pub fn live(since: Offset) -> Arc<Self> {
        Self::begin(since, Standing::Live(since))
    }

    /// Its standing right now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.state.lock().standing
    }

    /// Changes the standing, unless the room was left: that is for good.
    pub fn set(&self, to: Standing) {
        let mut state = self.state.lock();
        if state.standing != Standing::Left {
            state.standing = to;
        }
    }

    /// Takes an earlier place, because the broker forgot its newest entries: what it stores next may lie before the old one.
    pub fn rewind(&self, to: Offset) {
        if let Standing::Live(at) = &mut self.state.lock().standing {
            *at = to.min(*at);
        }
    }

    /// Ends it, for a successor at the same place that gets nothing live until it is told to go on. None where the room was
    /// left.
    #[must_use]
    pub fn succeed(&self) -> Option<Arc<Self>> {
        let mut state = self.state.lock();
        let (Standing::CatchingUp(to) | Standing::Live(to)) = state.standing else { return None };
        state.standing = Standing::Left;
        let next = State { standing: Standing::CatchingUp(to), ahead: state.ahead.take() };
        Some(Arc::new(Self { since: self.since, state: Mutex::new(next) }))
    }

    /// From where on everything came, for one that is told everything behind `place`: this membership may reach that far.
    #[must_use]
    pub fn since(&self, place: Offset) -> Offset {
        match self.standing() {
            Standing::CatchingUp(to) | Standing::Live(to) if place <= to => self.since.min(place),
            Standing::CatchingUp(_) | Standing::Live(_) | Standing::Left => place,
        }
    }

    /// Ends it for good. Says between which offsets it had everything, if it had not ended before.
    pub(super) fn leave(&self) -> Option<(Offset, Offset)> {
        let before = std::mem::replace(&mut self.state.lock().standing, Standing::Left);
        match before {
            Standing::CatchingUp(to) | Standing::Live(to) => Some((self.since, to)),
            Standing::Left => None,
        }
    }

    /// Notes `latest` events that it has been told and the feed has yet to bring, older ones of their keys included.
    pub fn set_ahead(&self, stamps: impl Iterator<Item = Stamp>) {
        let mut state = self.state.lock();
        for stamp in stamps {
            let told = state.ahead.get_or_insert_default().entry(stamp.key).or_default();
            *told = stamp.at.max(*told);
        }
    }

    /// Whether an event that the room keeps so is news to it.
    #[must_use]
    pub fn hears(&self, keep: Keep) -> bool {
        let state = self.state.lock();
        match (state.standing, keep) {
            (Standing::Live(from), Keep::Stored(link)) => link.offset > from,
            (Standing::Live(_), Keep::Newest(stamp)) => !state.is_behind(stamp),
            (Standing::Live(_), Keep::Nothing) => true,
            (Standing::CatchingUp(_) | Standing::Left, _) => false,
        }
    }

    /// Whether an event is news to it; if so, it is no longer.
    #[must_use]
    pub fn hear(&self, keep: Keep) -> bool {
        let mut state = self.state.lock();
        match (&mut state.standing, keep) {
            (Standing::Live(to), Keep::Stored(link)) if link.offset > *to => {
                *to = link.offset;
                true
            }
            (Standing::Live(_), Keep::Newest(stamp)) => state.reaches(stamp),
            (Standing::Live(_), Keep::Stored(_) | Keep::Nothing) => keep == Keep::Nothing,
            (Standing::CatchingUp(_) | Standing::Left, _) => false,
        }
    }

    /// Whether what is at `offset` came since it joined, live or from the history.
    pub(super) fn has_had(&self, offset: Offset) -> bool {
        match self.standing() {
            Standing::CatchingUp(to) | Standing::Live(to) => self.since < offset && offset <= to,
            Standing::Left => false,
        }
    }
}

impl State {
    /// Whether it was told this one, or a newer one of its key.
    fn is_behind(&self, stamp: Stamp) -> bool {
        self.ahead.as_ref().and_then(|ahead| ahead.get(&stamp.key)).is_some_and(|told| stamp.at <= *told)
    }

    /// Whether this one is news; from the one that was told on, all of its key are.
    fn reaches(&mut self, stamp: Stamp) -> bool {
        let behind = self.is_behind(stamp);
        if let Some(ahead) = &mut self.ahead
            && ahead.get(&stamp.key).is_some_and(|told| stamp.at >= *told)
        {
            ahead.remove(&stamp.key);
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

    fn at(ms: u64) -> Offset {
        Offset::at(ms)
    }

    #[test]
    fn a_successor_stands_where_it_was_and_hears_nothing_and_the_one_before_ends() {
        let before = Membership::live(at(3));
        before.set_ahead([Stamp { key: 1, at: at(9) }].into_iter());
        let news = Keep::Stored(hallway_rooms::entry::Link { offset: at(5), prev: at(3) });
        assert!(before.hear(news));
        let next = before.succeed().expect("it has not ended");
        assert_eq!((before.standing(), next.standing()), (Standing::Left, Standing::CatchingUp(at(5))));
        assert!(before.succeed().is_none() && !next.hears(Keep::Nothing));
        next.set(Standing::Live(at(5)));
        assert!(!next.hear(news) && !next.hears(Keep::Newest(Stamp { key: 1, at: at(8) })), "it was told");
        assert!(next.hears(Keep::Newest(Stamp { key: 2, at: at(8) })));
    }

    #[test]
    fn what_came_before_counts_where_it_reaches_as_far_as_what_is_told_next() {
        let before = Membership::begin(at(3), Standing::Live(at(7)));
        assert_eq!([1, 3, 5, 7, 8].map(|place| before.since(at(place))), [1, 3, 3, 3, 8].map(at));
        before.set(Standing::Left);
        assert_eq!(before.since(at(5)), at(5));
    }
}
