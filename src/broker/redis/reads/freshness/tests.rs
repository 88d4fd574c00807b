//! What askers are given by shared reads and kept pages, against a naive look at all that was ever stored.

use std::convert::Infallible;
use std::time::Duration;

use hallway_rooms::class::{Classes, Retention};
use hallway_rooms::entry::{ChainLink, Entry, Retained, RoomPlace};
use hallway_rooms::history::Start;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::*;
use crate::broker::redis::reads::queue::ReadQueue;
use crate::broker::{HistoryRequest, Unavailable};

const BIRTH: u64 = 1_000;

fn room() -> Room {
    let retention = Retention { max_events: 9, ttl: Duration::from_secs(9) };
    Classes::built_in(retention, Duration::from_secs(99)).find_room("order:r").expect("a room")
}

/// A room as Redis holds it, and all that was ever stored in it.
#[derive(Default)]
struct Model {
    ever: Vec<Entry>,
    held: Vec<Entry>,
    now_ms: u64,
    breaks: u64,
    room: Option<Room>,
    /// Events that were read, of which each read counts.
    read: Mutex<usize>,
}

impl Model {
    fn link(&self, entry: &Entry) -> ChainLink {
        entry.link_in(self.room()).expect("it is stored here")
    }

    fn last(&self) -> Option<Offset> {
        self.ever.last().map(|entry| self.link(entry).offset)
    }

    fn store(&mut self, bytes: usize) {
        self.now_ms += 1;
        let link = ChainLink {
            offset: Offset::first_of_ms(self.now_ms),
            prev: self.last().unwrap_or(Offset::first_of_ms(BIRTH)),
        };
        let entry = Entry {
            id: format!("e{}-{}", self.now_ms, self.breaks).parse().expect("an id"),
            timestamp: self.now_ms,
            requires_ack: false,
            places: vec![RoomPlace { room: self.room().clone(), keep: Retained::Stored(link) }],
            earlier: Vec::new(),
            text: vec![b'x'; bytes],
        };
        self.ever.push(entry.clone());
        self.held.push(entry);
    }

    /// A fail-over to a replica that has none of the newest.
    fn lose(&mut self, count: usize) {
        let left = self.ever.len().saturating_sub(count);
        self.ever.truncate(left);
        let ever = &self.ever;
        self.held.retain(|entry| ever.contains(entry));
        self.breaks += 1;
    }

    fn known(&self) -> RoomFacts {
        RoomFacts {
            now_ms: self.now_ms,
            birth_ms: Some(BIRTH),
            last: self.last(),
            memory: Duration::from_hours(1),
            memory_since_ms: 0,
            twice: None,
        }
    }

    /// All that stands behind a place, and ought to.
    fn truth(&self, from: Start) -> Vec<&Entry> {
        self.ever.iter().filter(|entry| from.includes_offset(self.link(entry).offset)).collect()
    }
}

impl HistorySource for Model {
    type Error = Infallible;

    fn room(&self) -> &Room {
        self.room.as_ref().expect("it has one")
    }

    fn breaks(&self) -> u64 {
        self.breaks
    }

    async fn read_facts(&self) -> Result<RoomFacts, Infallible> {
        Ok(self.known())
    }

    async fn read_page(&self, place: Offset, events: usize, bytes: usize) -> Result<Resumed, Infallible> {
        let behind = self.held.iter().filter(|entry| self.link(entry).offset > place);
        let mut entries: Vec<Entry> = behind.take(events + 1).cloned().collect();
        let has_more = entries.len() > events;
        entries.truncate(events);
        *self.read.lock() += entries.len();
        let history = crate::broker::History { facts: self.known(), entries, complete: false, has_more };
        Ok(history.cut_to_bytes(bytes).into_shared())
    }
}

type Answers = Vec<(HistoryRequest, oneshot::Receiver<Result<Resumed, Unavailable>>)>;

