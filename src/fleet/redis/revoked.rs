//! The list of revocations in Redis, and how this node's copy stays as strong as it.
//!
//! The list is a sorted set: each entry by its end, and among them the list's revision, which every change bumps and
//! every message names. A node that hears all revisions in a row has everything. Else (a lost message, a new connection,
//! an emptied Redis) it reads the whole list and writes back what Redis does not have. A list without a revision begins
//! at a random one below zero, so an emptied Redis never looks like the one that was.
//!
//! Ends are held against Redis' clock, which every turn asks for. An entry that is no revocation may have been one, so a list
//! with such a thing in it is not relied on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::{RedisError, cmd, pipe};
use hallway_rooms::revocation::{Mark, Revocation, Revocations};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{RedisFleet, unavailable};
use crate::clock::now_ms;
use crate::fleet::Unavailable;
use crate::fleet::control::{Control, Noted};
use crate::link::remedy;
use crate::logs;

const NOTE: &str = include_str!("revoked.lua");
const REVISION: &str = "revision";
/// The revision of no list: no node can have everything of it, because one that was lost looks the same.
const NONE: i64 = 0;
/// Entries per page read, or per call written: each is a moment of Redis' time, and a message of some ten kilobytes.
const PAGE: usize = 500;
/// Redis keeps what is over for so much longer: tokens are held against a node's own clock, which may be behind.
const KEPT_MS: u64 = 3_600_000;
/// Clocks that are further apart are told of. Tokens are forgiven some seconds.
const APART_MS: u64 = 5000;
/// Revisions are whole numbers from here to zero.
const FIRST_REVISION: f64 = -4_503_599_627_370_496.0;

/// Why this node's copy is not as strong as the list.
enum Lapse {
    Redis(RedisError),
    /// An entry of the list is no revocation.
    Strange(String),
}

impl From<RedisError> for Lapse {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

/// See the module.
pub(super) struct Revoked {
    control: Control,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    revisions: Revisions,
    /// Whose revocation this node has noted and Redis has not taken.
    owed: HashMap<Mark, Revocation>,
}

/// Up to which revision this node has everything.
#[derive(Debug, Default, PartialEq, Eq)]
struct Revisions {
    known: Option<i64>,
    /// The last run of revisions that were heard one after the other.
    heard: Option<(i64, i64)>,
}

impl Revisions {
    fn hear(&mut self, revision: i64) {
        let first = self.heard.filter(|(_, last)| last + 1 == revision).map_or(revision, |(first, _)| first);
        self.heard = Some((first, revision));
        self.join();
    }

    /// Everything up to `revision` was read.
    fn load(&mut self, revision: i64) {
        self.known = Some(revision).filter(|_| revision != NONE);
        self.join();
    }

    fn join(&mut self) {
        if let (Some(known), Some((first, last))) = (self.known, self.heard)
            && first <= known + 1
            && known < last
        {
            self.known = Some(last);
        }
    }

