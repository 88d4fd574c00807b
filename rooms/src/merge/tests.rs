//! The merge against a naive model: a broker that is one list of events, read in pages of any size while it goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::class::{Classes, Retention};
use crate::entry::{ChainLink, Retained};

const ROOMS: usize = 5;

/// What happened, in the order in which it did.
#[derive(Clone, Debug)]
struct World {
    events: Vec<Entry>,
    /// What each room has lost, the oldest first.
    lost: [usize; ROOMS],
}

fn rooms() -> Vec<Room> {
    let retention = Retention { max_events: 9, ttl: Duration::from_secs(9) };
    let classes = Classes::built_in(retention, Duration::from_secs(99));
    (0..ROOMS).map(|n| classes.find_room(&format!("order:{n}")).expect("a room")).collect()
}

/// Events by the rooms that each is in, a bit per room; each room counts its own offsets, which drift apart.
fn events(masks: &[u8]) -> Vec<Entry> {
    let rooms = rooms();
    let mut last = [Offset::first_of_ms(0); ROOMS];
    let mut event = |(n, mask): (usize, &u8)| {
        let mut places = Vec::new();
        for (room, name) in rooms.iter().enumerate().filter(|(room, _)| mask & (1 << room) != 0) {
            let offset = Offset { ms: last[room].ms + 1 + (n * 7 + room * 3) as u64 % 5, n: n as u64 };
            let link = ChainLink { offset, prev: std::mem::replace(&mut last[room], offset) };
            places.push(RoomPlace { room: name.clone(), keep: Retained::Stored(link) });
        }
        let id = format!("e{n}").parse().expect("an id");
        Entry { id, timestamp: 0, requires_ack: false, places, earlier: Vec::new(), text: Vec::new() }
    };
    masks.iter().enumerate().map(&mut event).collect()
}

impl World {
    /// A room's history among the first `so_far` events, from a place on: a page, whether more follow, and the head.
    fn read(&self, room: &Room, at: usize, so_far: usize, after: Offset, limit: usize) -> (Vec<Entry>, bool, Offset) {
        let stored: Vec<(Offset, &Entry)> =
            self.events[..so_far].iter().filter_map(|e| Some((e.link_in(room)?.offset, e))).collect();
        let head = stored.last().map(|(offset, _)| *offset).unwrap_or_default();
        let kept = stored.into_iter().skip(self.lost[at]).filter(|(offset, _)| *offset > after);
        let mut page: Vec<Entry> = kept.map(|(_, entry)| entry.clone()).take(limit + 1).collect();
        let more = page.len() > limit;
        page.truncate(limit);
        (page, more, head)
    }
}

/// One reading of some rooms while the world goes on: each read sees `pace` events more than the last.
#[derive(Debug)]
struct Reading {
    world: World,
    /// The rooms that are read, with the event from which on.
    from: BTreeMap<usize, usize>,
    limit: usize,
    pace: usize,
    so_far: usize,
}

impl Reading {
    /// The number of every event that came out, with the rooms of its places.
    fn run(mut self) -> Vec<(usize, Vec<usize>)> {
        let (all, mut merge) = (rooms(), Merge::default());
        let named: Vec<usize> = self.from.keys().copied().collect();
        for (room, from) in &self.from {
            let mut had = self.world.events[..*from].iter().filter_map(|e| e.link_in(&all[*room]));
            merge.add(all[*room].clone(), had.next_back().map(|link| link.offset).unwrap_or_default());
        }
        let (mut out, mut before) = (Vec::new(), None);
        loop {
            match merge.next_step() {
                MergeStep::Read => {
                    let due = merge.rooms_to_read();
                    assert!(!due.is_empty(), "a read that reads nothing");
                    for at in due {
                        self.so_far = (self.so_far + self.pace).min(self.world.events.len());
                        let (room, after) = (named[at], merge.read_offset(at));
                        let (page, more, head) = self.world.read(&all[room], room, self.so_far, after, self.limit);
                        merge.fill_room(at, page, more, head);
                    }
                }
                MergeStep::Ready(ready) => {
                    let sent = merge.take_event(ready).expect("it is ready");
                    assert!(!sent.again, "every event has one id");
                    let number = sent.entry.id.as_str()[1..].parse().expect("a number");
                    out.push((number, sent.places.iter().map(|(_, at)| named[*at]).collect()));
                }
                MergeStep::Nothing if before == Some((out.len(), self.world.events.len())) => return out,
                MergeStep::Nothing => {
                    before = Some((out.len(), self.so_far));
                    assert_cut(&self.world, &merge, &self.from);
                    (0..named.len()).for_each(|at| merge.reopen_room(at));
                }
            }
        }
    }
}

