//! The missed events of several rooms in one answer: bounded in events and bytes, with at least one event if there is
//! any.

use hallway_rooms::limits::PAGE_EVENTS;
use hallway_rooms::merge::{MergeStep, MergedEvent};
use tokio::time::Instant;

use super::current::CurrentEvents;
use super::reader::MergedReader;
use super::wait_budget::step_until;
use super::{Service, compose};
use crate::broker::{SharedEntry, Unavailable};

/// The events of one answer.
#[derive(Debug)]
pub(super) struct EventRow {
    /// The events as a JSON array without its brackets, written while reading so that no entry is held twice.
    events: String,
    /// Number of events and the bytes of their text.
    taken: (usize, usize),
    /// Bound of the event text.
    bytes: usize,
    /// Whether more was missed than fits.
    pub(super) has_more: bool,
    /// The `latest` events, which belong behind the end of the histories.
    pub(super) current: CurrentEvents,
}

impl EventRow {
    pub(super) fn new(current: CurrentEvents, bytes: usize) -> Self {
        Self { events: String::new(), taken: (0, 0), bytes, has_more: false, current }
    }

    /// Appends the events to a JSON array without its brackets. The `latest` events are left out while more history
    /// follows.
    pub(super) fn write(&self, out: &mut String) {
        out.push_str(&self.events);
        if !self.has_more {
            self.current.write(out, self.events.is_empty());
        }
    }

    /// Trims the `latest` events to the space behind the history. If none fits, `has_more` is set.
    pub(super) fn fit_current(&mut self) {
        let (events, bytes) = self.taken;
        let fits = self.current.trim_to_fit(PAGE_EVENTS.saturating_sub(events), self.bytes.saturating_sub(bytes));
        self.has_more |= !fits && events > 0;
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        let (events, taken) = self.taken;
        events == 0 || (events < PAGE_EVENTS && taken + bytes <= self.bytes)
    }

    fn push_event(&mut self, sent: &MergedEvent<SharedEntry>) {
        // A second copy, or an event whose rooms were all left: the client has it or must not see it.
        if sent.again || sent.places.is_empty() {
            return;
        }
        let Some(envelope) = compose::shared_envelope(&sent.entry) else { return };
        if !self.events.is_empty() {
            self.events.push(',');
        }
        envelope.write_event(&sent.new_places(), &mut self.events);
        self.taken.0 += 1;
        self.taken.1 += sent.entry.text.len();
    }
}

impl Service {
    /// Reads until the answer is full or nothing is left. Returns the rooms with a gap.
    pub(super) async fn read_row(
        &self,
        reader: &mut MergedReader,
        row: &mut EventRow,
        until: Instant,
    ) -> Result<Vec<usize>, Unavailable> {
        let mut torn = Vec::new();
        loop {
            match reader.merge.next_step() {
                // A minimum time for each step: many rooms may need many reads of a healthy broker.
                MergeStep::Read => torn.extend(step_until(until, self.read_on(reader)).await?),
                MergeStep::Ready(ready) if row.has_room_for(reader.merge.event_bytes(ready)) => {
                    reader.merge.take_event(ready).iter().for_each(|sent| row.push_event(sent));
                }
                // The event stays in the merge, where the catch-up finds it.
                MergeStep::Ready(_) => {
                    row.has_more = true;
                    return Ok(torn);
                }
                MergeStep::Nothing => return Ok(torn),
            }
        }
    }
}
