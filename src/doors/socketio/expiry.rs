//! Expiry: some time before a token's `exp` its session is told, once, and at `exp` the transport is closed, without `41`,
//! so that the client comes back with a new one.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hallway_rooms::close::Close;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::session::Session;

/// The longest sleep: the wall clock may be set meanwhile.
const LONGEST: Duration = Duration::from_secs(10);
/// Sessions seen to before other tasks get a turn.
const AT_ONCE: usize = 128;

/// When something is due, and for which session.
type Due = (u64, u64);

/// Every session's next moment, on one timer.
#[derive(Clone, Debug)]
pub struct Expiry(Arc<Moments>);

#[derive(Debug)]
struct Moments {
    lead_ms: u64,
    by_time: Mutex<BTreeMap<Due, Moment>>,
    earlier: Notify,
}

/// What is due: the notice, or the end.
#[derive(Clone, Debug)]
struct Moment {
    session: Weak<Session>,
    /// Of the token that was watched.
    expires_ms: u64,
    is_notice: bool,
}

impl Expiry {
    /// Tells sessions `lead` before their end; not at all when it is zero.
    #[must_use]
    pub fn new(lead: Duration) -> Self {
        let lead_ms = u64::try_from(lead.as_millis()).unwrap_or(u64::MAX);
        Self(Arc::new(Moments { lead_ms, by_time: Mutex::default(), earlier: Notify::new() }))
    }

    /// Tells `session` when its token is about to end, at once if it is, and closes it when it does.
    pub fn watch(&self, session: &Arc<Session>) {
        let expires_ms = session.claims().expires_ms;
        let moment = Moment { session: Arc::downgrade(session), expires_ms, is_notice: self.0.lead_ms > 0 };
        let due = (expires_ms.saturating_sub(self.0.lead_ms), session.id());
        let mut by_time = self.0.by_time.lock();
        if session.is_finished() {
            return;
        }
        let first = by_time.first_key_value().is_none_or(|(next, _)| due < *next);
        by_time.insert(due, moment);
        if first {
            self.0.earlier.notify_one();
        }
    }

    /// Follows a session whose token was renewed; the old one was to end at `before_ms`.
    pub fn follow(&self, session: &Arc<Session>, before_ms: u64) {
        self.strike(session.id(), before_ms);
        self.watch(session);
    }

    /// Forgets a session that is gone.
    pub fn forget(&self, session: &Session) {
        self.strike(session.id(), session.claims().expires_ms);
    }

    fn strike(&self, id: u64, expires_ms: u64) {
        let mut by_time = self.0.by_time.lock();
        by_time.remove(&(expires_ms, id));
        by_time.remove(&(expires_ms.saturating_sub(self.0.lead_ms), id));
    }

    /// Tells and closes sessions until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            self.take_due(now_ms()).into_iter().for_each(|moment| self.see_to(moment));
            let wait = self.until_next(now_ms());
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.earlier.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Some of what is due.
    fn take_due(&self, now_ms: u64) -> Vec<Moment> {
        let (mut by_time, mut due) = (self.0.by_time.lock(), Vec::new());
        while let Some(next) = by_time.first_entry() {
            if next.key().0 > now_ms || due.len() == AT_ONCE {
                break;
            }
            due.push(next.remove());
        }
        due
    }

    fn until_next(&self, now_ms: u64) -> Duration {
        let by_time = self.0.by_time.lock();
        let next = by_time.first_key_value().map(|((at_ms, _), _)| Duration::from_millis(at_ms.saturating_sub(now_ms)));
        next.map_or(LONGEST, |wait| wait.min(LONGEST))
    }

    fn see_to(&self, moment: Moment) {
        let Some(session) = moment.session.upgrade() else { return };
        let expires_ms = session.claims().expires_ms;
        if expires_ms <= now_ms() {
            return session.close(Close::TokenExpired);
        }
        // A token that was renewed since is about to be followed; whether or not, its end is.
        if moment.is_notice && expires_ms == moment.expires_ms {
            session.notify("auth.expiring", &json!({ "expiresAt": expires_ms }));
        }
        let end = Moment { expires_ms, is_notice: false, ..moment };
        let mut by_time = self.0.by_time.lock();
        if !session.is_finished() {
            by_time.insert((expires_ms, session.id()), end);
        }
    }
}
