//! Events that wait go out together (S6, S31): whatever is joined or served in slices, each member gets its rooms whole, in
//! order, each event once.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

const LAST: &str = "last";

/// A node with histories that hold all of a test.
async fn scene() -> (Redis, Node) {
    let redis = Redis::start().await;
    let url = redis.url();
    let settings = [
        ("HALLWAY_REDIS__URL", url.as_str()),
        ("HALLWAY_HISTORY__MAX_EVENTS", "100000"),
        ("HALLWAY_LIMITS__CONNECTIONS_PER_USER", "1000"),
    ];
    let node = Node::with(&settings).await;
    (redis, node)
}

async fn member(node: &Node, rooms: &[&str]) -> Client {
    let mut client = Client::connect(node.main(), &token::staff()).await;
    for room in rooms {
        client.join(room).await;
    }
    client
}

/// Publishes the events of these numbers in pipelines of a hundred, each to the rooms that `rooms` says.
async fn publish<'a>(redis: &Redis, numbers: Range<usize>, bytes: usize, rooms: impl Fn(usize) -> Vec<&'a str>) {
    let payload = "x".repeat(bytes);
    let mut connection = redis.client().await;
    for from in numbers.clone().step_by(100) {
        let mut pipe = redis::pipe();
        for number in from..numbers.end.min(from + 100) {
            let rooms = rooms(number);
            pipe.cmd("FCALL").arg("hallway_publish").arg(rooms.len());
            rooms.iter().for_each(|room| _ = pipe.arg(format!("hallway:{{{room}}}")));
            let event = json!({"type": "order.status_changed", "payload": {"n": number, "x": payload}});
            pipe.arg(event.to_string()).arg("ID").arg(format!("e-{number}")).ignore();
        }
        pipe.query_async::<()>(&mut connection).await.expect("Redis stores them");
    }
}

async fn publish_last(redis: &Redis, rooms: &[&str]) {
    redis.fcall(rooms, r#"{"type":"order.status_changed","payload":{}}"#, &["ID", LAST]).await.expect("it is stored");
}

/// What a member reads up to the last word: the numbers of the events.
async fn numbers_of(client: &mut Client) -> Vec<usize> {
    let mut numbers = Vec::new();
    loop {
        let (_, argument) = client.event().await;
        if argument["event"]["id"] == LAST {
            return numbers;
        }
        numbers.push(number_of(&argument));
    }
}

fn number_of(argument: &Value) -> usize {
    let number = argument["event"]["payload"]["n"].as_u64().expect("a number");
    usize::try_from(number).expect("a small one")
}

/// Reads with all of these members at once, each up to the last word.
async fn read_all<K: Ord + Send + 'static>(members: Vec<(K, Client)>) -> Vec<(K, Vec<usize>)> {
    let mut readers = JoinSet::new();
    for (key, mut client) in members {
        readers.spawn(async move { (key, numbers_of(&mut client).await) });
    }
    readers.join_all().await
}

#[tokio::test]
async fn a_burst_reaches_each_member_in_order_and_once_also_one_that_reads_late() {
    const EVENTS: usize = 1500;
    let (redis, node) = scene().await;
    let mut members = Vec::new();
    for n in 0..30 {
        members.push((n, member(&node, &["order:b"]).await));
    }
    let mut late = member(&node, &["order:b"]).await;
    node.pause();
    publish(&redis, 0..EVENTS, 200, |_| vec!["order:b"]).await;
    node.go_on();
    publish(&redis, EVENTS..2 * EVENTS, 200, |_| vec!["order:b"]).await;
    publish_last(&redis, &["order:b"]).await;
    let all: Vec<usize> = (0..2 * EVENTS).collect();
    for (n, got) in read_all(members).await {
        assert!(got == all, "member {n}: {got:?}");
    }
    assert!(numbers_of(&mut late).await == all, "what waited for the late one is as whole");
}