/// Has all of them ask at once, and reads until each has its answer.
fn serve(model: &Model, kept: &Mutex<KeptPages>, portions: &[HistoryRequest]) -> Vec<(HistoryRequest, Resumed)> {
    let (mut line, mut answers): (ReadQueue, Answers) = (ReadQueue::default(), Vec::new());
    for portion in portions {
        let (to, answer) = oneshot::channel();
        line.add_waiter(*portion, to);
        answers.push((*portion, answer));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut turns = 0;
    while !line.is_empty() {
        let batch = line.take_batch();
        let place = batch.start_offset().expect("some wait");
        let Ok(stretch) = runtime.block_on(read_beyond_kept(model, kept, &batch, place));
        line.put_back(batch.answer_reached(model.room(), &stretch, place), place);
        turns += 1;
        assert!(turns <= portions.len(), "each read serves one at least");
    }
    let given = answers
        .into_iter()
        .map(|(portion, mut answer)| (portion, answer.try_recv().expect("it was answered").expect("nothing fails")));
    given.collect()
}

/// What is given is in order and within its bounds, and complete is said of what has no gap alone.
fn check(model: &Model, (portion, given): &(HistoryRequest, Resumed)) {
    let ids = |entries: Vec<&Entry>| entries.iter().map(|entry| entry.id.to_string()).collect::<Vec<_>>();
    let got = ids(given.entries.iter().map(AsRef::as_ref).collect());
    let truth = ids(model.truth(portion.from));
    let bytes: usize = given.entries.iter().map(|entry| entry.text.len()).sum();
    assert!(got.len() <= portion.events && (bytes <= portion.bytes || got.len() == 1), "{portion:?}: {got:?}");
    if given.complete {
        assert_eq!(got, truth[..got.len()], "{portion:?} has a gap in front or within");
        assert!(given.has_more || got.len() == truth.len(), "{portion:?} has a gap behind");
    }
    let mut rest = truth.iter();
    assert!(got.iter().all(|id| rest.any(|other| other == id)), "{portion:?}: {got:?} of {truth:?}");
    // What a read of its own would prove is proven.
    let held = ids(model.held.iter().filter(|e| portion.from.includes_offset(model.link(e).offset)).collect());
    let born = portion.from.exclusive_offset() >= Offset::first_of_ms(BIRTH);
    let ahead = model.last().is_none_or(|last| portion.from.exclusive_offset() > last);
    // A place that no event has proves nothing, but for those that never have one.
    let at = portion.from.exclusive_offset();
    let known =
        at.is_quiet() || at == Offset::first_of_ms(BIRTH) || model.ever.iter().any(|e| model.link(e).offset == at);
    if held == truth && born && known && !ahead {
        assert!(given.complete, "{portion:?} is not complete, and nothing is missing");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Store(Vec<usize>),
    Trim(usize),
    Delete(usize),
    Lose(usize),
    Ask(Vec<(u64, usize, usize, bool)>),
}

fn step() -> impl Strategy<Value = Step> {
    let ask = (0..60_u64, 1..8_usize, 1..400_usize, any::<bool>());
    prop_oneof![
        4 => proptest::collection::vec(0..90_usize, 1..12).prop_map(Step::Store),
        1 => (1..6_usize).prop_map(Step::Trim),
        1 => (0..40_usize).prop_map(Step::Delete),
        1 => (1..4_usize).prop_map(Step::Lose),
        6 => proptest::collection::vec(ask, 1..8).prop_map(Step::Ask),
    ]
}

proptest! {
    #[test]
    fn each_asker_is_given_what_is_behind_its_place_and_told_truly_whether_that_is_all(
        steps in proptest::collection::vec(step(), 1..40), most in 200..20_000_usize,
    ) {
        let mut model = Model { now_ms: BIRTH, room: Some(room()), ..Model::default() };
        let kept = Mutex::new(KeptPages::new(most));
        for step in steps {
            match step {
                Step::Store(sizes) => sizes.into_iter().for_each(|bytes| model.store(bytes)),
                Step::Trim(count) => drop(model.held.drain(..count.min(model.held.len()))),
                Step::Delete(at) if at < model.held.len() => drop(model.held.remove(at)),
                Step::Delete(_) => {}
                Step::Lose(count) => model.lose(count),
                Step::Ask(askers) => {
                    let portions: Vec<HistoryRequest> = askers.into_iter().map(|(at, events, bytes, since)| {
                        let from = if since { Start::Since(BIRTH + at) } else { Start::After(Offset::first_of_ms(BIRTH + at)) };
                        HistoryRequest { from, events, bytes }
                    }).collect();
                    for given in serve(&model, &kept, &portions) {
                        check(&model, &given);
                    }
                }
            }
        }
    }
}

#[test]
fn a_herd_costs_one_read_and_who_comes_again_only_what_is_behind_it() {
    let mut model = Model { now_ms: BIRTH, room: Some(room()), ..Model::default() };
    (0..10).for_each(|_| model.store(10));
    let kept = Mutex::new(KeptPages::new(100_000));
    let portion = HistoryRequest { from: Start::After(Offset::first_of_ms(BIRTH)), events: 1000, bytes: 100_000 };
    assert!(serve(&model, &kept, &[portion; 50]).iter().all(|(_, given)| given.entries.len() == 10 && given.complete));
    assert_eq!(*model.read.lock(), 10);
    model.store(10);
    assert!(serve(&model, &kept, &[portion; 50]).iter().all(|(_, given)| given.entries.len() == 11 && given.complete));
    assert_eq!(*model.read.lock(), 11, "what was read is not read again");
}
