//! Catching up: a member that missed more than a page, or whose rooms moved on while they were read, gets the rest from
//! the histories as ordinary events, in order, and then goes live without a seam.
//!
//! **The problem.** The member reads while others publish. The end of a read is never certain to be the end of the
//! room, and an event of two of its rooms may be in the history of one and live in the other.
//!
//! **The rule.** Rooms that were joined in one command catch up as one:
//!
//! 1. Nothing comes live from them: their standing is [`Standing::CatchingUp`].
//! 2. Each is read page by page and the pages are merged (`rooms/src/merge.rs`). What was sent is noted in the
//!    membership in the same act as the push.
//! 3. When everything read has gone, the locks of all the rooms are taken, in the order of their keys. If no position
//!    is newer than what was sent of its room, all go live at once. Otherwise those that moved are read on.
//!
//! **Why it is right**, for an event at offset `e`, with `told` the end of what was sent and `at` the position, both
//! under the locks:
//!
//! - *`e` ≤ `told`:* it was sent. Should the hub come to it only now, the membership has that offset and drops it.
//! - *`told` < `e` ≤ `at`:* the hub has passed it and this member received nothing. So `at` > `told`, the room does not
//!   go live, and the next read has it.
//! - *`e` > `at`:* the hub moves to it under the lock, after the member went live, and finds it.
//!
//! With several rooms the merge keeps `told` a cut: an event is on the same side of it in each of its rooms, so the
//! three cases give the same answer in all of them. That is why they go live in one act, and none before the others.
//!
//! **Example.** The member has 9-0, the room is at 11-0. The read brings 10-0 and 11-0; they are sent, `told` is 11-0.
//! Under the lock the position is 12-0: not live yet. The read after 11-0 brings 12-0. The position is still 12-0: live
//! from there.
//!
//! **Faults.** A history that does not reach back to `told` costs the transport. A read that fails waits for the
//! broker; if the broker is well and the room stays unreadable for as long as a join may wait, the transport is closed,
//! because the member would not be receiving and not know it. A slow peer is read for only when its outbox has room. A
//! room that was left or joined anew drops out of the task.

use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::close::Close;
use hallway_rooms::entry::Place;
use hallway_rooms::merge::{Next, Told};
use tokio::time::Instant;

use super::current::Current;
use super::reader::Reader;
use super::turns::Turn;
use super::{Service, page};
use crate::broker::Shared;
use crate::hub::Watch;
use crate::session::copies::comes_one_way;
use crate::session::{Membership, Session, Standing};

/// A member that is behind in some rooms.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// Its rooms, in the order of their keys, which is that of the reader.
    pub(super) seats: Vec<Seat>,
    /// What was read and told of them so far.
    pub(super) reader: Reader,
    /// What is to follow the histories.
    pub(super) current: Current,
}

/// One of its rooms.
#[derive(Debug)]
pub(super) struct Seat {
    /// Over the room since before the first read.
    pub(super) watch: Watch,
    /// Its standing.
    pub(super) membership: Arc<Membership>,
}

/// What came of a read.
enum Read {
    Done,
    /// The history no longer reaches back to where the member stands.
    Incomplete,
    Unavailable,
}

/// Bytes of event text that are composed and sent in one go.
const STRETCH: usize = 128 * 1024;

/// Between two looks at a peer that lags, or at rooms that have moved on.
const PAUSE: Duration = Duration::from_millis(20);

impl Service {
    pub(super) fn spawn_catch_up(&self, session: Arc<Session>, task: CatchUp) {
        let service = self.clone();
        self.0.tasks.spawn(async move { service.catch_up(&session, task).await });
    }

