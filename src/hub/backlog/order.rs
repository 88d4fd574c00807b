//! Turns: of the rooms whose first entry may be next, what is to be delivered.

use std::collections::HashSet;
use std::sync::Arc;

use hallway_rooms::entry::Entry;
use hallway_rooms::key::Room;
use hallway_rooms::position::Arrival;

use super::{Backlog, EntryTrust, QueuedEntry, ReadState, Rooms};

/// What an entry is to its rooms.
#[derive(Default)]
struct EntryVerdict {
    ready: Vec<(usize, bool)>,
    gaps: Vec<usize>,
    seen: bool,
}

enum EntryTurn {
    Deliver(QueuedEntry),
    Wait,
    Over,
}

impl Backlog {
    /// The next delivery, if any is possible. It must be carried out, positions moved, before the next call.
    pub(in crate::hub) fn next(&mut self, rooms: &impl Rooms) -> Option<QueuedEntry> {
        while let Some(room) = self.work.pop_front() {
            let Some(lag) = self.lags.get_mut(&room) else { continue };
            lag.is_queued = false;
            lag.blocked_by = None;
            match self.try_next_entry(&room, rooms) {
                EntryTurn::Deliver(delivery) => {
                    self.wake_waiters(&room);
                    delivery
                        .places
                        .iter()
                        .for_each(|(place, _)| self.wake_waiters(&delivery.entry.places[*place].room));
                    return Some(delivery);
                }
                EntryTurn::Wait => {}
                EntryTurn::Over => self.forget(&room),
            }
        }
        None
    }

    /// Looks at the first entry of a room's queue, and passes over what was delivered before.
    fn try_next_entry(&mut self, room: &Room, rooms: &impl Rooms) -> EntryTurn {
        loop {
            let Some(lag) = self.lags.get(room) else { return EntryTurn::Over };
            let Some((at, first)) = lag.queue.first_key_value() else { return self.at_end(room, rooms) };
            let (at, entry, trust, covered) = (*at, first.entry.clone(), first.trust, lag.covered);
            let Some(link) = entry.link_in(room) else {
                self.drop_from(room, at);
                continue;
            };
            match rooms.judge_arrival(room, link, &entry.id) {
                None => return EntryTurn::Over,
                Some(Arrival::Seen) => _ = self.drop_from(room, at),
                Some(Arrival::Again) => {
                    rooms.pass_over(room, link, &entry.id);
                    self.drop_from(room, at);
                    self.wake_waiters(room);
                }
                Some(Arrival::Gap) if trust != EntryTrust::Claimed && covered.is_some_and(|covered| at <= covered) => {
                    rooms.skip_lost(room, link.prev);
                    self.wake_waiters(room);
                }
                Some(Arrival::Gap) => return self.read_on(room),
                Some(_) if trust == EntryTrust::Claimed => return self.read_on(room),
                Some(Arrival::Next | Arrival::Late) => return self.offer_entry(room, &entry, (trust, rooms)),
            }
        }
    }

    fn read_on(&mut self, room: &Room) -> EntryTurn {
        if self.lags.get(room).is_some_and(|lag| lag.read == ReadState::No) {
            self.request_read(room);
        }
        EntryTurn::Wait
    }

    /// What follows when everything that is known of a room has been delivered.
    fn at_end(&mut self, room: &Room, rooms: &impl Rooms) -> EntryTurn {
        let Some(lag) = self.lags.get(room) else { return EntryTurn::Over };
        if lag.read != ReadState::No {
            return EntryTurn::Wait;
        }
        if lag.more {
            return self.read_on(room);
        }
        if let (Some(covered), Some(at)) = (lag.covered, rooms.delivered_offset(room))
            && at < covered
        {
            rooms.skip_lost(room, covered);
        }
        EntryTurn::Over
    }

    /// Delivers a room's next entry for every room in which it is next, unless a session would get it before something older.
    fn offer_entry(&mut self, room: &Room, entry: &Arc<Entry>, (trust, rooms): (EntryTrust, &impl Rooms)) -> EntryTurn {
        let verdict = self.judge_entry(entry, rooms);
        let held = held_places(entry, &verdict, rooms);
        let own = entry.places.iter().position(|place| place.room == *room);
        if own.is_some_and(|own| held.contains(&own)) {
            let gap = entry.places[verdict.gaps[0]].room.clone();
            for place in &verdict.gaps {
                self.enqueue_in_room(entry, *place, trust);
            }
            return self.wait_for(room, gap, rooms);
        }
        let is_first = !verdict.seen;
        let places: Vec<_> = verdict.ready.iter().filter(|(place, _)| !held.contains(place)).copied().collect();
        let is_apart = verdict.seen || places.len() < verdict.ready.len() + verdict.gaps.len();
        for place in held {
            self.enqueue_in_room(entry, place, trust);
        }
        EntryTurn::Deliver(self.take_for_delivery(entry, places, (is_apart, is_first)))
    }

