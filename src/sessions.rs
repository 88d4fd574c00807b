//! The sessions of this node, from CONNECT to their end, so that each can be told something.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::session::Session;

/// Every session there is, by its id.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<Mutex<HashMap<u64, Arc<Session>>>>);

impl Sessions {
    /// Counts a session in.
    pub fn add(&self, session: &Arc<Session>) {
        self.0.lock().insert(session.id(), session.clone());
    }

    /// Forgets a session that is gone.
    pub fn remove(&self, session: &Session) {
        let gone = self.0.lock().remove(&session.id());
        drop(gone);
    }

    /// Those there are right now.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.0.lock().values().cloned().collect()
    }
}
