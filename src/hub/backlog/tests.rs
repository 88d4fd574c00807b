//! The backlog against a naive model: random rooms, events, losses of the feed, reads that come late or fail, and sessions
//! in some of the rooms.

use std::collections::BTreeSet;

use hallway_rooms::class::{Classes, Retention};
use hallway_rooms::entry::{Retained, RoomPlace};
use hallway_rooms::position::Position;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;

const ROOMS: usize = 4;

fn room(n: usize) -> Room {
    let retention = Retention { max_events: 9, ttl: Duration::from_secs(9) };
    Classes::built_in(retention, Duration::from_secs(99)).find_room(&format!("order:{n}")).expect("a room")
}

/// A broker and a node: every room's history, and how far the node is.
struct World {
    rooms: Vec<Room>,
    histories: Vec<Vec<Arc<Entry>>>,
    positions: Mutex<Vec<Position>>,
    /// Sessions, each with its rooms.
    sessions: Vec<BTreeSet<usize>>,
    lost: Mutex<usize>,
    /// What each room was delivered, in this order.
    delivered: Vec<Vec<String>>,
    /// What each session was, copies that another room had brought left out.
    received: Vec<Vec<String>>,
    late: usize,
}

impl Rooms for World {
    fn judge_arrival(&self, room: &Room, link: ChainLink, id: &EventId) -> Option<Arrival> {
        Some(self.positions.lock()[self.number(room)].classify_entry(link, id))
    }

    fn delivered_offset(&self, room: &Room) -> Option<Offset> {
        Some(self.positions.lock()[self.number(room)].delivered_offset())
    }

    fn share_member(&self, one: &Room, other: &Room) -> bool {
        let both = [self.number(one), self.number(other)];
        self.sessions.iter().any(|rooms| both.iter().all(|room| rooms.contains(room)))
    }

    fn pass_over(&self, room: &Room, link: ChainLink, id: &EventId) {
        self.positions.lock()[self.number(room)].advance_to(link, id);
    }

    fn skip_lost(&self, room: &Room, to: Offset) {
        *self.lost.lock() += 1;
        self.positions.lock()[self.number(room)].skip_to(to);
    }
}

impl World {
    fn new(sessions: Vec<BTreeSet<usize>>) -> Self {
        Self {
            rooms: (0..ROOMS).map(room).collect(),
            histories: vec![Vec::new(); ROOMS],
            positions: Mutex::new(vec![Position::new(Offset::first_of_ms(0)); ROOMS]),
            received: vec![Vec::new(); sessions.len()],
            sessions,
            lost: Mutex::default(),
            delivered: vec![Vec::new(); ROOMS],
            late: 0,
        }
    }

    fn number(&self, room: &Room) -> usize {
        self.rooms.iter().position(|known| known == room).expect("one of the rooms")
    }

    fn last(&self, room: usize) -> Offset {
        self.histories[room]
            .last()
            .and_then(|entry| entry.link_in(&self.rooms[room]))
            .map_or(Offset::first_of_ms(0), |l| l.offset)
    }

    /// Stores the event of this number in some rooms.
    fn publish(&mut self, n: u64, rooms: &BTreeSet<usize>) -> Arc<Entry> {
        let place = |room: &usize| {
            let link = ChainLink { offset: Offset::first_of_ms(n), prev: self.last(*room) };
            RoomPlace { room: self.rooms[*room].clone(), keep: Retained::Stored(link) }
        };
        let places = rooms.iter().map(place).collect();
        let id = format!("e{n}").parse().expect("an id");
        let entry = Entry { id, timestamp: n, requires_ack: false, places, earlier: Vec::new(), text: b"{}".to_vec() };
        let entry = Arc::new(entry);
        rooms.iter().for_each(|room| self.histories[*room].push(entry.clone()));
        entry
    }

    fn read(&self, pending_read: &PendingRead, limit: usize) -> HealedPage {
        let room = self.number(&pending_read.room);
        let from = pending_read.from.or_else(|| self.delivered_offset(&pending_read.room)).expect("it is open");
        let newer = |entry: &&Arc<Entry>| entry.link_in(&pending_read.room).is_some_and(|link| link.offset > from);
        let mut entries: Vec<Entry> = self.histories[room].iter().filter(newer).map(|e| (**e).clone()).collect();
        let has_more = entries.len() > limit;
        entries.truncate(limit);
        HealedPage { entries, last: Some(self.last(room)), has_more }
    }

