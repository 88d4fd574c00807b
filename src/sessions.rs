//! The sessions of this node, from CONNECT to their end: to notify all of them, and to find those of a user or a token
//! without a scan.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use hallway_rooms::revocation::SubjectHash;
use parking_lot::Mutex;

use crate::auth::subject_hash;
use crate::session::Session;

/// All sessions, indexed by id, user and token. Clones share the table.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<Mutex<SessionTable>>);

#[derive(Debug, Default)]
struct SessionTable {
    /// Every session by its id.
    by_id: HashMap<u64, IndexedSession>,
    /// Session ids by the subject hash of their user, and by that of their token. By a half of each, which makes the index a
    /// half as large; the whole ones stand in `by_id`.
    by_mark: BTreeSet<(u64, u64)>,
}

#[derive(Debug)]
struct IndexedSession {
    /// Strong: a session lives as long as it is listed, or is in use.
    session: Arc<Session>,
    /// The hashes that it is listed under, which its claims may have left behind after a refresh.
    marks: SessionHashes,
}

/// The subject hashes of a session's user, and of its token if that has an id.
type SessionHashes = (SubjectHash, Option<SubjectHash>);

fn hashes_of(session: &Session) -> SessionHashes {
    let identity = subject_hash::of_claims(&session.claims());
    (identity.user, identity.token)
}

/// The half of a subject hash that the index has.
#[expect(clippy::cast_possible_truncation, reason = "the other half is compared where it matters")]
const fn half_of(mark: SubjectHash) -> u64 {
    mark.0 as u64
}

impl SessionTable {
    fn insert_hashes(&mut self, id: u64, marks: SessionHashes) {
        self.by_mark.extend([Some(marks.0), marks.1].into_iter().flatten().map(|mark| (half_of(mark), id)));
    }

    fn remove_hashes(&mut self, id: u64, marks: SessionHashes) {
        for mark in [Some(marks.0), marks.1].into_iter().flatten() {
            self.by_mark.remove(&(half_of(mark), id));
        }
    }
}

impl Sessions {
    /// Adds a session.
    pub fn add(&self, session: &Arc<Session>) {
        let (id, marks) = (session.id(), hashes_of(session));
        let mut table = self.0.lock();
        table.insert_hashes(id, marks);
        table.by_id.insert(id, IndexedSession { session: session.clone(), marks });
    }

    /// Updates the index after a token refresh: the session is found by its present claims only.
    pub fn reindex_session(&self, session: &Session) {
        let (id, marks) = (session.id(), hashes_of(session));
        let mut table = self.0.lock();
        // It ended while its token was verified, and must not be listed again.
        let Some(entry) = table.by_id.get_mut(&id) else { return };
        let before = std::mem::replace(&mut entry.marks, marks);
        table.remove_hashes(id, before);
        table.insert_hashes(id, marks);
    }

    /// Removes a session that has ended.
    pub fn remove(&self, session: &Session) {
        let mut table = self.0.lock();
        let gone = table.by_id.remove(&session.id());
        if let Some(entry) = &gone {
            table.remove_hashes(session.id(), entry.marks);
        }
        // The last reference may go here; its drop must not run under the lock.
        drop(table);
        drop(gone);
    }

    /// Lists all present sessions.
    #[must_use]
    pub fn all_sessions(&self) -> Vec<Arc<Session>> {
        self.0.lock().by_id.values().map(|entry| entry.session.clone()).collect()
    }

    /// Lists the present sessions of a user or a token.
    #[must_use]
    pub fn of_subject(&self, mark: SubjectHash) -> Vec<Arc<Session>> {
        let table = self.0.lock();
        let half = half_of(mark);
        let ids = table.by_mark.range((half, 0)..=(half, u64::MAX)).map(|(_, id)| id);
        let listed = ids.filter_map(|id| table.by_id.get(id));
        // Another subject may have the same half.
        let same = listed.filter(|entry| entry.marks.0 == mark || entry.marks.1 == Some(mark));
        same.map(|entry| entry.session.clone()).collect()
    }
}
