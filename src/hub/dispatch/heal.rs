//! Healing: what the event channel did not bring is read from the histories.
//!
//! **The problem.** A message of a pub/sub channel can be lost: the connection breaks, the queue between the broker and
//! the hub is full, a failover drops it. The members of a room must neither miss an event nor receive it after a later
//! one.
//!
//! **The rule.** Every entry names the offset before it, so a missing entry shows: `prev` lies behind the room's
//! position. The room then waits in the [`backlog`](crate::hub::backlog) and its history is read from its position on, once,
//! however many members it has. Reads run beside the hub's task. Only that task judges what they bring and moves
//! positions, so an entry that was read and an entry that came live pass the same check, [`Position::classify_entry`].
//!
//! **What a history may say** ([`judge_history`]), and why each answer is right:
//!
//! - *Whole.* The entries hang on the position, and the last of them is the room's last offset. What is missing is
//!   there. The room moves on while it is read, so the history may hang on the position of either end of the read.
//! - *Rewound.* The room's last offset lies before what was delivered before the read began. That was stored then, so
//!   the broker has lost it (a failover). The position goes back to the broker's, and the room is read again from the
//!   position's floor on: what the broker kept and this node never had is delivered, what it had is known by its id.
//! - *Vanished.* The last offset was deleted, and it cannot be told what else. Members are closed and ask for it again.
//! - *Torn.* The first entry names a `prev` behind the position: the history was trimmed. The room goes on from there,
//!   and its members lose their transports: they come back with their offsets and are told what is lost.
//!
//! **Example.** The position is 12-0. The message of 13-0 is lost, and 14-0 arrives with `prev` 13-0: a gap. The read
//! after 12-0 brings 13-0 and 14-0, and both are delivered. Meanwhile 15-0 has come live: it waited, hangs on 14-0, and
//! follows. If the history began at 14-0, it would be torn. If its last offset were 11-0, it would be rewound.
//!
//! **Faults.** A read that fails is tried again after a pause while other rooms go on. If it fails although the broker
//! is well, the room itself is broken: its members are closed and it rests. A room that was unsubscribed during its
//! read has nothing to take in. After a break of the whole channel every open room is compared with the broker.

use std::sync::atomic::Ordering;

use hallway_rooms::close::Close;
use hallway_rooms::entry::ChainLink;
use hallway_rooms::event::EventId;
use hallway_rooms::history::Start;
use hallway_rooms::key::Room;
use hallway_rooms::limits::PAGE_EVENTS;
use hallway_rooms::offset::Offset;
use hallway_rooms::position::{Arrival, Position};
use tokio::time::Instant;

use super::Dispatch;
use crate::broker::{History, ReadError, Unavailable};
use crate::hub::Hub;
use crate::hub::backlog::{HealedPage, PendingRead, QueuedEntry, ReadFailure, Rooms};
use crate::hub::outgoing::RoomTarget;
use crate::hub::room::LocalRoom;
use crate::logs;

/// A read that has ended.
pub(super) struct HealRead {
    pending_read: PendingRead,
    /// Where the room stood when it began.
    asked: Position,
    /// Of a read that failed, whether others would not have: then it is the room's own trouble.
    outcome: Result<History, ReadError>,
}

/// What a history says of a room.
enum HistoryVerdict {
    /// Nothing is missing.
    Whole,
    /// The broker lost the newest entries: what is new among those it has is what no id here knows.
    Rewound(Offset),
    /// The room's last offset was deleted, with what else is not known.
    Vanished,
    /// It does not reach back.
    Torn,
}

impl Rooms for Hub {
    fn judge_arrival(&self, room: &Room, link: ChainLink, id: &EventId) -> Option<Arrival> {
        self.find(room)?.judge_arrival(link, id)
    }

    fn delivered_offset(&self, room: &Room) -> Option<Offset> {
        self.find(room)?.delivered_offset()
    }

    fn share_member(&self, one: &Room, other: &Room) -> bool {
        let (Some(one), Some(other)) = (self.find(one), self.find(other)) else { return false };
        if one.size() <= other.size() { one.shares_member(other.room()) } else { other.shares_member(one.room()) }
    }

    fn pass_over(&self, room: &Room, link: ChainLink, id: &EventId) {
        if let Some(local) = self.find(room) {
            local.advance_to(link, id);
        }
    }