    async fn catch_up(&self, session: &Arc<Session>, mut task: CatchUp) {
        let (mut reading, mut turn, mut sent, mut is_news) = (None, None, Sent::default(), false);
        let (mut desk, mut unread) = (None, None);
        while task.goes_on() && !session.is_finished() {
            match task.reader.merge.step() {
                Next::Read => {
                    drop(desk.take());
                    // One page for each that reads to this session, so that none of them waits for all of another.
                    drop(reading.take());
                    self.end_turn(session, counted(turn.take(), sent.bytes));
                    reading = Some(session.reading().await);
                    self.room_for_more(session).await;
                    (turn, sent) = (self.turn(session).await, Sent::default());
                    match self.read_next(session, &mut task).await {
                        Read::Done => unread = None,
                        Read::Unavailable if self.is_too_late(&mut unread) => {
                            return session.close(Close::RoomUnreadable);
                        }
                        Read::Unavailable => _ = (reading.take(), turn.take()),
                        Read::Incomplete => return,
                    }
                }
                // As much of a page at once as there was room for when it was read: it is not to wait in memory for a slow peer.
                Next::Ready(ready) => {
                    if sent.frames >= self.0.limits.burst || sent.page >= self.0.limits.page_bytes {
                        drop(desk.take());
                        self.end_turn(session, counted(turn.take(), sent.bytes));
                        self.room_for_more(session).await;
                        (sent.frames, sent.page) = (0, 0);
                    }
                    if sent.unseen >= STRETCH {
                        drop(desk.take());
                        desk = self.0.turns.desk().await;
                        sent.unseen = 0;
                    }
                    is_news = true;
                    sent.add(task.reader.merge.bytes(ready));
                    let told = task.reader.merge.take(ready);
                    told.into_iter().for_each(|told| send(session, &task, &told));
                }
                Next::Nothing => {
                    drop(desk.take());
                    self.end_turn(session, counted(turn.take(), sent.bytes));
                    task.note();
                    task.current.send(session);
                    if task.go_live(session) {
                        return;
                    }
                    if !std::mem::take(&mut is_news) {
                        drop(reading.take());
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// Reads rooms on. Where that fails, the broker has been waited for.
    async fn read_next(&self, session: &Session, task: &mut CatchUp) -> Read {
        match self.read_on(&mut task.reader).await {
            Ok(torn) if torn.iter().any(|room| task.seats[*room].is_behind()) => {
                session.close(Close::HistoryLost);
                Read::Incomplete
            }
            // What was missed of a room that was left meanwhile is nobody's.
            Ok(_) => Read::Done,
            Err(_) => {
                tokio::select! {
                    () = session.ended() => {}
                    () = self.broker_back() => {}
                }
                Read::Unavailable
            }
        }
    }

    /// Whether a room cannot be read for longer than a join waits, though the broker is well: its member would be deaf to it
    /// and not know.
    fn is_too_late(&self, unread: &mut Option<Instant>) -> bool {
        // While the broker is away it is not the room that cannot be read.
        if !self.0.broker.health().ready {
            *unread = None;
            return false;
        }
        unread.get_or_insert_with(Instant::now).elapsed() >= self.0.limits.join_wait
    }

    /// Waits until little waits for a peer, so that what is read for it does not drive it over its bound.
    pub(super) async fn room_for_more(&self, session: &Session) {
        while session.lane().wire().is_crowded() && !session.is_finished() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What was sent of what was read.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    bytes: usize,
    /// Bytes and frames since there was room for more.
    page: usize,
    frames: usize,
    /// Bytes since others had their chance.
    unseen: usize,
}

impl Sent {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.page += bytes;
        self.unseen += bytes;
        self.frames += 1;
    }
}

/// A turn, counted with what was sent in it.
fn counted(mut turn: Option<Turn>, bytes: usize) -> Option<Turn> {
    turn.iter_mut().for_each(|turn| turn.count(bytes));
    turn
}

impl Seat {
    fn is_behind(&self) -> bool {
        matches!(self.membership.standing(), Standing::CatchingUp(_))
    }
}

impl CatchUp {
    /// Lets go of the rooms that were left or joined anew. False when there are no others.
    fn goes_on(&mut self) -> bool {
        let mut behind = 0;
        for (room, seat) in self.seats.iter().enumerate() {
            match seat.is_behind() {
                true => behind += 1,
                false => self.reader.merge.leave(room),
            }
        }
        behind > 0
    }

    /// Notes how far each room has been told.
    fn note(&self) {
        for (room, seat) in self.seats.iter().enumerate() {
            seat.membership.read_to(self.reader.merge.told(room));
        }
    }

    /// Goes over to live events if nothing is missing, behind the newest of what came meanwhile. Rooms that have moved on are
    /// read again.
    pub(super) fn go_live(&mut self, session: &Session) -> bool {
        let behind: Vec<usize> = (0..self.seats.len()).filter(|room| self.seats[*room].is_behind()).collect();
        // In the order of their keys, as whoever holds several does.
        let held: Vec<_> = behind.iter().map(|room| (*room, self.seats[*room].watch.room().hold())).collect();
        let mut level = true;
        for (room, seated) in &held {
            if seated.at().is_some_and(|at| at > self.reader.merge.told(*room)) {
                self.reader.merge.reopen(*room);
                level = false;
            }
        }
        if !level {
            return false;
        }
        for (room, seated) in &held {
            self.current.update(&seated.came(), &self.reader.rooms()[*room]);
        }
        self.current.send(session);
        for (room, seated) in &held {
            let membership = &self.seats[*room].membership;
            let stamps = self.current.stamps(&self.reader.rooms()[*room]);
            membership.set_ahead(stamps.filter(|stamp| seated.is_to_come(*stamp)));
            membership.set(Standing::Live(self.reader.merge.told(*room)));
        }
        true
    }
}

fn send(session: &Session, task: &CatchUp, told: &Told<Shared>) {
    let entry = &told.entry;
    let envelope = if told.again { None } else { page::fit(entry) };
    let alone = comes_one_way(entry);
    session.lane().push_if(|| {
        let read_to = |room: usize| task.seats[room].membership.read_to(task.reader.merge.told(room));
        let (mut shown, mut mask): (Vec<&Place>, u64) = (Vec::new(), 0);
        for (at, _) in told.places.iter().filter(|(_, room)| read_to(*room)) {
            shown.push(&entry.places[*at]);
            mask |= 1 << at;
        }
        let first = mask != 0 && (alone || session.first_copy(entry, mask));
        envelope.filter(|_| first).map(|envelope| session.dialect().frame(envelope, &shown))
    });
}
