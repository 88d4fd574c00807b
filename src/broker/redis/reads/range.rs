//! The result of a read, and the part of it that each command gets.

use hallway_rooms::entry::ChainLink;
use hallway_rooms::history::RoomFacts;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;

use crate::broker::shared::fitting_entries;
use crate::broker::{HistoryRequest, Resumed, SharedEntry};

/// A range of a history after an offset.
#[derive(Clone, Debug)]
pub(super) struct HistoryRange {
    /// The offset that it begins after.
    pub(super) start: Offset,
    /// Oldest first.
    pub(super) entries: Vec<SharedEntry>,
    /// The room's facts when the end was read.
    pub(super) facts: RoomFacts,
    /// Whether more entries follow the last one.
    pub(super) has_more: bool,
}

/// Entries that link to each other without a gap.
#[derive(Clone, Debug)]
pub(super) struct EntryRun {
    /// No entry was found between this offset and the first entry. The predecessor that the first entry names may be
    /// newer, and trimmed.
    pub(super) floor: Offset,
    /// The offset of the last entry.
    pub(super) end: Offset,
    pub(super) entries: Vec<SharedEntry>,
}

impl HistoryRange {
    /// Whether the range covers what follows an offset.
    pub(super) fn reaches_offset(&self, room: &Room, place: Offset) -> bool {
        self.start <= place && (!self.has_more || self.end(room).is_some_and(|end| end > place))
    }

    pub(super) fn end(&self, room: &Room) -> Option<Offset> {
        self.entries.iter().rev().find_map(|entry| entry.link_in(room)).map(|link| link.offset)
    }

    /// The requested part, with its own `complete`.
    pub(super) fn part_for(&self, room: &Room, portion: HistoryRequest) -> Resumed {
        let wanted = &self.entries[count_until(&self.entries, room, portion.from.exclusive_offset())..];
        let count = fitting_entries(wanted, portion.bytes).min(portion.events);
        let has_more = self.has_more || count < wanted.len();
        let links: Vec<ChainLink> = wanted[..count].iter().filter_map(|entry| entry.link_in(room)).collect();
        // An entry of this room that names no offset in it replaced one that cannot be returned, so the history has a
        // gap.
        let complete = links.len() == count && self.facts.complete(portion.from, &links, has_more);
        Resumed { facts: self.facts, entries: wanted[..count].to_vec(), complete, has_more }
    }

    /// The runs in it, oldest first: a single one where nothing is missing.
    pub(super) fn runs(&self, room: &Room) -> Vec<EntryRun> {
        let (mut runs, mut floor): (Vec<EntryRun>, _) = (Vec::new(), self.start);
        for entry in &self.entries {
            let Some(ChainLink { offset, prev }) = entry.link_in(room) else { continue };
            match runs.last_mut() {
                // Linked to the last entry; anything else begins another run, since something between was trimmed.
                Some(run) if run.end == prev => {
                    run.end = offset;
                    run.entries.push(entry.clone());
                }
                _ => runs.push(EntryRun { floor, end: offset, entries: vec![entry.clone()] }),
            }
            floor = offset;
        }
        runs
    }
}

impl EntryRun {
    /// Whether it has every entry found after this offset, as far as it goes.
    pub(super) fn contains_from(&self, place: Offset) -> bool {
        self.floor <= place && place <= self.end
    }

    /// The events and bytes that a part of it lacks; none when it is as large as requested.
    pub(super) fn leaves_wanting(&self, room: &Room, portion: HistoryRequest) -> Option<(usize, usize)> {
        let wanted = &self.entries[count_until(&self.entries, room, portion.from.exclusive_offset())..];
        let count = fitting_entries(wanted, portion.bytes).min(portion.events);
        // The part ended within the run, so the request is met.
        if count < wanted.len() {
            return None;
        }
        let bytes: usize = wanted.iter().map(|entry| entry.text.len()).sum();
        let left = (portion.events - count, portion.bytes.saturating_sub(bytes));
        // At least one more of each: a full part still needs to know whether more follow.
        Some((left.0.max(1), left.1.max(1)))
    }
}

/// The number of entries at or before an offset.
fn count_until(entries: &[SharedEntry], room: &Room, place: Offset) -> usize {
    entries
        .iter()
        .rposition(|entry| entry.link_in(room).is_some_and(|link| link.offset <= place))
        .map_or(0, |at| at + 1)
}