    fn deliver(&mut self, delivery: &QueuedEntry) {
        let entry = &delivery.entry;
        let mut rooms = BTreeSet::new();
        for (place, late) in &delivery.places {
            let place = &entry.places[*place];
            let room = self.number(&place.room);
            self.late += usize::from(*late);
            self.positions.lock()[room].advance_to(place.link().expect("it is stored"), &entry.id);
            self.delivered[room].push(entry.id.to_string());
            rooms.insert(room);
        }
        let all: BTreeSet<usize> = entry.places.iter().map(|place| self.number(&place.room)).collect();
        assert!(rooms == all || delivery.is_apart, "who is in both must be told that a copy may have come");
        for (session, received) in self.sessions.iter().zip(&mut self.received) {
            if !session.is_disjoint(&rooms) && !received.contains(&entry.id.to_string()) {
                received.push(entry.id.to_string());
            }
        }
    }

    fn deliver_all(&mut self, backlog: &mut Backlog) {
        let mut turns = 0;
        while let Some(delivery) = backlog.next(&*self) {
            self.deliver(&delivery);
            turns += 1;
            assert!(turns < 10_000, "it does not end");
        }
    }
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// An event of these rooms is stored, and the feed brings it, or loses it.
    Publish(BTreeSet<usize>, bool),
    /// A read begins, or the oldest one ends, or fails.
    Begin,
    End,
    Fail,
    /// A room is to be read: after a break.
    Want(usize),
}

fn rooms() -> impl Strategy<Value = BTreeSet<usize>> {
    proptest::collection::btree_set(0..ROOMS, 1..=ROOMS)
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (rooms(), any::<bool>()).prop_map(|(rooms, received)| Event::Publish(rooms, received)),
        2 => Just(Event::Begin),
        2 => Just(Event::End),
        1 => Just(Event::Fail),
        1 => (0..ROOMS).prop_map(Event::Want),
    ]
}

/// Carries events out; then reads until nothing is behind, but for the rooms of `dead`, whose reads never end.
fn run(world: &mut World, events: &[Event], limit: usize, dead: &BTreeSet<usize>) -> Backlog {
    let mut backlog = Backlog::default();
    let (mut now, mut n) = (Instant::now(), 0);
    let mut running: VecDeque<(PendingRead, HealedPage)> = VecDeque::new();
    let begin = |backlog: &mut Backlog, world: &World, now| {
        let pending_read = backlog.next_read(now)?;
        let page = world.read(&pending_read, limit);
        (!dead.contains(&world.number(&pending_read.room))).then_some((pending_read, page))
    };
    for event in events {
        now += Duration::from_millis(10);
        match event {
            Event::Publish(rooms, received) => {
                n += 1;
                let entry = world.publish(n, rooms);
                if *received {
                    backlog.add_arrival(&entry, EntryTrust::Heard, &*world);
                }
            }
            Event::Begin => running.extend(begin(&mut backlog, world, now)),
            Event::End => {
                running.pop_front().into_iter().for_each(|(pending_read, page)| backlog.add_page(&pending_read, page))
            }
            Event::Fail => {
                if let Some((pending_read, _)) = running.pop_front() {
                    assert!(
                        backlog
                            .fail_read(&pending_read, now, false)
                            .is_none_or(|verdict| verdict != ReadFailure::GiveUp)
                    );
                }
            }
            Event::Want(room) => backlog.request_read(&world.rooms[*room]),
        }
        world.deliver_all(&mut backlog);
    }
    world.rooms.clone().iter().for_each(|room| backlog.request_read(room));
    for _ in 0..1000 {
        now += LONGEST_PAUSE;
        while let Some((pending_read, page)) = running.pop_front() {
            backlog.add_page(&pending_read, page);
            world.deliver_all(&mut backlog);
        }
        while backlog.running < READS
            && let Some(pending_read) = backlog.next_read(now)
        {
            let page = world.read(&pending_read, limit);
            if !dead.contains(&world.number(&pending_read.room)) {
                running.push_back((pending_read, page));
            }
        }
        if running.is_empty() {
            break;
        }
    }
    backlog
}

fn sessions() -> impl Strategy<Value = Vec<BTreeSet<usize>>> {
    proptest::collection::vec(rooms(), 0..4)
}

fn ids(history: &[Arc<Entry>]) -> Vec<String> {
    history.iter().map(|entry| entry.id.to_string()).collect()
}