#[tokio::test]
async fn one_that_comes_and_goes_during_a_burst_has_each_stay_without_a_gap() {
    const EVENTS: usize = 4000;
    let (redis, node) = scene().await;
    let stays = member(&node, &["order:b"]).await;
    let mut comes = Client::connect(node.main(), &token::staff()).await;
    let bursts = publish(&redis, 0..EVENTS, 200, |_| vec!["order:b"]);
    let visits = async {
        let mut heads = Vec::new();
        for _ in 0..20 {
            heads.push(comes.join("order:b").await["offset"].clone());
            comes.call("leave_room", r#"{"room":"order:b"}"#).await;
            let got: Vec<usize> = comes.events_aside().iter().map(|(_, argument)| number_of(argument)).collect();
            let is_whole = got.windows(2).all(|pair| pair[0] + 1 == pair[1]);
            assert!(is_whole, "a stay with a gap: {got:?}");
        }
        heads
    };
    let ((), heads) = tokio::join!(bursts, visits);
    assert!(heads.windows(2).any(|pair| pair[0] != pair[1]), "the room moved meanwhile");
    publish_last(&redis, &["order:b"]).await;
    let got = read_all(vec![((), stays)]).await.remove(0).1;
    assert!(got == (0..EVENTS).collect::<Vec<_>>(), "{got:?}");
}

/// Events of two rooms, and of both, in turns.
async fn check_two_rooms(events: usize, bytes: usize, members_each: usize) {
    let (redis, node) = scene().await;
    let memberships: [&[&str]; 3] = [&["order:a"], &["order:b"], &["order:a", "order:b"]];
    let rooms_of = |number: usize| memberships[number % 5 % 3].to_vec();
    let mut members = Vec::new();
    for n in 0..3 * members_each {
        members.push((n, member(&node, memberships[n % 3]).await));
    }
    node.pause();
    publish(&redis, 0..events, bytes, rooms_of).await;
    publish_last(&redis, &["order:a", "order:b"]).await;
    node.go_on();
    for (n, got) in read_all(members).await {
        let is_owed = |number: &usize| rooms_of(*number).iter().any(|room| memberships[n % 3].contains(room));
        let owed: Vec<usize> = (0..events).filter(is_owed).collect();
        assert!(got == owed, "a member of {:?}: {got:?}", memberships[n % 3]);
    }
}

#[tokio::test]
async fn members_of_two_rooms_get_the_events_of_both_in_the_order_of_their_publisher() {
    check_two_rooms(1000, 100, 8).await;
}

#[tokio::test]
async fn members_of_two_rooms_that_are_served_in_slices_get_them_in_this_order_too() {
    check_two_rooms(25, 50_000, 20).await;
}

#[tokio::test]
async fn a_large_room_with_large_events_and_small_ones_beside_it_are_all_whole_and_in_order() {
    const EVENTS: usize = 60;
    let (redis, node) = scene().await;
    let small: Vec<String> = (0..6).map(|n| format!("order:s{n}")).collect();
    // Each tenth event is a large one of the large room, the others are of small rooms in turns.
    let is_large = |number: usize| number.is_multiple_of(10);
    let room_of = |number: usize| if is_large(number) { "order:large" } else { &small[number % small.len()] };
    let mut members = Vec::new();
    for n in 0..60 {
        members.push((vec!["order:large".to_owned()], member(&node, &["order:large"]).await));
        let room = &small[n % small.len()];
        members.push((vec![room.clone()], member(&node, &[room.as_str()]).await));
    }
    let both = vec!["order:large".to_owned(), small[1].clone()];
    members.push((both, member(&node, &["order:large", small[1].as_str()]).await));
    node.pause();
    for number in 0..EVENTS {
        let bytes = if is_large(number) { 60_000 } else { 100 };
        publish(&redis, number..number + 1, bytes, |number| vec![room_of(number)]).await;
    }
    let all: Vec<&str> = small.iter().map(String::as_str).chain(["order:large"]).collect();
    publish_last(&redis, &all).await;
    node.go_on();
    for (rooms, got) in read_all(members).await {
        let is_owed = |number: &usize| rooms.iter().any(|room| room == room_of(*number));
        let owed: Vec<usize> = (0..EVENTS).filter(is_owed).collect();
        assert!(got == owed, "a member of {rooms:?}: {got:?}");
    }
}

#[tokio::test]
async fn each_frame_of_a_burst_counts_as_delivered() {
    let (redis, node) = scene().await;
    let mut members = Vec::new();
    for n in 0..5 {
        members.push((n, member(&node, &["order:b"]).await));
    }
    node.pause();
    publish(&redis, 0..300, 100, |_| vec!["order:b"]).await;
    publish_last(&redis, &["order:b"]).await;
    node.go_on();
    let counts: BTreeMap<usize, usize> = read_all(members).await.into_iter().map(|(n, got)| (n, got.len())).collect();
    assert_eq!(counts, (0..5).map(|n| (n, 300)).collect());
    let delivered = || async { (node.metric(hallway::metrics::DELIVERED).await - 5.0 * 301.0).abs() < 0.5 };
    eventually("all deliveries are counted", || async { delivered().await.then_some(()) }).await;
}
