//! The list of revocations in Redis, and how this node's copy is kept as strong as it.
//!
//! The list is a sorted set. Its entries are revocations, scored by their end, and one member whose score is the revision of
//! the list. A change increments the revision and publishes the change with it, in one script (`revoked.lua`). A node that
//! receives all revisions in a row has the whole list. Otherwise (a lost message, a new connection, an emptied Redis) it
//! reads the list, and writes back the entries that Redis lacks. So a list survives as long as Redis or one node has it.
//!
//! A list without a revision begins at a random one below zero, so that the list of an emptied Redis is never mistaken for
//! the one before.
//!
//! The end of a revocation is a time by Redis' clock, which is read with every check of the revision. An unreadable entry may
//! have been a revocation, so a node does not rely on a list that contains one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::{RedisError, cmd, pipe};
use hallway_rooms::revocation::{Revocation, Revocations, SubjectHash};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{RedisFleet, unavailable};
use crate::clock::now_ms;
use crate::fleet::Unavailable;
use crate::fleet::control::{NotedRevocation, RevocationList};
use crate::link::remedy;
use crate::logs;

const NOTE: &str = include_str!("revoked.lua");
const REVISION: &str = "revision";
/// The revision of a list that does not exist. No copy is complete by it, because a list that was lost looks the same.
const NONE: i64 = 0;
/// Entries per page read, or per call written: each is a moment of Redis' time, and a message of some ten kilobytes.
const PAGE: usize = 500;
/// Redis keeps entries for so much longer than they hold: tokens expire by a node's own clock, which may be behind.
const KEPT_MS: u64 = 3_600_000;
/// Clocks that are further apart are logged. Tokens are accepted some seconds after their expiry.
const APART_MS: u64 = 5000;
/// Revisions are whole numbers from here to zero.
const FIRST_REVISION: f64 = -4_503_599_627_370_496.0;

/// Why this node's copy may lack something of the list.
enum ListLapse {
    Redis(RedisError),
    /// An entry of the list is no revocation.
    Strange(String),
}

impl From<RedisError> for ListLapse {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

/// See the module.
pub(super) struct RevocationSync {
    control: RevocationList,
    state: Mutex<SyncState>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct SyncState {
    revisions: Revisions,
    /// Revocations of this node that Redis has not confirmed.
    unannounced: HashMap<SubjectHash, Revocation>,
}

/// Up to which revision this node's copy is complete.
#[derive(Debug, Default, PartialEq, Eq)]
struct Revisions {
    /// The copy is complete up to here; none before the list was read.
    known: Option<i64>,
    /// The first and last of the latest revisions that were received in a row.
    received: Option<(i64, i64)>,
}

impl Revisions {
    fn note_message(&mut self, revision: i64) {
        // A revision that does not follow the last one begins a new row.
        let first = self.received.filter(|(_, last)| last + 1 == revision).map_or(revision, |(first, _)| first);
        self.received = Some((first, revision));
        self.join_ranges();
    }

    /// The list was read, at `revision` or later.
    fn note_loaded(&mut self, revision: i64) {
        self.known = Some(revision).filter(|_| revision != NONE);
        self.join_ranges();
    }

    fn join_ranges(&mut self) {
        // Messages that came while the list was read continue it, if none between the two is missing.
        if let (Some(known), Some((first, last))) = (self.known, self.received)
            && first <= known + 1
            && known < last
        {
            self.known = Some(last);
        }
    }

    /// Whether the copy has the whole list, which was at `revision` at some time since the copy was complete up to `before`.
    fn covers_revision(&self, before: Option<i64>, revision: i64) -> bool {
        let (Some(before), Some(known)) = (before, self.known) else { return false };
        // The copy may have moved on while Redis was asked. A revision outside of that way is of another list.
        known == revision || (before..=known).contains(&revision)
    }
}

impl RevocationSync {
    pub(super) fn new(most: usize) -> Self {
        Self { control: RevocationList::new(most, false), state: Mutex::default(), wake: Notify::new() }
    }

    pub(super) fn control(&self) -> &RevocationList {
        &self.control
    }