/// Asserts that an event is told in all of its rooms in which it is news, or in none.
fn assert_cut(world: &World, merge: &Merge, from: &BTreeMap<usize, usize>) {
    let all = rooms();
    for (n, event) in world.events.iter().enumerate().filter(|_| world.lost == [0; ROOMS]) {
        let news = from.iter().enumerate().filter(|(_, (_, from))| n >= **from);
        let sides =
            news.filter_map(|(at, (room, _))| Some(event.link_in(&all[*room])?.offset <= merge.delivered_offset(at)));
        let sides: Vec<bool> = sides.collect();
        assert!(sides.iter().all(|one| *one == sides[0]), "{event:?}: {sides:?}");
    }
}

fn reading() -> impl Strategy<Value = Reading> {
    let from = proptest::collection::btree_map(0..ROOMS, 0..20_usize, 1..=ROOMS);
    (vec(1..32_u8, 0..60), from, 1..6_usize, 0..4_usize, any::<bool>()).prop_map(|(masks, from, limit, pace, same)| {
        let events = events(&masks);
        // All rooms from one moment on, as after a reconnect, or each from another.
        let first = from.values().next().copied().unwrap_or_default();
        let most = events.len();
        let from = from.into_iter().map(|(room, at)| (room, (if same { first } else { at }).min(most))).collect();
        let so_far = events.len() / 2;
        let pace = if so_far == events.len() { pace } else { pace + 1 };
        Reading { world: World { events, lost: [0; ROOMS] }, from, limit, pace, so_far }
    })
}

proptest! {
    #[test]
    fn all_that_is_news_comes_once_in_the_order_in_which_it_happened_to_each_room(reading in reading()) {
        let (world, from) = (reading.world.clone(), reading.from.clone());
        let names = rooms();
        let got = reading.run();
        let mut owed: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (n, event) in world.events.iter().enumerate() {
            let news = from.iter().filter(|(room, from)| n >= **from && event.link_in(&names[**room]).is_some());
            let news: Vec<usize> = news.map(|(room, _)| *room).collect();
            if !news.is_empty() {
                owed.insert(n, news);
            }
        }
        prop_assert_eq!(got.iter().cloned().collect::<BTreeMap<_, _>>(), owed);
        prop_assert_eq!(got.len(), got.iter().map(|(n, _)| n).collect::<HashSet<_>>().len());
        for room in from.keys() {
            let order: Vec<usize> = got.iter().filter(|(_, rooms)| rooms.contains(room)).map(|(n, _)| *n).collect();
            prop_assert!(order.is_sorted(), "room {}: {:?}", room, order);
        }
    }

    #[test]
    fn what_one_room_has_lost_comes_by_the_others_and_holds_nothing_up(reading in reading(), lost in [0..30_usize, 0..30, 0..30, 0..30, 0..30]) {
        let mut reading = reading;
        reading.world.lost = lost;
        let (world, from, names) = (reading.world.clone(), reading.from.clone(), rooms());
        let got = reading.run();
        for (room, from) in &from {
            let kept: Vec<usize> = (0..world.events.len()).filter(|n| world.events[*n].link_in(&names[*room]).is_some()).skip(lost[*room]).filter(|n| n >= from).collect();
            let order: Vec<usize> = got.iter().map(|(n, _)| *n).filter(|n| kept.contains(n)).collect();
            prop_assert_eq!(order, kept, "room {}", room);
        }
        prop_assert_eq!(got.len(), got.iter().map(|(n, _)| n).collect::<HashSet<_>>().len());
    }
}

#[test]
fn rooms_that_disagree_about_the_order_still_give_each_event_once() {
    let (all, mut merge) = (rooms(), Merge::default());
    let place = |room: usize, ms: u64, prev: u64| RoomPlace {
        room: all[room].clone(),
        keep: Retained::Stored(ChainLink { offset: Offset::first_of_ms(ms), prev: Offset::first_of_ms(prev) }),
    };
    let event = |id: &str, places: Vec<RoomPlace>| Entry {
        id: id.parse().expect("an id"),
        timestamp: 0,
        requires_ack: false,
        places,
        earlier: Vec::new(),
        text: Vec::new(),
    };
    let one = event("one", vec![place(0, 1, 0), place(1, 2, 1)]);
    let two = event("two", vec![place(0, 2, 1), place(1, 1, 0)]);
    (0..2).for_each(|room| _ = merge.add(all[room].clone(), Offset::first_of_ms(0)));
    merge.fill_room(0, vec![one.clone(), two.clone()], false, Offset::first_of_ms(2));
    merge.fill_room(1, vec![two, one], false, Offset::first_of_ms(2));
    let mut ids = Vec::new();
    while let MergeStep::Ready(ready) = merge.next_step() {
        ids.push(merge.take_event(ready).expect("it is ready").entry.id.as_str().to_owned());
    }
    assert_eq!((ids, merge.next_step()), (vec!["one".to_owned(), "two".to_owned()], MergeStep::Nothing));
}