/// Rooms that share sessions with these, by way of others too.
fn circle_of(mut rooms: BTreeSet<usize>, sessions: &[BTreeSet<usize>]) -> BTreeSet<usize> {
    for _ in 0..ROOMS {
        for session in sessions {
            if !session.is_disjoint(&rooms) {
                rooms.extend(session);
            }
        }
    }
    rooms
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_room_gets_its_history_in_order_and_once_whatever_the_feed_loses(
        events in proptest::collection::vec(event(), 1..60), sessions in sessions(), limit in 1_usize..5,
    ) {
        let mut world = World::new(sessions);
        let backlog = run(&mut world, &events, limit, &BTreeSet::new());
        for room in 0..ROOMS {
            prop_assert_eq!(&world.delivered[room], &ids(&world.histories[room]), "room {}", room);
        }
        prop_assert!(backlog.is_empty() && backlog.bytes == 0 && backlog.running == 0);
        prop_assert_eq!((*world.lost.lock(), world.late), (0, 0));
        let mut backlog = backlog;
        prop_assert!(backlog.take_unconfirmed().is_empty());
        for (session, received) in world.sessions.iter().zip(&world.received) {
            for room in session {
                let owed = ids(&world.histories[*room]);
                let got: Vec<_> = received.iter().filter(|id| owed.contains(*id)).cloned().collect();
                prop_assert_eq!(got, owed, "room {}", room);
            }
        }
    }

    #[test]
    fn no_room_waits_for_one_that_it_shares_no_session_with(
        events in proptest::collection::vec(event(), 1..60), sessions in sessions(), dead in rooms(), limit in 1_usize..5,
    ) {
        let mut world = World::new(sessions);
        run(&mut world, &events, limit, &dead);
        let waiting = circle_of(dead, &world.sessions);
        for room in (0..ROOMS).filter(|room| !waiting.contains(room)) {
            prop_assert_eq!(&world.delivered[room], &ids(&world.histories[room]), "room {}", room);
        }
    }
}

fn both() -> BTreeSet<usize> {
    [0, 1].into()
}

fn pending_read(backlog: &mut Backlog) -> PendingRead {
    backlog.next_read(Instant::now()).expect("a room is to be read")
}

#[test]
fn rooms_that_wait_for_each_other_are_parted_at_the_oldest_entry() {
    let mut world = World::new(vec![both()]);
    // Each room has them in another order, as no broker does.
    let [one, two] = [(1, [1, 3]), (2, [4, 2])].map(|(n, offsets): (u64, [u64; 2])| {
        let prev = |offset: u64| offset.saturating_sub(2);
        let place = |room: usize| {
            let offset = offsets[room];
            let before = if room == 0 {
                prev(offset)
            } else if offset == 3 {
                2
            } else {
                0
            };
            RoomPlace {
                room: world.rooms[room].clone(),
                keep: Retained::Stored(ChainLink {
                    offset: Offset::first_of_ms(offset),
                    prev: Offset::first_of_ms(before),
                }),
            }
        };
        let id = format!("e{n}").parse().expect("an id");
        let places = vec![place(0), place(1)];
        Arc::new(Entry { id, timestamp: n, requires_ack: false, places, earlier: Vec::new(), text: Vec::new() })
    });
    let two = Arc::new(Entry {
        places: vec![
            RoomPlace {
                keep: Retained::Stored(ChainLink { offset: Offset::first_of_ms(4), prev: Offset::first_of_ms(1) }),
                ..two.places[0].clone()
            },
            two.places[1].clone(),
        ],
        ..(*two).clone()
    });
    world.histories = vec![vec![one.clone(), two.clone()], vec![two, one], Vec::new(), Vec::new()];
    let mut backlog = Backlog::default();
    world.rooms.clone().iter().take(2).for_each(|room| backlog.request_read(room));
    while let Some(pending_read) = backlog.next_read(Instant::now()) {
        let mut page = world.read(&pending_read, 9);
        page.last = page.entries.iter().filter_map(|e| e.link_in(&pending_read.room)).map(|link| link.offset).max();
        backlog.add_page(&pending_read, page);
        world.deliver_all(&mut backlog);
    }
    assert!(backlog.is_empty(), "{backlog:?}");
    assert_eq!(world.received[0].len(), 2, "nothing is lost");
}