    fn judge_entry(&mut self, entry: &Entry, rooms: &impl Rooms) -> EntryVerdict {
        let mut verdict = EntryVerdict::default();
        for (at, place) in entry.places.iter().enumerate() {
            let Some(link) = place.link() else { continue };
            match rooms.judge_arrival(&place.room, link, &entry.id) {
                None => {}
                Some(Arrival::Seen) => verdict.seen = true,
                Some(Arrival::Again) => {
                    rooms.pass_over(&place.room, link, &entry.id);
                    self.wake_waiters(&place.room);
                    verdict.seen = true;
                }
                Some(Arrival::Next) => verdict.ready.push((at, false)),
                Some(Arrival::Late) => verdict.ready.push((at, true)),
                Some(Arrival::Gap) => verdict.gaps.push(at),
            }
        }
        verdict
    }

    /// Has an entry wait in one of its rooms.
    fn enqueue_in_room(&mut self, entry: &Arc<Entry>, place: usize, trust: EntryTrust) {
        let place = &entry.places[place];
        let Some(link) = place.link() else { return };
        // One that waits there already has had its turn: to give it another would have two rooms wake each other for ever.
        if self.enqueue(&place.room, link.offset, entry, trust) {
            self.work_on(&place.room);
        }
    }

    fn take_for_delivery(
        &mut self,
        entry: &Arc<Entry>,
        places: Vec<(usize, bool)>,
        (is_apart, is_first): (bool, bool),
    ) -> QueuedEntry {
        for (place, _) in &places {
            let place = &entry.places[*place];
            if let Some(link) = place.link() {
                self.drop_from(&place.room, link.offset);
            }
        }
        QueuedEntry { entry: entry.clone(), places, is_apart, is_first }
    }

    fn wait_for(&mut self, room: &Room, gap: Room, rooms: &impl Rooms) -> EntryTurn {
        if let Some(lag) = self.lags.get_mut(&gap) {
            lag.waiters.insert(room.clone());
        }
        if let Some(lag) = self.lags.get_mut(room) {
            lag.blocked_by = Some(gap);
        }
        let Some(circle) = self.waiting_circle(room) else { return EntryTurn::Wait };
        let fronts = circle.iter().filter_map(|room| self.lags.get(room)?.queue.first_key_value());
        let Some(oldest) = fronts.min_by_key(|(at, _)| **at).map(|(_, first)| first.entry.clone()) else {
            return EntryTurn::Wait;
        };
        let verdict = self.judge_entry(&oldest, rooms);
        let mut places = verdict.ready;
        places.extend(verdict.gaps.into_iter().map(|place| (place, false)));
        EntryTurn::Deliver(self.take_for_delivery(&oldest, places, (verdict.seen, !verdict.seen)))
    }

    /// The rooms that wait for each other with this one, if nothing that is to be read can change it.
    fn waiting_circle(&self, room: &Room) -> Option<Vec<Room>> {
        let (mut circle, mut at) = (Vec::new(), room);
        while !circle.contains(at) {
            let lag = self.lags.get(at).filter(|lag| lag.read == ReadState::No && !lag.is_queued)?;
            circle.push(at.clone());
            at = lag.blocked_by.as_ref()?;
        }
        // Those that wait for the circle are no part of it.
        let begin = circle.iter().position(|room| room == at).unwrap_or_default();
        Some(circle.split_off(begin))
    }
}

/// Of an entry's rooms, those that may not have it yet: where something is missing, and those that share a session with
/// one of these.
fn held_places(entry: &Entry, verdict: &EntryVerdict, rooms: &impl Rooms) -> HashSet<usize> {
    let mut held: HashSet<usize> = verdict.gaps.iter().copied().collect();
    let mut new = verdict.gaps.clone();
    while let Some(gap) = new.pop() {
        for (place, _) in &verdict.ready {
            if !held.contains(place) && rooms.share_member(&entry.places[*place].room, &entry.places[gap].room) {
                held.insert(*place);
                new.push(*place);
            }
        }
    }
    held
}
