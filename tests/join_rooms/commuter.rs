//! Clients that come and go under a publisher whose events are of two and three rooms: they join all their rooms in one act,
//! from where they stand, and have every event once, in the order of each room, with true positions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use hallway_rooms::offset::Offset;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{DEEP, client};
use crate::harness::checker::offset;
use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::publisher::{self, Plan, Progress, Receipt};
use crate::harness::redis::Redis;
use crate::harness::token;

const LAST: &str = "the-last-word";

fn rooms() -> Vec<String> {
    (0..5).map(|n| format!("order:{n}")).collect()
}

/// Events of two and three rooms, and now and then of one.
fn plans(name: &str, count: usize) -> Vec<Plan> {
    let rooms = rooms();
    let plan = |n: usize| {
        let several = [2, 3, 2, 1][n % 4];
        let of = |step: usize| rooms[(n * 3 + name.len() + step * (1 + n % 2)) % rooms.len()].clone();
        let rooms: Vec<String> = (0..several).map(of).collect();
        Plan { id: format!("{name}-{n}"), rooms }
    };
    (0..count).map(plan).collect()
}

/// One client over all its connections.
struct Commuter {
    name: String,
    nodes: Vec<SocketAddr>,
    /// Where it began, and where it stands.
    heads: BTreeMap<String, String>,
    at: BTreeMap<String, String>,
    events: Vec<Value>,
    /// Replies that did not hold everything.
    continued: usize,
}

impl Commuter {
    async fn begin(name: String, node: &Node, nodes: Vec<SocketAddr>, rooms: &[String]) -> Self {
        let wanted: Value = rooms.iter().map(|room| json!({"room": room})).collect();
        let data = client(node).await.join_rooms(&wanted).await;
        let heads = positions(&data);
        Self { name, nodes, at: heads.clone(), heads, events: Vec::new(), continued: 0 }
    }

    /// Comes, stays for some events, and goes, until the last word has come.
    async fn commute(mut self) -> Self {
        for trip in 0.. {
            let node = self.nodes[(trip + self.name.len()) % self.nodes.len()];
            let mut client = Client::connect(node, &token::staff()).await;
            let wanted: Value = self.at.iter().map(|(room, at)| json!({"room": room, "after": at})).collect();
            let data = client.join_rooms(&wanted).await;
            self.answered(&data);
            for _ in 0..trip % 7 * 5 {
                if self.is_over() {
                    break;
                }
                let event = client.event().await.1["event"].take();
                self.take(event);
            }
            if self.is_over() {
                client.nothing_came().await;
                return self;
            }
            client.drop_connection();
        }
        self
    }

    fn answered(&mut self, data: &Value) {
        for one in data["rooms"].as_array().expect("rooms") {
            assert_eq!(one["complete"], true, "{}: {one}", self.name);
        }
        let events = data["events"].as_array().expect("events");
        assert!(events.len() <= 1000, "{}: {}", self.name, events.len());
        events.iter().for_each(|event| self.take(event.clone()));
        self.continued += usize::from(data["hasMore"] == true);
        let told = positions(data);
        if data["hasMore"] == true {
            assert_eq!(
                told, self.at,
                "{}: with more to come, of the last event returned, or where it stood",
                self.name
            );
        }
        self.at = told;
    }

    fn take(&mut self, event: Value) {
        for (room, at) in places(&event) {
            let stood = self.at.insert(room.clone(), at.to_string()).expect("a room it is in");
            assert!(
                stood.parse::<Offset>().expect("an offset") < at,
                "{}: {event} in {room} behind {stood}",
                self.name
            );
        }
        self.events.push(event);
    }

    fn is_over(&self) -> bool {
        self.events.last().is_some_and(|event| event["id"] == LAST)
    }

    /// Asserts that it had everything that was stored in its rooms since it began, and nothing else.
    fn check(&self, receipts: &[Receipt]) {
        let name = &self.name;
        let parse = |text: &String| text.parse::<Offset>().expect("an offset");
        let owed = |receipt: &Receipt| {
            let places = receipt.offsets.iter().map(|(room, at)| (room.clone(), parse(at)));
            let mut owed: Vec<_> =
                places.filter(|(room, at)| self.heads.get(room).is_some_and(|head| *at > parse(head))).collect();
            let first = owed.first().cloned();
            owed.sort();
            (first, owed)
        };
        let all = receipts.iter().map(|receipt| (receipt.id.as_str(), owed(receipt)));
        let truth: HashMap<&str, _> = all.filter(|(_, (first, _))| first.is_some()).collect();
        let mut seen = HashSet::new();
        let mut got: BTreeMap<String, Vec<Offset>> = BTreeMap::new();
        for event in &self.events {
            let id = event["id"].as_str().expect("an id");
            assert!(seen.insert(id), "{name}: {id} came twice");
            let (first, owed) = truth.get(id).unwrap_or_else(|| panic!("{name}: {event} is not owed"));
            assert_eq!(places(event), *owed, "{name}: {event}");
            assert_eq!(
                event["meta"]["room"].as_str(),
                first.as_ref().map(|(room, _)| room.as_str()),
                "{name}: {event}"
            );
            places(event).into_iter().for_each(|(room, at)| got.entry(room).or_default().push(at));
        }
        let missing: Vec<&&str> = truth.keys().filter(|id| !seen.contains(**id)).collect();
        assert!(missing.is_empty(), "{name}: {missing:?} did not come");
        for (room, order) in got {
            assert!(order.is_sorted(), "{name}: out of order in {room}");
        }
    }
}

