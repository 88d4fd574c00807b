//! What a read gave, and the part of it that each asker gets.

use hallway_rooms::entry::Link;
use hallway_rooms::history::Facts;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;

use crate::broker::shared::fitting;
use crate::broker::{Portion, Resumed, Shared};

/// What stands in a history behind a place.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    /// The place.
    pub(super) start: Offset,
    /// Oldest first.
    pub(super) entries: Vec<Shared>,
    /// What was known of the room when its end was read.
    pub(super) facts: Facts,
    /// Whether more stands behind the last of them.
    pub(super) has_more: bool,
}

/// Entries that follow each other without a gap.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Nothing was found between this place and the first of them. What that one names as its predecessor may be newer, and gone.
    pub(super) floor: Offset,
    /// The offset of the last.
    pub(super) end: Offset,
    pub(super) entries: Vec<Shared>,
}

impl Stretch {
    /// Whether it says something about what stands behind this place.
    pub(super) fn reaches(&self, room: &Room, place: Offset) -> bool {
        self.start <= place && (!self.has_more || self.end(room).is_some_and(|end| end > place))
    }

    pub(super) fn end(&self, room: &Room) -> Option<Offset> {
        self.entries.iter().rev().find_map(|entry| entry.link(room)).map(|link| link.offset)
    }

    /// The part that was asked for, judged by itself.
    pub(super) fn part(&self, room: &Room, portion: Portion) -> Resumed {
        let wanted = &self.entries[behind(&self.entries, room, portion.from.exclusive())..];
        let count = fitting(wanted, portion.bytes).min(portion.events);
        let has_more = self.has_more || count < wanted.len();
        let links: Vec<Link> = wanted[..count].iter().filter_map(|entry| entry.link(room)).collect();
        // An entry under this room that names no place in it stands for one that cannot be told.
        let complete = links.len() == count && self.facts.complete(portion.from, &links, has_more);
        Resumed { facts: self.facts, entries: wanted[..count].to_vec(), complete, has_more }
    }

    /// The runs in it, oldest first: one, where nothing is missing.
    pub(super) fn runs(&self, room: &Room) -> Vec<Run> {
        let (mut runs, mut floor): (Vec<Run>, _) = (Vec::new(), self.start);
        for entry in &self.entries {
            let Some(Link { offset, prev }) = entry.link(room) else { continue };
            match runs.last_mut() {
                Some(run) if run.end == prev => {
                    run.end = offset;
                    run.entries.push(entry.clone());
                }
                _ => runs.push(Run { floor, end: offset, entries: vec![entry.clone()] }),
            }
            floor = offset;
        }
        runs
    }
}

impl Run {
    /// Whether it has everything that was found from this place on, as far as it goes.
    pub(super) fn contains(&self, place: Offset) -> bool {
        self.floor <= place && place <= self.end
    }

    /// How many events and bytes more a part of it should have; none when it is as large as was asked for.
    pub(super) fn leaves_wanting(&self, room: &Room, portion: Portion) -> Option<(usize, usize)> {
        let wanted = &self.entries[behind(&self.entries, room, portion.from.exclusive())..];
        let count = fitting(wanted, portion.bytes).min(portion.events);
        if count < wanted.len() {
            return None;
        }
        let bytes: usize = wanted.iter().map(|entry| entry.text.len()).sum();
        let left = (portion.events - count, portion.bytes.saturating_sub(bytes));
        // What is full to the last event is asked for once more with the next.
        Some((left.0.max(1), left.1.max(1)))
    }
}

/// How many entries stand at or before a place.
fn behind(entries: &[Shared], room: &Room, place: Offset) -> usize {
    entries.iter().rposition(|entry| entry.link(room).is_some_and(|link| link.offset <= place)).map_or(0, |at| at + 1)
}