#[test]
fn what_no_history_has_is_disowned_and_holds_nothing_up() {
    let mut world = World::new(Vec::new());
    let mut backlog = Backlog::default();
    world.publish(1, &[0].into());
    let mut forged = (*world.publish(90, &[0].into())).clone();
    world.histories[0].pop();
    forged.id = "forged".parse().expect("an id");
    forged.places[0].keep =
        Retained::Stored(ChainLink { offset: Offset::first_of_ms(90), prev: Offset::first_of_ms(80) });
    for trust in [EntryTrust::Claimed, EntryTrust::Heard] {
        backlog.add_arrival(&Arc::new(forged.clone()), trust, &world);
        world.deliver_all(&mut backlog);
        let pending_read = pending_read(&mut backlog);
        let page = world.read(&pending_read, 9);
        backlog.add_page(&pending_read, page);
        world.deliver_all(&mut backlog);
        assert_eq!(backlog.take_unconfirmed().len(), 1, "{trust:?}");
        assert!(backlog.is_empty());
    }
    assert_eq!(world.delivered[0], ["e1"]);
}

#[test]
fn what_is_claimed_is_delivered_once_a_history_has_it() {
    let mut world = World::new(Vec::new());
    let mut backlog = Backlog::default();
    let far = world.publish(1, &[0].into());
    backlog.add_arrival(&far, EntryTrust::Claimed, &world);
    world.deliver_all(&mut backlog);
    assert!(world.delivered[0].is_empty());
    let pending_read = pending_read(&mut backlog);
    let page = world.read(&pending_read, 9);
    backlog.add_page(&pending_read, page);
    world.deliver_all(&mut backlog);
    assert_eq!(world.delivered[0], ["e1"]);
    assert!(backlog.is_empty() && backlog.take_unconfirmed().is_empty());
}

#[test]
fn a_history_with_a_hole_costs_its_room_a_cut_and_goes_on() {
    let mut world = World::new(Vec::new());
    let mut backlog = Backlog::default();
    (1..=4).for_each(|n| _ = world.publish(n, &[0].into()));
    world.histories[0].remove(1);
    backlog.request_read(&world.rooms[0]);
    let pending_read = pending_read(&mut backlog);
    let page = world.read(&pending_read, 9);
    backlog.add_page(&pending_read, page);
    world.deliver_all(&mut backlog);
    assert_eq!(world.delivered[0], ["e1", "e3", "e4"]);
    assert_eq!(*world.lost.lock(), 1);
}

#[test]
fn a_queue_that_is_full_takes_no_more_and_the_room_is_read_again() {
    let mut world = World::new(Vec::new());
    let mut backlog = Backlog::default();
    world.publish(1, &[0].into());
    for n in 2..=2000 {
        let entry = world.publish(n, &[0].into());
        backlog.add_arrival(&entry, EntryTrust::Heard, &world);
        world.deliver_all(&mut backlog);
    }
    assert!(backlog.lags[&world.rooms[0]].queue.len() <= QUEUED);
    while let Some(pending_read) = backlog.next_read(Instant::now()) {
        let page = world.read(&pending_read, 700);
        backlog.add_page(&pending_read, page);
        world.deliver_all(&mut backlog);
    }
    assert_eq!(world.delivered[0], ids(&world.histories[0]));
}

#[test]
fn a_room_is_tried_ever_more_rarely_and_given_up_only_while_the_broker_is_well() {
    let mut backlog = Backlog::default();
    let room = room(0);
    let begun = Instant::now();
    let mut now = begun;
    backlog.request_read(&room);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let pending_read = backlog.next_read(now).expect("it is due");
        assert!(matches!(backlog.fail_read(&pending_read, now, false), Some(ReadFailure::Later { .. })));
        assert_eq!(backlog.next_read(now), None, "it waits");
        let due = backlog.next_try().expect("it is tried again");
        pauses.push((due - now).as_millis());
        now = due;
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
    backlog.retry_all_now();
    let pending_read = backlog.next_read(begun).expect("at once");
    assert!(matches!(backlog.fail_read(&pending_read, now, true), Some(ReadFailure::Later { .. })));
    let pending_read = backlog.next_read(now + LONGEST_PAUSE).expect("it is due");
    assert_eq!(backlog.fail_read(&pending_read, now + LONGEST_PAUSE, true), Some(ReadFailure::GiveUp));
    assert!(backlog.is_empty());
}
