//! A node with several event loops is one node to its clients: every member of a room gets each event once and in order,
//! whichever loop its transport lives in, and all that is counted or ended counts and ends in all loops.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::{PATIENCE, eventually, token};

const EVENT: &str = r#"{"type":"order.status_changed","payload":{}}"#;
const CORES: (&str, &str) = ("HALLWAY_SERVER__CORES", "3");

/// How many connections each loop has.
async fn loads(node: &Node) -> Vec<f64> {
    let text = node.numbers().await;
    let of_loops = text.lines().filter(|line| line.starts_with("hallway_loop_connections{"));
    of_loops.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
}

async fn members(node: &Node, room: &str, count: usize) -> Vec<Client> {
    let mut members = Vec::new();
    for number in 1..=count {
        let mut client = Client::connect(node.main(), &token::staff()).await;
        assert_eq!(client.join(room).await["roomSize"], number, "the members in all loops are counted");
        members.push(client);
    }
    members
}

async fn crowd(node: &Node, user: &str, size: usize) -> Vec<Client> {
    let token = token::user(user);
    join_all((0..size).map(|_| Client::connect(node.main(), &token))).await
}

/// The ids of the next events of a client.
async fn next_ids(client: &mut Client, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(client.event().await.1["event"]["id"].as_str().expect("an id").to_owned());
    }
    ids
}

#[tokio::test]
async fn connections_are_spread_evenly() {
    let node = Node::with(&[CORES]).await;
    let clients = crowd(&node, "u1", 90).await;
    let loads = loads(&node).await;
    assert_eq!(loads.len(), 3, "{loads:?}");
    assert!(
        loads.iter().all(|load| (25.0..=36.0).contains(load)),
        "the fullest has at most 1.2 times the mean: {loads:?}"
    );
    drop(clients);
    eventually("the loops count those that are gone", || async {
        (node.metric("hallway_loop_connections").await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_room_in_all_loops_is_one_room() {
    let redis = Redis::start().await;
    let node = Node::with(&[CORES, ("HALLWAY_REDIS__URL", &redis.url())]).await;
    let mut members = members(&node, "order:one", 6).await;
    let mut ids = Vec::new();
    for number in 0..100 {
        let id = format!("e-{number}");
        redis.fcall(&["order:one"], EVENT, &["ID", &id]).await.expect("it is published");
        ids.push(id);
    }
    for client in &mut members {
        assert_eq!(next_ids(client, 100).await, ids, "each event once, in order");
    }
    assert_eq!(node.get("/v1/rooms/order:one").await.1["size"], 6);
    let left = members[0].call("leave_room", r#"{"room":"order:one"}"#).await;
    assert_eq!(left["data"]["roomSize"], 5, "{left}");
    redis.fcall(&["order:one"], EVENT, &["ID", "behind"]).await.expect("it is published");
    for client in &mut members[1..] {
        assert_eq!(next_ids(client, 1).await, ["behind"]);
    }
    members[0].nothing_came().await;
}

#[tokio::test]
async fn every_loop_heals() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.address()).await;
    let node = Node::with(&[CORES, ("HALLWAY_REDIS__URL", &proxy.url())]).await;
    let mut members = members(&node, "order:deaf", 6).await;
    proxy.deafen(true);
    let mut ids: Vec<String> = (0..20).map(|number| format!("missed-{number}")).collect();
    for id in &ids {
        redis.fcall(&["order:deaf"], EVENT, &["ID", id]).await.expect("it is published");
    }
    proxy.deafen(false);
    proxy.cut("pubsub");
    let heard = members.iter_mut().map(|client| next_ids(client, 20));
    assert!(join_all(heard).await.iter().all(|heard| *heard == ids), "what was missed comes, once and in order");
    ids = vec!["live".to_owned()];
    redis.fcall(&["order:deaf"], EVENT, &["ID", "live"]).await.expect("it is published");
    let heard = members.iter_mut().map(|client| next_ids(client, 1));
    assert!(join_all(heard).await.iter().all(|heard| *heard == ids));
    let of = |event: &str| node.log().iter().filter(|line| line.contains(&format!("\"{event}\""))).count();
    eventually("it has healed", || async { (of("feed-healed") > 0).then_some(()) }).await;
    assert_eq!(of("feed-broken"), of("feed-healed"), "an operator hears of a node, not of its loops");
}

#[tokio::test]
async fn a_room_stays_subscribed_until_its_last_loop_lets_it_go() {
    let redis = Redis::start().await;
    let settings = [CORES, ("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_REDIS__LINGER", "1s")];
    let node = Node::with(&settings).await;
    let mut members = members(&node, "order:long", 3).await;
    let mut last = members.pop().expect("three");
    let subscribed = async |wanted: i64| {
        eventually("the subscription is as it should be", || async {
            (redis.publish("order:long", EVENT.as_bytes()).await == wanted).then_some(())
        })
        .await;
    };
    drop(members);
    // The other loops have let it go by the time that a room which only they had is gone.
    let mut other = Client::connect(node.main(), &token::staff()).await;
    other.join("order:short").await;
    drop(other);
    eventually("the other room is gone", || async { (node.metric("hallway_rooms").await == 1.0).then_some(()) }).await;
    let id = redis.fcall(&["order:long"], EVENT, &["ID", "still"]).await.expect("it is published").id;
    loop {
        if next_ids(&mut last, 1).await == [id.clone()] {
            break;
        }
    }
    drop(last);
    subscribed(0).await;
}

#[tokio::test]
async fn what_ends_sessions_ends_them_in_all_loops() {
    let node = Node::with(&[CORES]).await;
    let mut clients = crowd(&node, "u1", 6).await;
    let (status, kicked) = node.post("/v1/disconnect", json!({"userId": "u1"}).to_string()).await;
    assert_eq!((status, kicked["sockets"].as_u64()), (200, Some(6)), "{kicked}");
    for client in &mut clients {
        assert_eq!(client.until_closed(PATIENCE).await, ["41/realtime,"]);
    }
    let mut clients = crowd(&node, "u2", 6).await;
    node.signal("-TERM");
    for client in &mut clients {
        let frames = client.until_closed(PATIENCE + Duration::from_secs(5)).await;
        assert!(frames.iter().any(|frame| frame.contains("server.draining")), "{frames:?}");
    }
}
