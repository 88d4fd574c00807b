//! A row of missed events of several rooms, as one answer holds it: bounded in events and bytes, at least one event if
//! there is any.

use hallway_rooms::limits::PAGE_EVENTS;
use hallway_rooms::merge::{Next, Told};
use tokio::time::Instant;

use super::current::Current;
use super::patience::step;
use super::reader::Reader;
use super::{Service, page};
use crate::broker::{Shared, Unavailable};

/// See the module.
#[derive(Debug)]
pub(super) struct Row {
    /// Bare events, a JSON array without its brackets.
    events: String,
    /// How many, and the bytes of their text.
    taken: (usize, usize),
    /// Bytes of event text that it may have.
    bytes: usize,
    /// Whether more was missed than fits.
    pub(super) has_more: bool,
    /// What is current, which belongs behind the last of the histories.
    pub(super) current: Current,
}

impl Row {
    pub(super) fn new(current: Current, bytes: usize) -> Self {
        Self { events: String::new(), taken: (0, 0), bytes, has_more: false, current }
    }

    /// Appends the events to a JSON array without its brackets; of what is current nothing while more follows.
    pub(super) fn write(&self, out: &mut String) {
        out.push_str(&self.events);
        if !self.has_more {
            self.current.write(out, self.events.is_empty());
        }
    }

    /// Makes what is current fit behind the events. If nothing of it does, more follows.
    pub(super) fn fit_current(&mut self) {
        let (events, bytes) = self.taken;
        let fits = self.current.fit(PAGE_EVENTS.saturating_sub(events), self.bytes.saturating_sub(bytes));
        self.has_more |= !fits && events > 0;
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        let (events, taken) = self.taken;
        events == 0 || (events < PAGE_EVENTS && taken + bytes <= self.bytes)
    }

    fn push(&mut self, told: &Told<Shared>) {
        if told.again || told.places.is_empty() {
            return;
        }
        let Some(envelope) = page::fit(&told.entry) else { return };
        if !self.events.is_empty() {
            self.events.push(',');
        }
        envelope.write_event(&told.news(), &mut self.events);
        self.taken.0 += 1;
        self.taken.1 += told.entry.text.len();
    }
}

impl Service {
    /// Reads on until the row is full or nothing is left. Gives the rooms of which something is missing.
    pub(super) async fn read_row(
        &self,
        reader: &mut Reader,
        row: &mut Row,
        until: Instant,
    ) -> Result<Vec<usize>, Unavailable> {
        let mut torn = Vec::new();
        loop {
            match reader.merge.step() {
                Next::Read => torn.extend(step(until, self.read_on(reader)).await?),
                Next::Ready(ready) if row.has_room_for(reader.merge.bytes(ready)) => {
                    reader.merge.take(ready).iter().for_each(|told| row.push(told));
                }
                Next::Ready(_) => {
                    row.has_more = true;
                    return Ok(torn);
                }
                Next::Nothing => return Ok(torn),
            }
        }
    }
}