    fn skip_lost(&self, room: &Room, to: Offset) {
        if let Some(local) = self.find(room) {
            self.cut_off(&local, to);
        }
    }
}

impl Dispatch {
    /// Compares every open room with the broker: after a break of the feed.
    pub(super) fn heal_all(&mut self) {
        self.hub.0.breaks.fetch_add(1, Ordering::SeqCst);
        let rooms: Vec<_> = self.hub.all_rooms().into_iter().filter(|local| local.is_open()).collect();
        // Nothing was missed where nothing is open, so there is no break to report.
        if rooms.is_empty() {
            return;
        }
        // All loops of the node learn of a break at the same moment; its operator is told once.
        let node = &self.hub.0.node;
        if !std::mem::replace(&mut self.is_broken, true) && node.begin_healing() {
            let rooms = node.totals.count();
            tracing::info!(event = logs::FEED_BROKEN, rooms, "the feed had a break; reading the histories");
        }
        self.backlog.retry_all_now();
        self.comparisons.restart_audit(&self.hub, &rooms);
        self.renewal.replace_rooms(rooms);
    }

    /// Says that a break is over when nothing is behind any more.
    pub(super) fn log_heal_end(&mut self) {
        if self.is_broken && self.comparisons.is_empty() && self.backlog.is_empty() {
            self.is_broken = false;
            if self.hub.0.node.end_healing() {
                tracing::info!(event = logs::FEED_HEALED, "the histories are read; live delivery goes on");
            }
        }
    }

    /// Begins the reads that may begin.
    pub(super) fn begin_reads(&mut self) {
        while let Some(pending_read) = self.backlog.next_read(Instant::now()) {
            let Some(asked) = self.hub.find(&pending_read.room).and_then(|local| local.position()) else {
                // The room was unsubscribed while its read waited.
                self.backlog.abandon_room(&pending_read);
                continue;
            };
            let from = Start::After(pending_read.from.unwrap_or_else(|| asked.delivered_offset()));
            let broker = self.hub.0.broker.clone();
            self.reads.push(Box::pin(async move {
                let outcome = broker.history(&pending_read.room, from, PAGE_EVENTS).await;
                HealRead { pending_read, asked, outcome }
            }));
        }
        self.renewal.begin_reads(&self.hub);
    }

    pub(super) fn take_read(&mut self, read: HealRead) {
        // The room may have been unsubscribed and opened again meanwhile.
        match (self.hub.find(&read.pending_read.room), read.outcome) {
            (Some(local), Ok(history)) => self.take_history(&read.pending_read, (&local, &read.asked), history),
            (Some(local), Err(error)) => {
                // The way to the histories may be in trouble while all else is well: that is no fault of this room.
                let is_its_own = matches!(error, ReadError::Room(_));
                self.take_failure(&read.pending_read, &local, (&Unavailable::from(error).0, is_its_own));
            }
            (None, _) => self.backlog.abandon_room(&read.pending_read),
        }
        for entry in self.backlog.take_unconfirmed() {
            self.hub.0.counts.invalid.increment(1);
            tracing::debug!(
                event = logs::EVENT_UNFIT,
                id = %entry.id,
                "a message that came by the feed is in no history and reaches no client"
            );
        }
    }

    fn take_history(&mut self, pending_read: &PendingRead, (local, asked): (&LocalRoom, &Position), history: History) {
        let Some(position) = local.position() else { return self.backlog.abandon_room(pending_read) };
        let links: Vec<ChainLink> = history.entries.iter().filter_map(|entry| entry.link_in(local.room())).collect();
        let page = HealedPage { last: history.facts.last, has_more: history.has_more, entries: Vec::new() };
        match judge_history(&history, &links, [asked, &position]) {
            HistoryVerdict::Whole => {}
            HistoryVerdict::Rewound(last) => {
                // What is under way would move members forward again.
                self.rounds.complete_all(&self.hub.0.counts);
                let floor = position.past_offset();
                self.hub.rewind_room(local, last);
                // What is read behind the new place alone would lack what came before it and was never delivered.
                self.backlog.add_page(pending_read, HealedPage { has_more: false, ..page });
                return self.backlog.want_from(local.room(), floor.min(last));
            }
            HistoryVerdict::Vanished => {
                // What was deleted is unknown, so no member can be told that it has everything.
                self.rounds.complete_all(&self.hub.0.counts);
                self.hub.close_as_lost(local);
                local.rewind_to(history.facts.head());
            }
            HistoryVerdict::Torn => {
                // The first entry that is left is to be next.
                let first = links.first().map(|link| link.prev);
                self.hub.cut_off(local, first.unwrap_or_else(|| history.facts.head()));
            }
        }
        self.backlog.add_page(pending_read, HealedPage { entries: history.entries, ..page });
    }

