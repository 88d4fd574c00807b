//! S30 to S32 across a fleet: every member has every event of its rooms once, in history order; no other client has any.

use std::sync::atomic::Ordering;

use tokio::task::JoinSet;

use crate::harness::checker::{Histories, Record};
use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::publisher::{self, Progress, plans, progressed};
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

const NODES: usize = 3;
const MEMBERS: usize = 56;
const OUTSIDERS: usize = 4;
const EVENTS_EACH: usize = 1250;

fn rooms() -> Vec<String> {
    let of_form = |form: &str| (0..4).map(|i| format!("{form}:{i}")).collect::<Vec<_>>();
    ["order", "store", "user"].iter().flat_map(|form| of_form(form)).collect()
}

fn rooms_of(member: usize, rooms: &[String]) -> Vec<String> {
    let picks = [member, member * 5 + 3, member * 7 + 1];
    let mut mine: Vec<String> = Vec::new();
    for pick in &picks[..1 + member % 3] {
        let room = &rooms[pick % rooms.len()];
        if !mine.contains(room) {
            mine.push(room.clone());
        }
    }
    mine
}

/// Kills Redis and brings it back when a third of the events is published.
async fn kill_and_restart(redis: &mut Redis, nodes: &[Node], progress: &Progress) {
    progressed(progress, 4 * EVENTS_EACH / 3).await;
    redis.kill();
    for node in nodes {
        eventually("readyz says 503", || async { (node.readyz().await == 503).then_some(()) }).await;
    }
    assert!(progress.load(Ordering::Relaxed) < 4 * EVENTS_EACH, "it was killed too late");
    redis.restart().await;
    for node in nodes {
        node.ready().await;
    }
}

/// 5,000 events from four publishers to three nodes with 60 sockets, held against the histories.
async fn course(killed: bool) {
    let mut redis = Redis::start().await;
    let settings = [("HALLWAY_REDIS__URL", redis.url()), ("HALLWAY_HISTORY__MAX_EVENTS", "10000".to_owned())];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(Node::with(&settings).await);
    }
    let rooms = rooms();
    let mut readers = JoinSet::new();
    let mut outsiders = Vec::new();
    for i in 0..MEMBERS + OUTSIDERS {
        let mut client = Client::connect(nodes[i % NODES].main(), &token::staff()).await;
        if i >= MEMBERS {
            client.join("product:nobody-publishes-here").await;
            outsiders.push(client);
            continue;
        }
        let mut record = Record::begin(format!("member {i}"), &mut client, &rooms_of(i, &rooms)).await;
        readers.spawn(async move {
            record.take_until(&mut client, "the-last-word").await;
            client.nothing_came().await;
            record
        });
    }
    let mut publishers = JoinSet::new();
    let progress = Progress::default();
    for name in ["fcall-a", "fcall-second"] {
        publishers.spawn(publisher::by_fcall(redis.url(), plans(name, EVENTS_EACH, &rooms), progress.clone()));
    }
    for (name, node) in ["http-a", "http-second"].iter().zip(&nodes) {
        publishers.spawn(publisher::by_http(node.main(), plans(name, EVENTS_EACH, &rooms), progress.clone()));
    }
    if killed {
        kill_and_restart(&mut redis, &nodes, &progress).await;
    }
    let mut receipts: Vec<_> = publishers.join_all().await.into_iter().flatten().collect();
    receipts.push(publisher::last_word(&redis.url(), "the-last-word", &rooms).await);

    let histories = Histories::read(&redis, &rooms).await;
    assert_eq!(histories.events(), 4 * EVENTS_EACH + 1);
    histories.hold(&receipts);
    let records = readers.join_all().await;
    assert_eq!(records.len(), MEMBERS);
    records.iter().for_each(|record| histories.check(record));
    for outsider in &mut outsiders {
        outsider.nothing_came().await;
    }
}

#[tokio::test]
async fn every_member_on_every_node_has_every_event_once_in_history_order() {
    course(false).await;
}

#[tokio::test]
async fn a_fleet_loses_nothing_and_repeats_nothing_while_redis_is_killed_and_restarted() {
    course(true).await;
}

#[tokio::test]
async fn an_event_published_again_to_a_further_room_reaches_a_socket_in_both_once() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    client.join("store:s").await;
    client.join("product:p").await;
    let event = r#"{"type":"inventory.stock_updated","payload":{}}"#;
    redis.fcall(&["store:s"], event, &["ID", "e1"]).await.expect("it is published");
    assert_eq!(client.event().await.1["event"]["id"], "e1");
    redis.fcall(&["store:s", "product:p"], event, &["ID", "e1"]).await.expect("it is published");
    redis.fcall(&["product:p"], event, &["ID", "e2"]).await.expect("it is published");
    assert_eq!(client.event().await.1["event"]["id"], "e2");
}
