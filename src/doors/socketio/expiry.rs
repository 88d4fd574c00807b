//! Token expiry: some time before a token's `exp` its session gets one notice, and at `exp` the transport is closed. It
//! gets no `41`, so that the client reconnects with a fresh token.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hallway_rooms::close::Close;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::session::Session;

mod notices;

use notices::{Notice, SentNotice};

/// The longest sleep: the wall clock may be set meanwhile, which a timer does not notice.
const LONGEST: Duration = Duration::from_secs(10);
/// Sessions handled before other tasks get a turn.
const AT_ONCE: usize = 128;

/// When a moment is due, in milliseconds since the Unix epoch, and the session's id.
type DueAt = (u64, u64);

/// The next notice or expiry of every session, on one timer.
#[derive(Clone, Debug)]
pub struct Expiry(Arc<ExpiryMoments>);

#[derive(Debug)]
struct ExpiryMoments {
    /// Milliseconds between the notice and the expiry; 0 for no notices.
    lead_ms: u64,
    /// What is scheduled.
    table: Mutex<ExpiryTable>,
    /// Wakes the timer when a moment comes before the one that it sleeps for.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct ExpiryTable {
    /// The next moment of each session. A notice that was put off may stay beside it after a refresh, until it is due.
    by_time: BTreeMap<DueAt, ExpiryMoment>,
    /// Notices sent, by session id; only of sessions that had one.
    notices: HashMap<u64, SentNotice>,
}

/// A notice or an expiry that is scheduled.
#[derive(Clone, Debug)]
struct ExpiryMoment {
    /// Weak: a schedule must not keep a finished session alive.
    session: Weak<Session>,
    /// The expiry of the token for which this was scheduled; a session may have refreshed since.
    expires_ms: u64,
    /// Whether this is the notice; otherwise it is the expiry.
    is_notice: bool,
}

impl Expiry {
    /// Makes a timer that sends a notice `lead` before each expiry, or none when `lead` is zero.
    #[must_use]
    pub fn new(lead: Duration) -> Self {
        let lead_ms = u64::try_from(lead.as_millis()).unwrap_or(u64::MAX);
        Self(Arc::new(ExpiryMoments { lead_ms, table: Mutex::default(), earlier: Notify::new() }))
    }

    /// Schedules the notice and then the end of `session`. A notice whose time has passed is sent at once.
    pub fn watch_session(&self, session: &Arc<Session>) {
        let expires_ms = session.claims().expires_ms;
        let moment = ExpiryMoment { session: Arc::downgrade(session), expires_ms, is_notice: self.0.lead_ms > 0 };
        let due = (expires_ms.saturating_sub(self.0.lead_ms), session.id());
        let mut table = self.0.table.lock();
        // Checked under the table's lock: the end of a session sets this first and then takes the lock to remove the
        // entry, so no entry is left behind.
        if session.is_finished() {
            return;
        }
        let first = table.by_time.first_key_value().is_none_or(|(next, _)| due < *next);
        table.by_time.insert(due, moment);
        // Only an earlier moment than the one slept for is news to the timer.
        if first {
            self.0.earlier.notify_one();
        }
    }

    /// Reschedules a session after a token refresh; `before_ms` was the expiry of its old token.
    pub fn reschedule_session(&self, session: &Arc<Session>, before_ms: u64) {
        self.remove_moments(session.id(), before_ms);
        self.watch_session(session);
    }

    /// Removes a session that has ended.
    pub fn forget(&self, session: &Session) {
        self.remove_moments(session.id(), session.claims().expires_ms);
        self.0.table.lock().notices.remove(&session.id());
    }

    /// Removes the moments of one expiry. A notice that was put off stays under its own time; when it is due it finds
    /// that its session has another expiry or is gone.
    fn remove_moments(&self, id: u64, expires_ms: u64) {
        let mut table = self.0.table.lock();
        table.by_time.remove(&(expires_ms, id));
        table.by_time.remove(&(expires_ms.saturating_sub(self.0.lead_ms), id));
    }

    /// Sends notices and closes sessions until `stop`.
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

    /// Takes moments that are due, at most [`AT_ONCE`]. If more are due, the next sleep has no length.
    fn take_due(&self, now_ms: u64) -> Vec<ExpiryMoment> {
        let (mut table, mut due) = (self.0.table.lock(), Vec::new());
        while let Some(next) = table.by_time.first_entry() {
            if next.key().0 > now_ms || due.len() == AT_ONCE {
                break;
            }
            due.push(next.remove());
        }
        due
    }

    fn until_next(&self, now_ms: u64) -> Duration {
        let table = self.0.table.lock();
        let next = table.by_time.first_key_value();
        let next = next.map(|((at_ms, _), _)| Duration::from_millis(at_ms.saturating_sub(now_ms)));
        next.map_or(LONGEST, |wait| wait.min(LONGEST))
    }

    fn see_to(&self, moment: ExpiryMoment) {
        let Some(session) = moment.session.upgrade() else { return };
        let expires_ms = session.claims().expires_ms;
        // By the session's current token: it may have been refreshed since this was scheduled.
        if expires_ms <= now_ms() {
            return session.close_transport(Close::TokenExpired);
        }
        if self.schedule_next(&session, moment, expires_ms) {
            session.send_notice("auth.expiring", &json!({ "expiresAt": expires_ms }));
        }
    }

    /// Schedules the next moment. True when the notice is to be sent now.
    fn schedule_next(&self, session: &Session, moment: ExpiryMoment, end_ms: u64) -> bool {
        let id = session.id();
        let mut table = self.0.table.lock();
        // As in `watch`.
        if session.is_finished() {
            return false;
        }
        // A notice is for the expiry that it was scheduled for. After a refresh the session is rescheduled by `follow`;
        // the current expiry is scheduled here in any case.
        let notice = if moment.is_notice && end_ms == moment.expires_ms {
            table.notices.entry(id).or_default().judge_notice(end_ms, now_ms(), Instant::now())
        } else {
            Notice::Never
        };
        if let Notice::At(later_ms) = notice {
            table.by_time.insert((later_ms, id), moment);
        } else {
            table.by_time.insert((end_ms, id), ExpiryMoment { expires_ms: end_ms, is_notice: false, ..moment });
        }
        notice == Notice::Now
    }
}
