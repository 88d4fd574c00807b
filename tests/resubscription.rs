//! After a cut of pub/sub a node hears all of its rooms again within some round trips, however many rooms there are.
//!
//! `cargo nextest run -E 'test(/resubscription/)' --no-capture` prints how long it took.

use std::io::Write;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

const ROUND_TRIP: Duration = Duration::from_millis(20);
const ROOMS: usize = 3000;
/// Behind the answer to its greeting a connection asks for everything.
const TURNS: usize = 1;
/// All rooms are compared at once, and those behind read at once; a probe may fall between.
const LOOKS: usize = 4;
/// Rooms in one command.
const JOINED: usize = 100;
/// Rooms of one socket.
const OF_A_SOCKET: usize = 1000;

async fn members(node: &Node) -> Vec<Client> {
    let mut members = Vec::new();
    for first in (0..ROOMS).step_by(OF_A_SOCKET) {
        let mut client = Client::connect(node.main(), &token::staff()).await;
        for chunk in (first..first + OF_A_SOCKET).step_by(JOINED) {
            let wanted: Value = (chunk..chunk + JOINED).map(|n| json!({"room": format!("order:{n}")})).collect();
            client.join_rooms(&wanted).await;
        }
        members.push(client);
    }
    members
}

/// Rooms that have a subscriber. Two channels are of no room.
async fn heard(redis: &mut MultiplexedConnection) -> usize {
    let stats: String = redis::cmd("INFO").arg("stats").query_async(redis).await.expect("redis is up");
    let channels = stats.lines().find_map(|line| line.strip_prefix("pubsub_channels:")).expect("it is counted");
    channels.parse::<usize>().expect("a number").saturating_sub(2)
}

#[tokio::test]
async fn a_cut_costs_some_round_trips_and_not_some_for_each_room() {
    let redis = Redis::start_forgetful().await;
    let proxy = Proxy::to(redis.address()).await;
    let url = proxy.url();
    let of_a_socket = OF_A_SOCKET.to_string();
    let node = Node::with(&[
        ("HALLWAY_REDIS__URL", url.as_str()),
        ("HALLWAY_LIMITS__ROOMS_PER_SOCKET", of_a_socket.as_str()),
        ("HALLWAY_LIMITS__COMMANDS_PER_MINUTE", "100000"),
    ])
    .await;
    let mut members = members(&node).await;
    let admin = redis.client().await;
    assert_eq!(heard(&mut admin.clone()).await, ROOMS);
    proxy.take(ROUND_TRIP);
    let connects = node.metric("hallway_pubsub_connects_total").await;

    let looked = proxy.turns("healing");
    let cut = Instant::now();
    assert_eq!(proxy.cut("pubsub"), 1);
    for n in (0..ROOMS).step_by(OF_A_SOCKET) {
        redis.fcall(&[&format!("order:{n}")], r#"{"type":"t","payload":1}"#, &[]).await.expect("it is published");
    }
    eventually("Redis has let go of the old connection", || async {
        (node.metric("hallway_pubsub_connects_total").await > connects || heard(&mut admin.clone()).await < ROOMS)
            .then_some(())
    })
    .await;
    eventually("all rooms are heard", || async { (heard(&mut admin.clone()).await == ROOMS).then_some(()) }).await;
    let subscribed = cut.elapsed();
    for member in &mut members {
        member.event().await;
    }
    let deaf = cut.elapsed();
    let figures = format!("{ROOMS} rooms at {ROUND_TRIP:?}: subscribed in {subscribed:.1?}, delivered in {deaf:.1?}\n");
    std::io::stderr().write_all(figures.as_bytes()).ok();
    let healing = proxy.turns("healing") - looked;
    let turns = proxy.turns("pubsub");
    assert!(turns <= TURNS, "{turns} round trips for {ROOMS} rooms");
    assert!(healing <= LOOKS, "{healing} round trips to compare {ROOMS} rooms and read what three of them missed");
}
