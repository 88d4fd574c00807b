//! S10, S15: `roomSize` counts the sockets of all nodes: own ones at once, others' within two seconds, a dead node's not
//! for longer than half a minute.

use std::collections::HashMap;
use std::time::Duration;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token, within};

const ROOM: &str = "order:r";
const MEMBERS: &str = "hallway:{order:r}:members";
/// How late a node may know of another's sockets.
const LATEST: Duration = Duration::from_secs(2);
/// How long a dead node's sockets may be counted.
const DEAD: Duration = Duration::from_secs(30);

async fn fleet(redis: &Redis) -> Vec<Node> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::on(&redis.url()).await);
    }
    nodes
}

async fn member(node: &Node) -> Client {
    let mut client = Client::connect(node.main(), &token::staff()).await;
    client.join(ROOM).await;
    client
}

async fn leave(client: &mut Client) -> u64 {
    let reply = client.call("leave_room", &format!(r#"{{"room":"{ROOM}"}}"#)).await;
    assert_eq!((&reply["ok"], &reply["data"]["room"]), (&true.into(), &ROOM.into()), "{reply}");
    reply["data"]["roomSize"].as_u64().expect("a number")
}

/// Waits until each of these nodes counts so many.
async fn count(nodes: &[Node], limit: Duration, size: u64) {
    let one = |node| async move {
        within(limit, &format!("{size} are counted"), || async {
            (Node::room_size(node, ROOM).await == size).then_some(())
        })
        .await;
    };
    futures_util::future::join_all(nodes.iter().map(one)).await;
}

async fn hash(redis: &Redis, key: &str) -> HashMap<String, i64> {
    redis::cmd("HGETALL").arg(key).query_async(&mut redis.client().await).await.expect("redis is up")
}

#[tokio::test]
async fn joins_and_leaves_anywhere_are_counted_everywhere() {
    let redis = Redis::start().await;
    let nodes = fleet(&redis).await;
    let mut clients = Vec::new();
    for n in 0..6 {
        clients.push(member(&nodes[n % 3]).await);
        count(&nodes, LATEST, n as u64 + 1).await;
        assert_eq!(clients[n].join(ROOM).await["roomSize"], n + 1);
    }
    let mut late = Client::connect(nodes[1].main(), &token::staff()).await;
    assert_eq!(late.resume(ROOM, "0-0").await["roomSize"], 7, "a join that asks for what it missed");
    count(&nodes, LATEST, 7).await;
    assert_eq!(leave(&mut late).await, 6);
    assert_eq!(leave(&mut late).await, 0, "leaving a room one is not in");
    count(&nodes, LATEST, 6).await;
    for n in (0..6).rev() {
        let client = clients.pop().expect("one is left");
        match n % 2 {
            0 => client.drop_connection(),
            _ => assert_eq!(leave(&mut { client }).await, n),
        }
        count(&nodes, LATEST, n).await;
    }
    assert_eq!(hash(&redis, MEMBERS).await, HashMap::new());
    eventually("the nodes are seen", || async { (nodes[0].metric("hallway_nodes").await == 3.0).then_some(()) }).await;
}

#[tokio::test]
async fn the_sockets_of_a_node_that_was_killed_are_not_counted_for_longer_than_half_a_minute() {
    let redis = Redis::start().await;
    let mut nodes = fleet(&redis).await;
    let _members = [member(&nodes[0]).await, member(&nodes[1]).await, member(&nodes[1]).await];
    count(&nodes, LATEST, 3).await;
    nodes.remove(1).kill();
    count(&nodes, DEAD, 1).await;
    let mut another = member(&nodes[1]).await;
    assert_eq!(another.join(ROOM).await["roomSize"], 2);
    within(DEAD, "it is no node any more", || async { (nodes[0].metric("hallway_nodes").await == 2.0).then_some(()) })
        .await;
    let buried = || async { (hash(&redis, "hallway:nodes").await.len() == 2).then_some(()) };
    within(DEAD, "its name is taken away", buried).await;
    let next = [Node::on(&redis.url()).await];
    count(&next, LATEST, 2).await;
    assert_eq!(hash(&redis, MEMBERS).await.len(), 2, "and nothing of it is left");
}

#[tokio::test]
async fn a_count_without_a_living_node_is_taken_away() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut plant = redis::pipe();
    plant.cmd("HSET").arg(MEMBERS).arg("long-gone").arg(40);
    plant.exec_async(&mut redis.client().await).await.expect("redis is up");
    assert_eq!(node.room_size(ROOM).await, 0);
    assert_eq!(hash(&redis, MEMBERS).await, HashMap::new());
    let _member = member(&node).await;
    eventually("the count is told", || async { (hash(&redis, MEMBERS).await.len() == 1).then_some(()) }).await;
    let ttl: i64 = redis::cmd("PTTL").arg(MEMBERS).query_async(&mut redis.client().await).await.expect("redis is up");
    assert!((1..=3_600_000).contains(&ttl), "it would stay for ever: {ttl}");
}

#[tokio::test]
async fn a_node_that_died_before_this_one_started_is_not_counted_for_long() {
    let redis = Redis::start().await;
    let mut plant = redis::pipe();
    plant.cmd("HSET").arg("hallway:nodes").arg("predecessor").arg(1234);
    plant.cmd("HSET").arg(MEMBERS).arg("predecessor").arg(40);
    plant.exec_async(&mut redis.client().await).await.expect("redis is up");
    let node = Node::on(&redis.url()).await;
    count(std::slice::from_ref(&node), DEAD, 0).await;
    assert_eq!(node.metric("hallway_nodes").await, 1.0);
}

#[tokio::test]
async fn counts_that_redis_lost_are_told_again() {
    let redis = Redis::start().await;
    let nodes = fleet(&redis).await;
    let _members = [member(&nodes[0]).await, member(&nodes[1]).await, member(&nodes[2]).await];
    count(&nodes, LATEST, 3).await;
    let beat = || async { hash(&redis, "hallway:nodes").await.values().all(|bumps| *bumps > 0).then_some(()) };
    eventually("every node has given a sign of life", beat).await;
    let mut lose = redis::cmd("DEL");
    lose.arg("hallway:nodes").arg(MEMBERS).exec_async(&mut redis.client().await).await.expect("redis is up");
    count(&nodes, DEAD, 3).await;
}

#[tokio::test]
async fn a_redis_that_restarts_empty_has_the_right_counts_again() {
    let mut redis = Redis::start_forgetful().await;
    let nodes = fleet(&redis).await;
    let mut members = [member(&nodes[0]).await, member(&nodes[1]).await, member(&nodes[2]).await];
    count(&nodes, LATEST, 3).await;
    redis.kill();
    redis.restart().await;
    for member in &mut members {
        assert_eq!(member.until_closed(DEAD).await, Vec::<String>::new(), "its history was lost");
    }
    for node in &nodes {
        node.ready().await;
    }
    let _members = [member(&nodes[0]).await, member(&nodes[1]).await];
    count(&nodes, LATEST, 2).await;
}

#[tokio::test]
async fn a_redis_that_restarts_with_its_data_counts_what_changed_meanwhile() {
    let mut redis = Redis::start().await;
    let nodes = fleet(&redis).await;
    let (first, second, mut third) = (member(&nodes[0]).await, member(&nodes[1]).await, member(&nodes[2]).await);
    count(&nodes, LATEST, 3).await;
    redis.kill();
    for node in &nodes {
        eventually("readyz says 503", || async { (node.readyz().await == 503).then_some(()) }).await;
    }
    second.drop_connection();
    assert_eq!(leave(&mut third).await, 2, "what is known of the others");
    redis.restart().await;
    for node in &nodes {
        node.ready().await;
    }
    count(&nodes, DEAD, 1).await;
    drop(first);
}

#[tokio::test]
async fn a_leave_is_answered_while_redis_does_not() {
    let redis = Redis::start().await;
    let nodes = fleet(&redis).await;
    let (mut here, _there) = (member(&nodes[0]).await, member(&nodes[1]).await);
    count(&nodes, LATEST, 2).await;
    redis.pause();
    let size = tokio::time::timeout(Duration::from_secs(10), leave(&mut here)).await;
    let again = tokio::time::timeout(Duration::from_secs(10), leave(&mut here)).await;
    redis.go_on();
    assert_eq!(size.ok(), Some(1), "with what was known of the other node");
    assert_eq!(again.ok(), Some(0), "it is not in the room any more");
    count(&nodes, DEAD, 1).await;
}

#[tokio::test]
async fn a_node_that_stops_is_not_counted_from_that_moment() {
    let redis = Redis::start().await;
    let mut nodes = fleet(&redis).await;
    let mut members = Vec::new();
    for _ in 0..5 {
        members.push(member(&nodes[0]).await);
    }
    let _staying = member(&nodes[1]).await;
    count(&nodes, LATEST, 6).await;
    let mut stopping = nodes.remove(0);
    let (status, ()) = tokio::join!(stopping.terminate(), count(&nodes, LATEST, 1));
    assert_eq!(status.code(), Some(0));
    assert_eq!(hash(&redis, "hallway:nodes").await.len(), 2, "its heartbeat is taken away");
    assert_eq!(hash(&redis, MEMBERS).await.len(), 1, "and its count");
}
