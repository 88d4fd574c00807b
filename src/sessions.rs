//! The sessions of this node, from CONNECT to their end, so that each can be told something, and those of a user or a
//! token be found without a look at all.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use hallway_rooms::revocation::Mark;
use parking_lot::Mutex;

use crate::auth::mark;
use crate::session::Session;

/// Every session there is, by its id, and by its user and its token.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<u64, Seat>,
    by_mark: BTreeSet<(Mark, u64)>,
}

#[derive(Debug)]
struct Seat {
    session: Arc<Session>,
    marks: Marks,
}

/// Of a session's user, and of its token where that has an id.
type Marks = (Mark, Option<Mark>);

fn marks(session: &Session) -> Marks {
    let shown = mark::shown(&session.claims());
    (shown.user, shown.token)
}

impl Table {
    fn list(&mut self, id: u64, marks: Marks) {
        self.by_mark.extend([Some(marks.0), marks.1].into_iter().flatten().map(|mark| (mark, id)));
    }

    fn strike(&mut self, id: u64, marks: Marks) {
        for mark in [Some(marks.0), marks.1].into_iter().flatten() {
            self.by_mark.remove(&(mark, id));
        }
    }
}

impl Sessions {
    /// Counts a session in.
    pub fn add(&self, session: &Arc<Session>) {
        let (id, marks) = (session.id(), marks(session));
        let mut table = self.0.lock();
        table.list(id, marks);
        table.by_id.insert(id, Seat { session: session.clone(), marks });
    }

    /// Finds a session by the claims that it has, not by those that it had.
    pub fn relist(&self, session: &Session) {
        let (id, marks) = (session.id(), marks(session));
        let mut table = self.0.lock();
        let Some(seat) = table.by_id.get_mut(&id) else { return };
        let before = std::mem::replace(&mut seat.marks, marks);
        table.strike(id, before);
        table.list(id, marks);
    }

    /// Forgets a session that is gone.
    pub fn remove(&self, session: &Session) {
        let mut table = self.0.lock();
        let gone = table.by_id.remove(&session.id());
        if let Some(seat) = &gone {
            table.strike(session.id(), seat.marks);
        }
        drop(table);
        drop(gone);
    }

    /// Those there are right now.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.0.lock().by_id.values().map(|seat| seat.session.clone()).collect()
    }

    /// Those of a user or a token right now.
    #[must_use]
    pub fn of(&self, mark: Mark) -> Vec<Arc<Session>> {
        let table = self.0.lock();
        let ids = table.by_mark.range((mark, 0)..=(mark, u64::MAX)).map(|(_, id)| id);
        ids.filter_map(|id| Some(table.by_id.get(id)?.session.clone())).collect()
    }
}
