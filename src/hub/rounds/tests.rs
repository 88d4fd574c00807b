//! Rounds against a naive model that delivers each event at once: random rooms, batches and slices, sessions that join and
//! leave meanwhile, on real sockets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use bytes::Bytes;
use hallway_rooms::class::{Classes, Retention};
use hallway_rooms::entry::{ChainLink, Entry, Retained, RoomPlace};
use hallway_rooms::envelope::Envelope;
use hallway_rooms::history::RoomFacts;
use hallway_rooms::offset::Offset;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::*;
use crate::auth::claims::Claims;
use crate::hub::batch::Delivery;
use crate::hub::outgoing::RoomTarget;
use crate::hub::room::LocalRoom;
use crate::session::{Dialect, Membership};
use crate::wire::{WireConfig, WireIo, WireListener, text_frame};

const ROOMS: usize = 4;
const SESSIONS: usize = 6;
const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nx-hallway-wire: n0nce\r\n\r\n";

#[derive(Clone, Debug)]
enum Step {
    /// An event of some rooms is judged.
    Event(BTreeSet<usize>),
    /// What was gathered begins.
    Begin,
    /// A slice.
    Serve,
    /// All that is under way.
    Complete,
    /// A session gets something that goes by itself.
    Alone(usize),
    Join(usize, usize),
    Leave(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..ROOMS).prop_map(|room| Step::Event(BTreeSet::from([room]))),
        2 => btree_set(0..ROOMS, 1..=3).prop_map(Step::Event),
        3 => Just(Step::Begin),
        5 => Just(Step::Serve),
        1 => Just(Step::Complete),
        1 => (0..SESSIONS).prop_map(Step::Alone),
        1 => (0..SESSIONS, 0..ROOMS).prop_map(|(session, room)| Step::Join(session, room)),
        1 => (0..SESSIONS, 0..ROOMS).prop_map(|(session, room)| Step::Leave(session, room)),
    ]
}

#[derive(Debug)]
struct WholeArgument;

impl Dialect for WholeArgument {
    fn event_frame(&self, envelope: &Envelope, places: &[&RoomPlace]) -> Bytes {
        let mut argument = String::new();
        envelope.write_argument(places, &mut argument);
        text_frame(argument.as_bytes())
    }

    fn kick_frame(&self) -> Bytes {
        text_frame(b"kicked")
    }
}

/// A session with its peer, and what it is owed by the model: by which rooms, none where it has left them since.
struct Client {
    session: Arc<Session>,
    peer: TcpStream,
    _io: WireIo,
    owed: Vec<(String, BTreeSet<usize>)>,
}

struct World {
    rooms: Vec<Arc<LocalRoom>>,
    clients: Vec<Client>,
    rounds: Rounds,
    gathered: Vec<Delivery>,
    counts: DeliveryCounters,
    slice: usize,
    events: u64,
}

async fn client(dialect: Arc<dyn Dialect>) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut listener = WireListener::new(listener, WireConfig::default(), TaskTracker::new());
    let (accepted, peer) = tokio::join!(listener.accept(), TcpStream::connect(address));
    let (mut io, mut peer) = (accepted.0, peer.unwrap());
    let lane = io.wire().add_lane("");
    io.wire().arm_nonce("n0nce");
    io.write_all(HEAD).await.unwrap();
    peer.read_exact(&mut vec![0; HEAD.len()]).await.unwrap();
    let claims =
        Claims { subject: "u".into(), expires_ms: 0, issued_ms: None, token_id: None, all: serde_json::Map::default() };
    Client { session: Session::new(Arc::new(claims), lane, dialect), peer, _io: io, owed: Vec::new() }
}

fn open_room(n: usize) -> Arc<LocalRoom> {
    let retention = Retention { max_events: 9, ttl: Duration::from_secs(9) };
    let classes = Classes::built_in(retention, Duration::from_secs(99));
    let local = LocalRoom::new(classes.find_room(&format!("order:{n}")).expect("a room"), Arc::default());
    let last = Some(Offset::first_of_ms(1));
    let memory = Duration::from_secs(99);
    let facts = RoomFacts { now_ms: 1, birth_ms: Some(0), last, memory, memory_since_ms: 0, twice: None };
    assert!(!local.start_at_head(&facts));
    Arc::new(local)
}

