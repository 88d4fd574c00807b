//! Expiry: at a token's `exp` the transport is closed, without `41`, so that the client comes back with a new one.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hallway_rooms::close::Close;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::session::Session;

/// The longest sleep: the wall clock may be set meanwhile.
const LONGEST: Duration = Duration::from_secs(10);

/// When a session ends, and which.
type End = (u64, u64);

/// Every session's end, on one timer.
#[derive(Clone, Debug, Default)]
pub struct Expiry(Arc<Ends>);

#[derive(Debug, Default)]
struct Ends {
    by_time: Mutex<BTreeMap<End, Weak<Session>>>,
    earlier: Notify,
}

fn end_of(session: &Session) -> End {
    (session.claims().expires_ms, session.id())
}

impl Expiry {
    /// Closes `session` when its token ends.
    pub fn watch(&self, session: &Arc<Session>) {
        let mut by_time = self.0.by_time.lock();
        if session.is_finished() {
            return;
        }
        let end = end_of(session);
        let first = by_time.first_key_value().is_none_or(|(next, _)| end < *next);
        by_time.insert(end, Arc::downgrade(session));
        if first {
            self.0.earlier.notify_one();
        }
    }

    /// Follows a session whose token was renewed; the old one was to end at `before_ms`.
    pub fn follow(&self, session: &Arc<Session>, before_ms: u64) {
        self.0.by_time.lock().remove(&(before_ms, session.id()));
        self.watch(session);
    }

    /// Forgets a session that is gone.
    pub fn forget(&self, session: &Session) {
        let mut by_time = self.0.by_time.lock();
        by_time.remove(&end_of(session));
    }

    /// Closes sessions until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            let wait = self.close_due(now_ms());
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.earlier.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Closes what is due and says how long until the next.
    fn close_due(&self, now_ms: u64) -> Duration {
        let mut by_time = self.0.by_time.lock();
        while let Some(next) = by_time.first_entry() {
            let (at_ms, _) = *next.key();
            if at_ms > now_ms {
                return Duration::from_millis(at_ms - now_ms).min(LONGEST);
            }
            let Some(session) = next.remove().upgrade() else { continue };
            let renewed = end_of(&session);
            if renewed.0 <= now_ms {
                session.close(Close::TokenExpired);
            } else if !session.is_finished() {
                by_time.insert(renewed, Arc::downgrade(&session));
            }
        }
        LONGEST
    }
}
