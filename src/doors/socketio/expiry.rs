//! Expiry: some time before a token's `exp` its session is told, once, and at `exp` the transport is closed, without `41`,
//! so that the client comes back with a new one.

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

mod told;

use told::{Notice, Told};

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
    table: Mutex<Table>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Table {
    by_time: BTreeMap<Due, Moment>,
    /// By the session's id, of those that have had a notice.
    told: HashMap<u64, Told>,
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
        Self(Arc::new(Moments { lead_ms, table: Mutex::default(), earlier: Notify::new() }))
    }

    /// Tells `session` when its token is about to end, at once if it is, and closes it when it does.
    pub fn watch(&self, session: &Arc<Session>) {
        let expires_ms = session.claims().expires_ms;
        let moment = Moment { session: Arc::downgrade(session), expires_ms, is_notice: self.0.lead_ms > 0 };
        let due = (expires_ms.saturating_sub(self.0.lead_ms), session.id());
        let mut table = self.0.table.lock();
        if session.is_finished() {
            return;
        }
        let first = table.by_time.first_key_value().is_none_or(|(next, _)| due < *next);
        table.by_time.insert(due, moment);
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
        self.0.table.lock().told.remove(&session.id());
    }

    /// A notice that was put off stays, and finds when it is due that its session has gone on or is gone.
    fn strike(&self, id: u64, expires_ms: u64) {
        let mut table = self.0.table.lock();
        table.by_time.remove(&(expires_ms, id));
        table.by_time.remove(&(expires_ms.saturating_sub(self.0.lead_ms), id));
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

    fn see_to(&self, moment: Moment) {
        let Some(session) = moment.session.upgrade() else { return };
        let expires_ms = session.claims().expires_ms;
        if expires_ms <= now_ms() {
            return session.close(Close::TokenExpired);
        }
        if self.schedule(&session, moment, expires_ms) {
            session.notify("auth.expiring", &json!({ "expiresAt": expires_ms }));
        }
    }

    /// Enters what comes next, and says whether the notice of the end is sent now.
    fn schedule(&self, session: &Session, moment: Moment, end_ms: u64) -> bool {
        let id = session.id();
        let mut table = self.0.table.lock();
        if session.is_finished() {
            return false;
        }
        // A token that was renewed since is about to be followed; whether or not, its end is.
        let notice = if moment.is_notice && end_ms == moment.expires_ms {
            table.told.entry(id).or_default().judge(end_ms, now_ms(), Instant::now())
        } else {
            Notice::Never
        };
        if let Notice::At(later_ms) = notice {
            table.by_time.insert((later_ms, id), moment);
        } else {
            table.by_time.insert((end_ms, id), Moment { expires_ms: end_ms, is_notice: false, ..moment });
        }
        notice == Notice::Now
    }
}