    /// Has the list read again: messages may have been lost, or another Redis may answer.
    pub(super) fn require_reload(&self) {
        self.state.lock().revisions = Revisions::default();
        self.wake.notify_one();
    }
}

/// Keeps this node's copy and the list in Redis equal, until the task is cancelled.
pub(super) async fn sync_list(fleet: Arc<RedisFleet>, every: Duration) {
    let mut turns = tokio::time::interval(every);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut announced, mut generation, mut apart) = (None, 0, false);
    loop {
        tokio::select! {
            _ = turns.tick() => {}
            () = fleet.revoked.wake.notified() => {}
            found = fleet.links.commands.connected_after(generation) => generation = found,
        }
        let problem = sync_once(&fleet).await.err().map(|lapse| lapse_problem(&fleet, lapse));
        compare_clocks(&fleet, &mut apart);
        // While Redis is out of reach the probe logs that, and this would be a second line about the same failure.
        if problem.is_none() {
            fleet.revoked.control.set_loaded();
        } else if fleet.checks.is_up() && problem != announced {
            tracing::error!(
                event = logs::REVOCATIONS_UNHEARD,
                problem,
                "this node does not hear of revocations; it is not ready"
            );
            announced.clone_from(&problem);
        }
        announced = announced.filter(|_| problem.is_some());
        fleet.revoked.control.set_problem(problem);
    }
}

/// The failure and its remedy.
fn lapse_problem(fleet: &RedisFleet, lapse: ListLapse) -> String {
    let key = fleet.keys.revoked();
    match lapse {
        ListLapse::Redis(error) if remedy::is_wrong_type(&error) => {
            format!("the key {key} holds something else than revocations ({error}); rename or delete it")
        }
        ListLapse::Redis(error) => remedy::describe_problem("revocations", &error),
        ListLapse::Strange(what) => format!(
            "the key {key} has an entry that is no revocation, and may have been one: {what:?}. Take it out with ZREM {key}, and              revoke again what it was"
        ),
    }
}

/// Logs once that the clocks of this node and of Redis differ: tokens depend on the one, histories on the other.
fn compare_clocks(fleet: &RedisFleet, apart: &mut bool) {
    let Some(shared) = fleet.revoked.control.now_ms() else { return };
    let own = now_ms();
    let differs = own.abs_diff(shared) > APART_MS;
    if differs && !*apart {
        let (seconds, side) = (own.abs_diff(shared) / 1000, if own < shared { "behind" } else { "ahead of" });
        tracing::warn!(
            event = logs::CLOCK_DIFFERS,
            seconds,
            "this node's clock is {side} that of Redis; set the one that is wrong, as tokens are held against this one"
        );
    }
    *apart = differs;
}

/// One check of the list. In the usual case it is one round trip, for the revision.
async fn sync_once(fleet: &RedisFleet) -> Result<(), ListLapse> {
    send_pending(fleet).await?;
    let before = fleet.revoked.state.lock().revisions.known;
    let revision = read_revision(fleet).await?;
    if fleet.revoked.state.lock().revisions.covers_revision(before, revision) {
        return Ok(());
    }
    // Read behind the revision: what is added meanwhile is in the list that is read, or comes as a message.
    let stored = load_list(fleet).await?;
    let over = fleet.revoked.control.over_ms();
    let missing = fleet.revoked.control.missing_from(&stored);
    let missing: Vec<_> = missing.into_iter().filter(|one| one.until_ms > over).collect();
    if !missing.is_empty() {
        tracing::info!(
            event = logs::REVOCATIONS_RESTORED,
            missing = missing.len(),
            "telling Redis of revocations that it did not have"
        );
    }
    write_entries(fleet, &missing).await?;
    fleet.revoked.state.lock().revisions.note_loaded(revision);
    Ok(())
}

/// Writes the revocations that Redis has not confirmed.
async fn send_pending(fleet: &RedisFleet) -> Result<(), RedisError> {
    let unannounced = fleet.revoked.state.lock().unannounced.clone();
    if unannounced.is_empty() {
        return Ok(());
    }
    write_entries(fleet, &unannounced.values().copied().collect::<Vec<_>>()).await?;
    // A stronger one may have been noted meanwhile, which is still to be written.
    fleet.revoked.state.lock().unannounced.retain(|mark, owing| unannounced.get(mark) != Some(owing));
    Ok(())
}

/// The revision of the list. Notes the time of Redis' clock too.
async fn read_revision(fleet: &RedisFleet) -> Result<i64, RedisError> {
    // The reading counts from before the request, so that the clock is never behind: a token of this very moment must count
    // as issued before a revocation.
    let asked = Instant::now();
    let mut both = pipe();
    both.cmd("TIME").cmd("ZSCORE").arg(fleet.keys.revoked()).arg(REVISION);
    let ((seconds, micros), score): ((u64, u64), Option<f64>) = both.query_async(&mut fleet.connection()).await?;
    fleet.revoked.control.set_clock(seconds * 1000 + micros / 1000, asked);
    // An invalid revision counts as none: the whole list is read each time, until the next revocation repairs it.
    let sound = |score: &f64| *score > FIRST_REVISION && *score < 0.0 && score.fract() == 0.0;
    Ok(score.filter(sound).map_or(NONE, whole))
}

#[expect(clippy::cast_possible_truncation, reason = "revisions and times are whole numbers below 2^53")]
fn whole(score: f64) -> i64 {
    score as i64
}

/// Reads the list page by page into this node's copy. An unreadable entry is an error, but only after the rest was read.
async fn load_list(fleet: &RedisFleet) -> Result<Revocations, ListLapse> {
    let (mut stored, mut cursor, mut strange) = (Revocations::default(), 0_u64, None);
    loop {
        let mut scan = cmd("ZSCAN");
        scan.arg(fleet.keys.revoked()).arg(cursor).arg("COUNT").arg(PAGE);
        let (next, page): (u64, Vec<(Vec<u8>, f64)>) = scan.query_async(&mut fleet.connection()).await?;
        let mut entries = Vec::with_capacity(page.len());
        for (what, end) in page.iter().filter(|(what, _)| what != REVISION.as_bytes()) {
            match stored_entry(what, *end) {
                Some(entry) => entries.push(entry),
                None => strange = Some(String::from_utf8_lossy(what).into_owned()),
            }
        }
        entries.iter().for_each(|entry| _ = stored.add(entry));
        // Page by page, so that a revocation takes effect before the last page was read.
        receive_all(fleet, entries);
        cursor = next;
        if cursor == 0 {
            return strange.map_or(Ok(stored), |what| Err(ListLapse::Strange(what)));
        }
    }
}

fn stored_entry(what: &[u8], end: f64) -> Option<Revocation> {
    let until_ms = u64::try_from(whole(end)).ok()?;
    Revocation::from_record(std::str::from_utf8(what).ok()?, until_ms).ok()
}

/// Adds entries to this node's copy. Those that are over stay out: they would be counted, and passed on.
fn receive_all(fleet: &RedisFleet, mut entries: Vec<Revocation>) {
    let over = fleet.revoked.control.over_ms();
    entries.retain(|entry| entry.until_ms > over);
    fleet.revoked.control.merge_remote(&entries);
}

/// An entry for Redis, and what it replaces there.
type RevocationLine = (Revocation, Option<Revocation>);

async fn write_entries(fleet: &RedisFleet, revocations: &[Revocation]) -> Result<(), RedisError> {
    for page in revocations.chunks(PAGE) {
        let lines: Vec<RevocationLine> = page.iter().map(|revocation| (*revocation, None)).collect();
        write_and_announce(fleet, &lines).await?;
    }
    Ok(())
}

/// Puts entries into the list and publishes those that change it, atomically.
async fn write_and_announce(fleet: &RedisFleet, lines: &[RevocationLine]) -> Result<(), RedisError> {
    let mut call = cmd("EVAL");
    call.arg(NOTE).arg(1).arg(fleet.keys.revoked()).arg(fleet.keys.control());
    call.arg(KEPT_MS).arg(rand::random_range(-(1_i64 << 45)..-(1_i64 << 40)));
    for (revocation, replaced) in lines {
        call.arg(revocation.until_ms).arg(revocation.to_record());
        call.arg(replaced.map(|replaced| replaced.to_record()).unwrap_or_default());
    }
    call.query_async(&mut fleet.connection()).await
}

/// Writes a revocation of this node to Redis, which publishes it to every node.
pub(super) async fn announce_revocation(fleet: &RedisFleet, noted: &NotedRevocation) -> Result<(), Unavailable> {
    let NotedRevocation { known, before } = *noted;
    // Before Redis is asked: whatever happens from here on, it is written sooner or later.
    fleet.revoked.state.lock().unannounced.insert(known.mark, known);
    fleet.checks.reachable()?;
    // An entry with a later end replaces the one before under the same name.
    let replaced = before.filter(|before| before.to_record() != known.to_record());
    write_and_announce(fleet, &[(known, replaced)]).await.map_err(|error| unavailable(&error))?;
    fleet.revoked.state.lock().unannounced.retain(|_, owing| *owing != known);
    Ok(())
}

/// Takes a message of the channel of all nodes; false when it is not about revocations.
pub(super) fn handle_revocations(fleet: &RedisFleet, message: &str) -> bool {
    let mut lines = message.split('\n');
    let revision = lines.next().and_then(|first| first.strip_prefix('r')?.parse().ok());
    let Some(revision) = revision else { return false };
    let entries: Option<Vec<Revocation>> = lines.map(parse_entry).collect();
    // One unreadable entry spoils the message. Its revision is then missing in the row, and the list is read.
    let Some(entries) = entries else { return false };
    receive_all(fleet, entries);
    fleet.revoked.state.lock().revisions.note_message(revision);
    true
}

fn parse_entry(line: &str) -> Option<Revocation> {
    let (until, what) = line.split_once(' ')?;
    Revocation::from_record(what, until.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_revisions_in_a_row_are_believed_without_reading() {
        let mut revisions = Revisions::default();
        revisions.note_message(-7);
        assert!(!revisions.covers_revision(revisions.known, -7), "nothing was read yet");
        revisions.note_loaded(-8);
        assert!(revisions.covers_revision(Some(-8), -7), "what was heard while it was read counts");
        revisions.note_message(-6);
        assert!(revisions.covers_revision(Some(-6), -6) && revisions.covers_revision(Some(-7), -7));
        revisions.note_message(-4);
        assert!(!revisions.covers_revision(revisions.known, -4), "-5 is missing");
        revisions.note_loaded(-5);
        assert!(revisions.covers_revision(Some(-4), -4));
        assert!(!revisions.covers_revision(Some(-4), -9), "a list that begins anew");
        revisions.note_loaded(NONE);
        assert!(!revisions.covers_revision(revisions.known, NONE), "a list that is gone");
    }

    #[test]
    fn a_line_is_an_end_and_what_it_is_the_end_of() {
        let revocation = Revocation { mark: SubjectHash(5), before_ms: 6, until_ms: 7 };
        assert_eq!(parse_entry(&format!("7 {}", revocation.to_record())), Some(revocation));
        assert_eq!(parse_entry(&revocation.to_record()), None);
    }
}