    fn take_failure(&mut self, pending_read: &PendingRead, local: &LocalRoom, (error, is_its_own): (&str, bool)) {
        match self.backlog.fail_read(pending_read, Instant::now(), is_its_own) {
            Some(ReadFailure::GiveUp) => self.hub.give_up(local, error),
            Some(ReadFailure::Later { first: true }) => {
                tracing::warn!(
                    event = logs::HISTORY_UNREADABLE,
                    error,
                    "a room cannot be read; trying on, while the others go on"
                );
            }
            Some(ReadFailure::Later { first: false }) | None => {}
        }
    }
}

/// A room may have moved on while it was read: it is whole if it is so from where it stood at either end of that.
fn judge_history(history: &History, links: &[ChainLink], [asked, position]: [&Position; 2]) -> HistoryVerdict {
    let facts = &history.facts;
    let continues =
        |p: &Position| facts.continues_from(p.delivered_offset(), p.complete_offset(), links, history.has_more);
    match facts.last {
        // What was delivered before the read began was stored before it.
        Some(last) if last < asked.delivered_offset() && last < position.delivered_offset() => {
            HistoryVerdict::Rewound(last)
        }
        _ if continues(asked) || continues(position) => HistoryVerdict::Whole,
        None if links.is_empty() && facts.has_vanished(position.delivered_offset()) => HistoryVerdict::Vanished,
        Some(_) | None => HistoryVerdict::Torn,
    }
}

impl Hub {
    /// The targets of a delivery, with those of its rooms that keep nothing of it in their history: the first time.
    pub(super) fn delivery_targets(&self, delivery: &QueuedEntry) -> Vec<RoomTarget> {
        let entry = &delivery.entry;
        let mut targets = Vec::new();
        for target in self.open_targets(entry) {
            match entry.places[target.place].link() {
                Some(_) => {
                    let chosen = delivery.places.iter().find(|(place, _)| *place == target.place);
                    targets.extend(chosen.map(|(_, late)| RoomTarget { late: *late, ..target }));
                }
                // A stamp tells its own copies; what is kept nowhere goes with the first delivery only.
                None if entry.places[target.place].stamp().is_some() || delivery.is_first => {
                    targets.extend(target.is_news(entry).then_some(target));
                }
                None => {}
            }
        }
        targets
    }

    /// Costs a room that cannot be read its members, who come back and ask for it again. Until a client is let in, nothing of it
    /// is taken in here.
    fn give_up(&self, local: &LocalRoom, error: &str) {
        self.0.counts.unreadable.increment(1);
        tracing::error!(event = logs::ROOM_UNREADABLE, room = %local.room(), error, "a room cannot be read, so its members are closed; see what its keys in Redis hold");
        for member in local.close_for_a_while() {
            member.session.close_transport(Close::RoomUnreadable);
        }
    }

    fn rewind_room(&self, local: &LocalRoom, last: Offset) {
        self.0.counts.rewound.increment(1);
        tracing::warn!(event = logs::ROOM_REWOUND, room_class = ?local.room().class(), lost_up_to = ?local.delivered_offset(), %last, "the broker forgot the newest entries of a room");
        local.rewind_to(last);
    }

    /// A room goes on from a later place, because what lies before it is lost.
    fn cut_off(&self, local: &LocalRoom, to: Offset) {
        let Some(at) = local.delivered_offset() else { return };
        local.skip_to(at.max(to));
        self.close_as_lost(local);
    }

    /// Members of a room whose history does not reach back lose their transport: nothing is skipped silently.
    fn close_as_lost(&self, local: &LocalRoom) {
        self.0.counts.cut_off.increment(1);
        for member in local.members() {
            member.session.close_transport(Close::HistoryLost);
        }
    }
}