impl World {
    async fn new(slice: usize) -> Self {
        let dialect: Arc<dyn Dialect> = Arc::new(WholeArgument);
        let mut clients = Vec::new();
        for _ in 0..SESSIONS {
            clients.push(client(dialect.clone()).await);
        }
        Self {
            rooms: (0..ROOMS).map(open_room).collect(),
            clients,
            rounds: Rounds::default(),
            gathered: Vec::new(),
            counts: DeliveryCounters::new(),
            slice,
            events: 1,
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Event(rooms) => self.judge(rooms),
            Step::Begin => self.begin(),
            Step::Complete => self.rounds.complete_all(&self.counts),
            Step::Serve => self.rounds.serve_next(&self.counts),
            Step::Alone(session) => self.push_alone(*session),
            Step::Join(session, room) => self.join(*session, *room),
            Step::Leave(session, room) => self.leave(*session, *room),
        }
    }

    fn judge(&mut self, rooms: &BTreeSet<usize>) {
        self.events += 1;
        let offset = Offset::first_of_ms(self.events);
        let link = |room: &usize| ChainLink { offset, prev: self.rooms[*room].delivered_offset().expect("it is open") };
        let place =
            |room: &usize| RoomPlace { room: self.rooms[*room].room().clone(), keep: Retained::Stored(link(room)) };
        let entry = Entry {
            id: format!("e{}", self.events).parse().expect("an id"),
            timestamp: self.events,
            requires_ack: false,
            places: rooms.iter().map(place).collect(),
            earlier: Vec::new(),
            text: br#"{"type":"order.status_changed","payload":{}}"#.to_vec(),
        };
        let target =
            |(place, room): (usize, &usize)| RoomTarget { local: self.rooms[*room].clone(), place, late: false };
        let delivery = Delivery { targets: rooms.iter().enumerate().map(target).collect(), entry: Arc::new(entry) };
        delivery.advance_rooms();
        for client in &mut self.clients {
            let is_in = |room: &&usize| client.session.membership_in(self.rooms[**room].room()).is_some();
            let mine: BTreeSet<usize> = rooms.iter().filter(is_in).copied().collect();
            if !mine.is_empty() {
                client.owed.push((delivery.entry.id.to_string(), mine));
            }
        }
        self.gathered.push(delivery);
    }

    fn begin(&mut self) {
        // The dispatch takes nothing from the feed then.
        while !self.rounds.has_place() {
            self.rounds.serve_next(&self.counts);
        }
        if let Some(mut fan_out) = FanOut::from_deliveries(self.gathered.drain(..), &self.counts) {
            fan_out.slice = self.slice;
            self.rounds.begin_fan_out(fan_out, &self.counts);
        }
    }

