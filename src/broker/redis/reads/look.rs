//! One look at a room for all who wait for it: from a kept page on where there is one, else from the place that was asked for.

use hallway_rooms::history::Facts;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use parking_lot::Mutex;

use super::kept::{Era, Kept};
use super::line::Batch;
use super::stretch::{Run, Stretch};
use crate::broker::Resumed;

/// Where a room is read.
pub(super) trait Source {
    type Error;

    /// The room.
    fn room(&self) -> &Room;

    /// How often another server may have answered so far.
    fn breaks(&self) -> u64;

    /// What is known of it.
    async fn facts(&self) -> Result<Facts, Self::Error>;

    /// So many events and bytes of what stands behind a place: one event at least, if there is any.
    async fn page(&self, place: Offset, events: usize, bytes: usize) -> Result<Resumed, Self::Error>;
}

/// What stands behind a place, and in front of it as far as that is kept.
pub(super) async fn look<S: Source>(
    source: &S,
    kept: &Mutex<Kept>,
    batch: &Batch,
    place: Offset,
) -> Result<Stretch, S::Error> {
    // Before anything is asked: what another server says behind a break is of another era.
    let breaks = source.breaks();
    let found = kept.lock().find(source.room(), place);
    if let Some((run, era)) = found {
        if let Some(stretch) = read_on(source, batch, run, Known { kept, era, breaks }).await? {
            return Ok(stretch);
        }
        kept.lock().forget(source.room());
    }
    let (events, bytes) = batch.most();
    let page = source.page(place, events, bytes).await?;
    let stretch = Stretch { start: place, entries: page.entries, facts: page.facts, has_more: page.has_more };
    keep(source.room(), kept, &stretch, breaks);
    Ok(stretch)
}

/// What a kept page was read of, and what has happened since.
struct Known<'a> {
    kept: &'a Mutex<Kept>,
    era: Era,
    breaks: u64,
}

/// A kept page with what has come behind it; none where the one is no past of the other.
async fn read_on<S: Source>(
    source: &S,
    batch: &Batch,
    run: Run,
    known: Known<'_>,
) -> Result<Option<Stretch>, S::Error> {
    let Known { kept, era, breaks } = known;
    let Some((events, bytes)) = batch.wanting(source.room(), &run) else {
        let facts = source.facts().await?;
        let goes_on = era.is_of(&facts, breaks) && facts.last.is_some_and(|last| last >= run.end);
        let has_more = facts.last != Some(run.end);
        return Ok(goes_on.then_some(Stretch { start: run.floor, entries: run.entries, facts, has_more }));
    };
    let page = source.page(run.end, events, bytes).await?;
    let follows = match page.entries.first().and_then(|entry| entry.link(source.room())) {
        Some(link) => link.prev == run.end,
        None => page.facts.last == Some(run.end),
    };
    if !follows || !era.is_of(&page.facts, breaks) {
        return Ok(None);
    }
    let mut entries = run.entries;
    entries.extend(page.entries);
    let stretch = Stretch { start: run.floor, entries, facts: page.facts, has_more: page.has_more };
    keep(source.room(), kept, &stretch, breaks);
    Ok(Some(stretch))
}

fn keep(room: &Room, kept: &Mutex<Kept>, stretch: &Stretch, breaks: u64) {
    kept.lock().put(room, stretch.runs(room), Era::of(&stretch.facts, breaks));
}

#[cfg(test)]
mod tests;
