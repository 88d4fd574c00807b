//! Catching up: a member that missed more than a page, or whose rooms moved on while they were read, gets the rest from
//! the histories as ordinary events, in order, and then goes live without a seam.
//!
//! **The problem.** The member reads while others publish. The end of a read is never certain to be the end of the
//! room, and an event of two of its rooms may be in the history of one and live in the other.
//!
//! **The rule.** Rooms that were joined in one command catch up as one:
//!
//! 1. Nothing comes live from them: their standing is [`MemberDelivery::CatchingUp`].
//! 2. Each is read page by page and the pages are merged (`rooms/src/merge.rs`). What was sent is noted in the
//!    membership in the same act as the push.
//! 3. When everything read has gone, the locks of all the rooms are taken, in the order of their keys. If no position
//!    is newer than what was sent of its room, all go live at once. Otherwise those that moved are read on.
//!
//! **Why it is right**, for an event at offset `e`, with `sent` the end of what was sent and `at` the position, both
//! under the locks:
//!
//! - *`e` ≤ `sent`:* it was sent. Should the hub come to it only now, the membership has that offset and drops it.
//! - *`sent` < `e` ≤ `at`:* the hub has passed it and this member received nothing. So `at` > `sent`, the room does not
//!   go live, and the next read has it.
//! - *`e` > `at`:* the hub moves to it under the lock, after the member went live, and finds it.
//!
//! With several rooms the merge keeps `sent` a cut: an event is on the same side of it in each of its rooms, so the
//! three cases give the same answer in all of them. That is why they go live in one act, and none before the others.
//!
//! **Example.** The member has 9-0, the room is at 11-0. The read brings 10-0 and 11-0; they are sent, `sent` is 11-0.
//! Under the lock the position is 12-0: not live yet. The read after 11-0 brings 12-0. The position is still 12-0: live
//! from there.
//!
//! **Faults.** A history that does not reach back to `sent` costs the transport. A read that fails waits for the
//! broker; if the broker is well and the room stays unreadable for as long as a join may wait, the transport is closed,
//! because the member would not be receiving and not know it. A slow peer is read for only when its outbox has room. A
//! room that was left or joined anew drops out of the task.

use std::sync::Arc;
use std::time::Duration;

use hallway_rooms::close::Close;
use hallway_rooms::entry::RoomPlace;
use hallway_rooms::merge::{MergeStep, MergedEvent};
use tokio::time::Instant;

use super::current::CurrentEvents;
use super::fair_queue::QueueTurn;
use super::reader::MergedReader;
use super::{Service, compose};
use crate::broker::SharedEntry;
use crate::hub::LatestWatch;
use crate::session::copies::comes_one_way;
use crate::session::{MemberDelivery, Membership, Session};

/// A member that is behind in some of its rooms.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// The rooms that are caught up together, in the order of their keys. The reader numbers them the same way.
    pub(super) members: Vec<CatchUpRoom>,
    /// The merged histories, with how far each room has been read and sent.
    pub(super) reader: MergedReader,
    /// The `latest` events that follow the histories.
    pub(super) current: CurrentEvents,
}

/// One of the rooms.
#[derive(Debug)]
pub(super) struct CatchUpRoom {
    /// Watches the room since before the first read, so that no `latest` event is missed between read and delivery.
    pub(super) watch: LatestWatch,
    /// The membership that goes live at the end, and that records how far the member has been served.
    pub(super) membership: Arc<Membership>,
}

/// The outcome of one read.
enum CatchUpRead {
    Done,
    /// The history does not reach back to the member's position any more.
    Incomplete,
    Unavailable,
}

/// Bytes of event text that are framed before the task gives others a chance at the compose permit.
const STRETCH: usize = 128 * 1024;

/// Pause between two checks of a crowded socket, or of rooms that moved on.
const PAUSE: Duration = Duration::from_millis(20);

impl Service {
    pub(super) fn spawn_catch_up(&self, session: Arc<Session>, task: CatchUp) {
        let service = self.clone();
        self.0.tasks.spawn(async move { service.catch_up(&session, task).await });
    }