    fn push_alone(&mut self, session: usize) {
        self.begin();
        self.events += 1;
        let client = &mut self.clients[session];
        self.rounds.serve_session(&client.session, &self.counts);
        let label = format!("alone{}", self.events);
        client.session.send_frame(text_frame(format!(r#"{{"event":{{"id":"{label}"}}}}"#).as_bytes()));
        // Of no room: it is owed whatever is left.
        client.owed.push((label, BTreeSet::from([ROOMS])));
    }

    fn join(&mut self, session: usize, room: usize) {
        let (session, local) = (&self.clients[session].session, &self.rooms[room]);
        if session.membership_in(local.room()).is_some() {
            return;
        }
        let mut locked = local.lock_room();
        let membership = Membership::receiving_from(locked.delivered_offset().expect("it is open"));
        let joined = locked.add_member(session.clone(), membership).expect("it is open");
        session.set_membership(local.room(), joined, None);
    }

    fn leave(&mut self, session: usize, room: usize) {
        let client = &mut self.clients[session];
        let Some(joined) = client.session.give_up(self.rooms[room].room()) else { return };
        self.rooms[room].lock_room().remove_member(&joined);
        client.owed.iter_mut().for_each(|(_, rooms)| _ = rooms.remove(&room));
    }

    /// Completes everything, and compares what each peer reads with what it is owed.
    async fn check(mut self) {
        self.begin();
        // As many turns as all sessions together can need.
        for _ in 0..self.events * SESSIONS as u64 {
            self.rounds.serve_next(&self.counts);
        }
        assert!(self.rounds.is_empty(), "a fan-out waits for ever");
        for local in &self.rooms {
            let locked = local.lock_room();
            assert_eq!(Some(locked.served_offset()), locked.delivered_offset());
        }
        for client in &mut self.clients {
            client.session.send_frame(text_frame(br#"{"event":{"id":"end"}}"#));
            let mut got = Vec::new();
            while got.last().is_none_or(|id| id != "end") {
                got.push(next_id(&mut client.peer).await);
            }
            got.pop();
            let mut rest = got.iter().peekable();
            for (id, rooms) in &client.owed {
                let came = rest.next_if(|next| *next == id).is_some();
                assert!(came || rooms.is_empty(), "{id} is missing: {got:?} of {:?}", client.owed);
            }
            assert_eq!(rest.next(), None, "more than is owed: {got:?} of {:?}", client.owed);
        }
    }
}

/// The id of the next event that a peer reads.
async fn next_id(peer: &mut TcpStream) -> String {
    let mut head = [0; 2];
    peer.read_exact(&mut head).await.unwrap();
    let length = match head[1] {
        126 => usize::from(peer.read_u16().await.unwrap()),
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    peer.read_exact(&mut payload).await.unwrap();
    let event: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    event["event"]["id"].as_str().expect("an id").to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_session_gets_what_it_is_owed_in_the_order_of_the_feed_whoever_has_a_turn(
        begin in vec((0..SESSIONS, 0..ROOMS), 4..16),
        steps in vec(step(), 1..60),
        slice in 1_usize..3,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(slice).await;
            begin.into_iter().for_each(|(session, room)| world.join(session, room));
            steps.iter().for_each(|step| world.take(step));
            world.check().await;
        });
    }
}

#[tokio::test]
async fn a_small_room_waits_for_a_slice_and_not_for_a_large_one() {
    let mut world = World::new(1).await;
    (0..5).for_each(|session| world.join(session, 0));
    world.join(5, 1);
    for room in [0, 1] {
        world.judge(&BTreeSet::from([room]));
        world.begin();
    }
    assert_eq!(next_id(&mut world.clients[5].peer).await, "e3");
    let awaits = |client: &&Client| {
        client
            .session
            .membership_in(world.rooms[0].room())
            .is_some_and(|joined| joined.membership.awaits(Offset::first_of_ms(2)))
    };
    assert_eq!(world.clients.iter().filter(awaits).count(), 4, "the large room had one slice");
    let served = |room: usize| world.rooms[room].lock_room().served_offset();
    assert_eq!([0, 1].map(served), [1, 3].map(Offset::first_of_ms), "and is not served before its last one");
}

#[tokio::test]
async fn a_small_room_in_one_batch_with_a_large_one_comes_first_and_goes_on_while_that_is_served() {
    let mut world = World::new(1).await;
    (0..5).for_each(|session| world.join(session, 0));
    world.join(5, 1);
    world.judge(&BTreeSet::from([0, 1]));
    world.begin();
    world.judge(&BTreeSet::from([1]));
    world.begin();
    let peer = &mut world.clients[5].peer;
    assert_eq!([next_id(peer).await, next_id(peer).await], ["e2", "e3"]);
    let served = |room: usize| world.rooms[room].lock_room().served_offset();
    assert_eq!([0, 1].map(served), [1, 3].map(Offset::first_of_ms));
    // It has read what it was owed.
    world.clients[5].owed.clear();
    world.check().await;
}