    /// Whether nothing is missing of a list that was at `revision` at some time since `before` was known.
    fn reach(&self, before: Option<i64>, revision: i64) -> bool {
        let (Some(before), Some(known)) = (before, self.known) else { return false };
        known == revision || (before..=known).contains(&revision)
    }
}

impl Revoked {
    pub(super) fn new(most: usize) -> Self {
        Self { control: Control::new(most, false), state: Mutex::default(), wake: Notify::new() }
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// Messages may have been lost, or Redis may be another.
    pub(super) fn mistrust(&self) {
        self.state.lock().revisions = Revisions::default();
        self.wake.notify_one();
    }
}

/// Keeps this node's copy as strong as the list in Redis, and the other way round, for ever.
pub(super) async fn run(fleet: Arc<RedisFleet>, every: Duration) {
    let mut turns = tokio::time::interval(every);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut told, mut generation, mut apart) = (None, 0, false);
    loop {
        tokio::select! {
            _ = turns.tick() => {}
            () = fleet.revoked.wake.notified() => {}
            found = fleet.links.commands.connected_after(generation) => generation = found,
        }
        let problem = turn(&fleet).await.err().map(|lapse| problem(&fleet, lapse));
        compare(&fleet, &mut apart);
        if problem.is_none() {
            fleet.revoked.control.set_loaded();
        } else if fleet.checks.is_up() && problem != told {
            tracing::error!(
                event = logs::REVOCATIONS_UNHEARD,
                problem,
                "this node does not hear of revocations; it is not ready"
            );
            told.clone_from(&problem);
        }
        told = told.filter(|_| problem.is_some());
        fleet.revoked.control.set_problem(problem);
    }
}

/// Told by the log only while Redis can be reached: that it cannot, the probe says.
fn problem(fleet: &RedisFleet, lapse: Lapse) -> String {
    let key = fleet.keys.revoked();
    match lapse {
        Lapse::Redis(error) if remedy::is_wrong_type(&error) => {
            format!("the key {key} holds something else than revocations ({error}); rename or delete it")
        }
        Lapse::Redis(error) => remedy::problem("revocations", &error),
        Lapse::Strange(what) => format!(
            "the key {key} has an entry that is no revocation, and may have been one: {what:?}. Take it out with ZREM {key}, and              revoke again what it was"
        ),
    }
}

/// Says once that this node's clock is wrong, or Redis' is: tokens are held against the one, histories against the other.
fn compare(fleet: &RedisFleet, apart: &mut bool) {
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

async fn turn(fleet: &RedisFleet) -> Result<(), Lapse> {
    pay(fleet).await?;
    let before = fleet.revoked.state.lock().revisions.known;
    let revision = revision(fleet).await?;
    if fleet.revoked.state.lock().revisions.reach(before, revision) {
        return Ok(());
    }
    let stored = load(fleet).await?;
    let over = fleet.revoked.control.over_ms();
    let missing = fleet.revoked.control.beyond(&stored);
    let missing: Vec<_> = missing.into_iter().filter(|one| one.until_ms > over).collect();
    if !missing.is_empty() {
        tracing::info!(
            event = logs::REVOCATIONS_RESTORED,
            missing = missing.len(),
            "telling Redis of revocations that it did not have"
        );
    }
    write(fleet, &missing).await?;
    fleet.revoked.state.lock().revisions.load(revision);
    Ok(())
}

/// Tells Redis what it has not taken yet.
async fn pay(fleet: &RedisFleet) -> Result<(), RedisError> {
    let owed = fleet.revoked.state.lock().owed.clone();
    if owed.is_empty() {
        return Ok(());
    }
    write(fleet, &owed.values().copied().collect::<Vec<_>>()).await?;
    fleet.revoked.state.lock().owed.retain(|mark, owing| owed.get(mark) != Some(owing));
    Ok(())
}

/// The revision of the list; how late it is by Redis' clock is noted with it.
async fn revision(fleet: &RedisFleet) -> Result<i64, RedisError> {
    // Counted from the question on, so that the clock is never behind: a token of this moment counts as issued before.
    let asked = Instant::now();
    let mut both = pipe();
    both.cmd("TIME").cmd("ZSCORE").arg(fleet.keys.revoked()).arg(REVISION);
    let ((seconds, micros), score): ((u64, u64), Option<f64>) = both.query_async(&mut fleet.connection()).await?;
    fleet.revoked.control.set_clock(seconds * 1000 + micros / 1000, asked);
    // What is no revision is that of no list: the whole of it is read until the next revocation puts it right.
    let sound = |score: &f64| *score > FIRST_REVISION && *score < 0.0 && score.fract() == 0.0;
    Ok(score.filter(sound).map_or(NONE, whole))
}

#[expect(clippy::cast_possible_truncation, reason = "revisions and times are whole numbers below 2^53")]
fn whole(score: f64) -> i64 {
    score as i64
}

/// Reads the list page by page into this node's copy, all of it that can be read. What is noted meanwhile is heard of.
async fn load(fleet: &RedisFleet) -> Result<Revocations, Lapse> {
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
        hear_all(fleet, entries);
        cursor = next;
        if cursor == 0 {
            return strange.map_or(Ok(stored), |what| Err(Lapse::Strange(what)));
        }
    }
}

fn stored_entry(what: &[u8], end: f64) -> Option<Revocation> {
    let until_ms = u64::try_from(whole(end)).ok()?;
    Revocation::read(std::str::from_utf8(what).ok()?, until_ms).ok()
}

/// What is over stays out: it would be counted, and told on.
fn hear_all(fleet: &RedisFleet, mut entries: Vec<Revocation>) {
    let over = fleet.revoked.control.over_ms();
    entries.retain(|entry| entry.until_ms > over);
    fleet.revoked.control.hear(&entries);
}

/// An entry for Redis, and what it replaces there.
type Line = (Revocation, Option<Revocation>);

async fn write(fleet: &RedisFleet, revocations: &[Revocation]) -> Result<(), RedisError> {
    for page in revocations.chunks(PAGE) {
        let lines: Vec<Line> = page.iter().map(|revocation| (*revocation, None)).collect();
        note(fleet, &lines).await?;
    }
    Ok(())
}

/// Puts entries into the list and tells every node what of them is news, in one act.
async fn note(fleet: &RedisFleet, lines: &[Line]) -> Result<(), RedisError> {
    let mut call = cmd("EVAL");
    call.arg(NOTE).arg(1).arg(fleet.keys.revoked()).arg(fleet.keys.control());
    call.arg(KEPT_MS).arg(rand::random_range(-(1_i64 << 45)..-(1_i64 << 40)));
    for (revocation, replaced) in lines {
        call.arg(revocation.until_ms).arg(revocation.what());
        call.arg(replaced.map(|replaced| replaced.what()).unwrap_or_default());
    }
    call.query_async(&mut fleet.connection()).await
}

/// Tells Redis, which tells every node.
pub(super) async fn revoke(fleet: &RedisFleet, noted: &Noted) -> Result<(), Unavailable> {
    let Noted { known, before } = *noted;
    fleet.revoked.state.lock().owed.insert(known.mark, known);
    fleet.checks.reachable()?;
    let replaced = before.filter(|before| before.what() != known.what());
    note(fleet, &[(known, replaced)]).await.map_err(|error| unavailable(&error))?;
    fleet.revoked.state.lock().owed.retain(|_, owing| *owing != known);
    Ok(())
}

/// Takes in a message of the channel of all nodes; false when it is none of revocations.
pub(super) fn hear(fleet: &RedisFleet, message: &str) -> bool {
    let mut lines = message.split('\n');
    let revision = lines.next().and_then(|first| first.strip_prefix('r')?.parse().ok());
    let Some(revision) = revision else { return false };
    let entries: Option<Vec<Revocation>> = lines.map(entry).collect();
    let Some(entries) = entries else { return false };
    hear_all(fleet, entries);
    fleet.revoked.state.lock().revisions.hear(revision);
    true
}

fn entry(line: &str) -> Option<Revocation> {
    let (until, what) = line.split_once(' ')?;
    Revocation::read(what, until.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_revisions_in_a_row_are_believed_without_reading() {
        let mut revisions = Revisions::default();
        revisions.hear(-7);
        assert!(!revisions.reach(revisions.known, -7), "nothing was read yet");
        revisions.load(-8);
        assert!(revisions.reach(Some(-8), -7), "what was heard while it was read counts");
        revisions.hear(-6);
        assert!(revisions.reach(Some(-6), -6) && revisions.reach(Some(-7), -7));
        revisions.hear(-4);
        assert!(!revisions.reach(revisions.known, -4), "-5 is missing");
        revisions.load(-5);
        assert!(revisions.reach(Some(-4), -4));
        assert!(!revisions.reach(Some(-4), -9), "a list that begins anew");
        revisions.load(NONE);
        assert!(!revisions.reach(revisions.known, NONE), "a list that is gone");
    }

    #[test]
    fn a_line_is_an_end_and_what_it_is_the_end_of() {
        let revocation = Revocation { mark: Mark(5), before_ms: 6, until_ms: 7 };
        assert_eq!(entry(&format!("7 {}", revocation.what())), Some(revocation));
        assert_eq!(entry(&revocation.what()), None);
    }
}