/// Where a reply says that each room stands.
fn positions(data: &Value) -> BTreeMap<String, String> {
    let one = |one: &Value| {
        (one["room"].as_str().expect("a room").to_owned(), one["offset"].as_str().expect("an offset").to_owned())
    };
    data["rooms"].as_array().expect("rooms").iter().map(one).collect()
}

/// The places that an event names, in the order of the rooms.
fn places(event: &Value) -> Vec<(String, Offset)> {
    let meta = &event["meta"];
    let all = meta["offsets"].as_object().map(|all| all.iter().map(|(room, at)| (room.clone(), offset(at))).collect());
    all.unwrap_or_else(|| vec![(meta["room"].as_str().expect("a room").to_owned(), offset(&meta["offset"]))])
}

/// Commuters of two, three and all rooms, under publishers; `past` events are stored before the first of them comes back.
async fn run(nodes: &[Node], past: usize, each: usize) -> Vec<Commuter> {
    let addresses: Vec<SocketAddr> = nodes.iter().map(Node::main).collect();
    let all = rooms();
    let mut commuters = Vec::new();
    for n in 0..9 {
        let node = &nodes[n % nodes.len()];
        let mine = [&all[..2], &all[1..4], &all[..]][n % 3];
        commuters.push(Commuter::begin(format!("commuter {}", "x".repeat(n)), node, addresses.clone(), mine).await);
    }
    let mut receipts = publisher::by_http_to_any(addresses.clone(), plans("past", past), Progress::default()).await;
    let mut tasks = JoinSet::new();
    commuters.into_iter().for_each(|commuter| _ = tasks.spawn(commuter.commute()));
    let mut publishers = JoinSet::new();
    for name in ["a", "bb", "ccc"] {
        publishers.spawn(publisher::by_http_to_any(addresses.clone(), plans(name, each), Progress::default()));
    }
    receipts.extend(publishers.join_all().await.into_iter().flatten());
    let last = vec![Plan { id: LAST.to_owned(), rooms: all }];
    receipts.extend(publisher::by_http_to_any(addresses, last, Progress::default()).await);
    let commuters = tasks.join_all().await;
    commuters.iter().for_each(|commuter| commuter.check(&receipts));
    commuters
}

async fn fleet(redis: &Redis, settings: &[(&str, &str)]) -> [Node; 3] {
    let url = redis.url();
    // The answer is what these tests are about, not how fast a busy machine gives it.
    let patient = [DEEP, ("HALLWAY_REDIS__URL", url.as_str()), ("HALLWAY_REDIS__ANSWER_WAIT", "20s")];
    let settings = [settings, &patient].concat();
    [Node::with(&settings).await, Node::with(&settings).await, Node::with(&settings).await]
}

#[tokio::test]
async fn whoever_comes_and_goes_has_the_events_of_all_rooms_once_and_in_order() {
    let redis = Redis::start().await;
    run(&fleet(&redis, &[]).await, 0, 300).await;
    run(&[Node::with(&[DEEP]).await], 0, 300).await;
}

#[tokio::test]
async fn what_no_page_holds_follows_across_all_rooms_in_order_and_before_what_is_new() {
    let redis = Redis::start().await;
    for nodes in [Vec::from(fleet(&redis, &[]).await), vec![Node::with(&[DEEP]).await]] {
        let commuters = run(&nodes, 2000, 150).await;
        assert!(commuters.iter().all(|commuter| commuter.continued > 0), "each of them missed more than a page");
    }
}

#[tokio::test]
async fn pages_of_few_bytes_and_a_feed_that_is_too_small_lose_and_swap_nothing() {
    let redis = Redis::start().await;
    let cramped = [("HALLWAY_LIMITS__QUEUE_BYTES", "256KiB"), ("HALLWAY_LIMITS__FEED_ITEMS", "16")];
    run(&fleet(&redis, &cramped).await, 400, 400).await;
}
