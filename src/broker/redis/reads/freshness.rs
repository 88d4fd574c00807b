//! One read of a room for all waiting commands: continuing a kept page where there is one, otherwise from the
//! requested start.

use hallway_rooms::history::RoomFacts;
use hallway_rooms::key::Room;
use hallway_rooms::offset::Offset;
use parking_lot::Mutex;

use super::kept::{BrokerEra, KeptPages};
use super::queue::ReadBatch;
use super::range::{EntryRun, HistoryRange};
use crate::broker::Resumed;

/// The source of a room's history; a trait, so that tests can use a model.
pub(super) trait HistorySource {
    type Error;

    /// The room.
    fn room(&self) -> &Room;

    /// Breaks so far, after each of which another server may answer.
    fn breaks(&self) -> u64;

    /// The room's facts.
    async fn read_facts(&self) -> Result<RoomFacts, Self::Error>;

    /// At most so many events and bytes after an offset: at least one event, if there is any.
    async fn read_page(&self, place: Offset, events: usize, bytes: usize) -> Result<Resumed, Self::Error>;
}

/// The history after an offset, and before it as far as that is kept.
pub(super) async fn read_beyond_kept<S: HistorySource>(
    source: &S,
    kept: &Mutex<KeptPages>,
    batch: &ReadBatch,
    place: Offset,
) -> Result<HistoryRange, S::Error> {
    // Before any request: a reply after a break belongs to another era.
    let breaks = source.breaks();
    let found = kept.lock().find_page(source.room(), place);
    if let Some((run, era)) = found {
        if let Some(stretch) = read_on(source, batch, run, KeptPageFacts { kept, era, breaks }).await? {
            return Ok(stretch);
        }
        // The page is not the past of these data, so it must not be used again.
        kept.lock().forget(source.room());
    }
    let (events, bytes) = batch.largest_request();
    let page = source.read_page(place, events, bytes).await?;
    let stretch = HistoryRange { start: place, entries: page.entries, facts: page.facts, has_more: page.has_more };
    keep_range(source.room(), kept, &stretch, breaks);
    Ok(stretch)
}

/// The origin of a kept page, and the breaks so far.
struct KeptPageFacts<'a> {
    kept: &'a Mutex<KeptPages>,
    era: BrokerEra,
    breaks: u64,
}

/// Continues a kept page. None when Redis does not hold its continuation.
async fn read_on<S: HistorySource>(
    source: &S,
    batch: &ReadBatch,
    run: EntryRun,
    known: KeptPageFacts<'_>,
) -> Result<Option<HistoryRange>, S::Error> {
    let KeptPageFacts { kept, era, breaks } = known;
    let Some((events, bytes)) = batch.wanted_beyond(source.room(), &run) else {
        // The page covers everybody: the facts alone prove that it is still true.
        let facts = source.read_facts().await?;
        let goes_on = era.is_of(&facts, breaks) && facts.last.is_some_and(|last| last >= run.end);
        // The head has moved on behind the page; the rest is read when it is asked for.
        let has_more = facts.last != Some(run.end);
        return Ok(goes_on.then_some(HistoryRange { start: run.floor, entries: run.entries, facts, has_more }));
    };
    let page = source.read_page(run.end, events, bytes).await?;
    // The continuation must link to the page's end, or the page belongs to a history that was lost.
    let follows = match page.entries.first().and_then(|entry| entry.link_in(source.room())) {
        Some(link) => link.prev == run.end,
        None => page.facts.last == Some(run.end),
    };
    if !follows || !era.is_of(&page.facts, breaks) {
        return Ok(None);
    }
    let mut entries = run.entries;
    entries.extend(page.entries);
    let stretch = HistoryRange { start: run.floor, entries, facts: page.facts, has_more: page.has_more };
    keep_range(source.room(), kept, &stretch, breaks);
    Ok(Some(stretch))
}

fn keep_range(room: &Room, kept: &Mutex<KeptPages>, stretch: &HistoryRange, breaks: u64) {
    kept.lock().put_runs(room, stretch.runs(room), BrokerEra::from_facts(&stretch.facts, breaks));
}

#[cfg(test)]
mod tests;