    async fn catch_up(&self, session: &Arc<Session>, mut task: CatchUp) {
        let (mut reading, mut turn, mut sent, mut is_news) = (None, None, SentPage::default(), false);
        let (mut compose_permit, mut unread) = (None, None);
        while task.goes_on() && !session.is_finished() {
            match task.reader.merge.next_step() {
                MergeStep::Read => {
                    // The permit is for composing only: holding it across a read would stall every other large
                    // answer.
                    drop(compose_permit.take());
                    // One page for each that reads to this session, so that none of them waits for all of another.
                    drop(reading.take());
                    self.end_turn(session, count_turn(turn.take(), sent.bytes));
                    reading = Some(session.lock_reading().await);
                    self.room_for_more(session).await;
                    (turn, sent) = (self.turn_for(session).await, SentPage::default());
                    match self.read_next(session, &mut task).await {
                        // A successful read ends the count of failures: only an unbroken one closes the transport.
                        CatchUpRead::Done => unread = None,
                        CatchUpRead::Unavailable if self.is_too_late(&mut unread) => {
                            // The client cannot know that it misses events of this room. A reconnect makes it ask
                            // again.
                            return session.close_transport(Close::RoomUnreadable);
                        }
                        // Another catch-up of this session, and other users, go on while this one waits for the
                        // broker.
                        CatchUpRead::Unavailable => _ = (reading.take(), turn.take()),
                        // The transport is closing: the client starts over with the offset it has.
                        CatchUpRead::Incomplete => return,
                    }
                }
                // As much of a page at once as there was room for when it was read: it is not to wait in memory for a slow peer.
                MergeStep::Ready(ready) => {
                    if sent.frames >= self.0.limits.burst || sent.page >= self.0.limits.page_bytes {
                        drop(compose_permit.take());
                        self.end_turn(session, count_turn(turn.take(), sent.bytes));
                        self.room_for_more(session).await;
                        (sent.frames, sent.page) = (0, 0);
                    }
                    if sent.unseen >= STRETCH {
                        drop(compose_permit.take());
                        compose_permit = self.0.turns.acquire_compose_permit().await;
                        sent.unseen = 0;
                    }
                    // Reading made progress, so the next look at the rooms needs no pause.
                    is_news = true;
                    sent.add(task.reader.merge.event_bytes(ready));
                    let sent = task.reader.merge.take_event(ready);
                    sent.into_iter().for_each(|sent| send_event(session, &task, &sent));
                }
                MergeStep::Nothing => {
                    // Everything that was read has been sent: release the permit and the turn before the locks of the
                    // rooms are taken.
                    drop(compose_permit.take());
                    self.end_turn(session, count_turn(turn.take(), sent.bytes));
                    task.note_positions();
                    task.current.send_undelivered(session);
                    if task.go_live(session) {
                        return;
                    }
                    // The last read brought nothing, and yet a position is ahead of it. Without a pause this loop
                    // would spin.
                    if !std::mem::take(&mut is_news) {
                        drop(reading.take());
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// Reads the next page of the rooms that are due. After a failure it waits until the broker can be reached or the
    /// session ends.
    async fn read_next(&self, session: &Session, task: &mut CatchUp) -> CatchUpRead {
        match self.read_on(&mut task.reader).await {
            // A gap in a room that the member is still in cannot be reported by an event, so the transport is closed.
            Ok(torn) if torn.iter().any(|room| task.members[*room].is_behind()) => {
                session.close_transport(Close::HistoryLost);
                CatchUpRead::Incomplete
            }
            // A gap in a room that was left meanwhile concerns no member.
            Ok(_) => CatchUpRead::Done,
            // Retrying before the broker is back would burn the session's time for nothing.
            Err(_) => {
                tokio::select! {
                    () = session.wait_until_ended() => {}
                    () = self.broker_back() => {}
                }
                CatchUpRead::Unavailable
            }
        }
    }

    /// Whether a room could not be read for longer than `join_wait` although the broker is healthy. Its member would
    /// miss events without knowing it.
    fn is_too_late(&self, unread: &mut Option<Instant>) -> bool {
        // While the broker is away it is not the room that cannot be read.
        if !self.0.broker.health().ready {
            *unread = None;
            return false;
        }
        unread.get_or_insert_with(Instant::now).elapsed() >= self.0.limits.join_wait
    }

    /// Waits until the session's socket has little queued, so that a catch-up never drives it over its byte bound.
    pub(super) async fn room_for_more(&self, session: &Session) {
        while session.lane().wire().is_crowded() && !session.is_finished() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Counters of one catch-up.
#[derive(Clone, Copy, Debug, Default)]
struct SentPage {
    /// Bytes sent in the current turn, which is weighed with them.
    bytes: usize,
    /// Bytes since the socket was last found uncrowded.
    page: usize,
    /// Frames since the socket was last found uncrowded.
    frames: usize,
    /// Bytes since the compose permit was last released.
    unseen: usize,
}

impl SentPage {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.page += bytes;
        self.unseen += bytes;
        self.frames += 1;
    }
}

/// A turn, weighed with the bytes that were sent in it.
fn count_turn(mut turn: Option<QueueTurn>, bytes: usize) -> Option<QueueTurn> {
    turn.iter_mut().for_each(|turn| turn.count_bytes(bytes));
    turn
}

impl CatchUpRoom {
    fn is_behind(&self) -> bool {
        matches!(self.membership.current_standing(), MemberDelivery::CatchingUp(_))
    }
}

impl CatchUp {
    /// Drops the rooms that were left or joined again meanwhile. False when none is left to catch up with.
    fn goes_on(&mut self) -> bool {
        let mut behind = 0;
        for (room, member) in self.members.iter().enumerate() {
            match member.is_behind() {
                true => behind += 1,
                false => self.reader.merge.remove_room(room),
            }
        }
        behind > 0
    }

    /// Records in each membership how far its room has been sent.
    fn note_positions(&self) {
        for (room, member) in self.members.iter().enumerate() {
            member.membership.read_to(self.reader.merge.delivered_offset(room));
        }
    }

    /// Switches all rooms to live delivery if nothing is missing, after sending the `latest` events that came
    /// meanwhile. Otherwise false, and the rooms that moved on are read again.
    pub(super) fn go_live(&mut self, session: &Session) -> bool {
        let behind: Vec<usize> = (0..self.members.len()).filter(|room| self.members[*room].is_behind()).collect();
        // In the order of their keys, the lock order of all code that holds several rooms.
        let held: Vec<_> = behind.iter().map(|room| (*room, self.members[*room].watch.room().lock_room())).collect();
        let mut level = true;
        for (room, locked) in &held {
            if locked.delivered_offset().is_some_and(|at| at > self.reader.merge.delivered_offset(*room)) {
                // The hub has passed on events of this room that are not read yet. All of them are in its history.
                self.reader.merge.reopen_room(*room);
                level = false;
            }
        }
        // All rooms go live together or none: a single live room would bring a shared event ahead of older events of
        // another room.
        if !level {
            return false;
        }
        for (room, locked) in &held {
            self.current.update_from(&locked.latest_while_watched(), &self.reader.rooms()[*room]);
        }
        // Before the switch, so that no live event overtakes them. The locks keep the hub out until then.
        self.current.send_undelivered(session);
        for (room, locked) in &held {
            let membership = &self.members[*room].membership;
            let stamps = self.current.stamps_in(&self.reader.rooms()[*room]);
            // The hub has yet to pass these on: the membership must skip them, as they have just been sent.
            membership.set_ahead(stamps.filter(|stamp| locked.is_to_come(*stamp)));
            membership.change_standing(MemberDelivery::Live(self.reader.merge.delivered_offset(*room)));
        }
        true
    }
}

fn send_event(session: &Session, task: &CatchUp, sent: &MergedEvent<SharedEntry>) {
    let entry = &sent.entry;
    // A second copy moves the rooms' positions but is not shown again.
    let envelope = if sent.again { None } else { compose::shared_envelope(entry) };
    // An event of a single room cannot arrive by another one, so the lookup of copies is skipped.
    let alone = comes_one_way(entry);
    session.lane().push_if(|| {
        let read_to = |room: usize| task.members[room].membership.read_to(task.reader.merge.delivered_offset(room));
        let (mut shown, mut mask): (Vec<&RoomPlace>, u64) = (Vec::new(), 0);
        // A room that was left meanwhile takes no part: the client must not be shown its offset.
        for (at, _) in sent.places.iter().filter(|(_, room)| read_to(*room)) {
            shown.push(&entry.places[*at]);
            mask |= 1 << at;
        }
        // Asked last, since the question itself records the event as delivered.
        let first = mask != 0 && (alone || session.first_copy(entry, mask));
        envelope.filter(|_| first).map(|envelope| session.dialect().event_frame(envelope, &shown))
    });
}
