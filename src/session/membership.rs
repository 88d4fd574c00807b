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
        let ahead: HashMap<u64, Offset> = stamps.map(|stamp| (stamp.key, stamp.at)).collect();
        self.state.lock().ahead = (!ahead.is_empty()).then(|| Box::new(ahead));
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
