//! Redis' clock set back by minutes while a room is quiet: its members get what comes, at once, in order, once.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

const MINUTES_MS: u128 = 600_000;

/// Stores an event as the function does at a time of ten minutes ago, and sends it unless no node is to hear of it.
async fn store(redis: &Redis, n: u64, prev: &str, sent: bool) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
    let offset = format!("{}-{n}", now - MINUTES_MS);
    let line = format!("1 e{n} 1 0 order:r {offset} {prev}\n{{\"type\":\"order.status_changed\",\"payload\":{{}}}}");
    let mut commands = redis::pipe();
    commands.cmd("XADD").arg("hallway:{order:r}:history").arg(&offset).arg("m").arg(&line).ignore();
    commands.cmd("SET").arg("hallway:{order:r}:last").arg(&offset).ignore();
    commands.query_async::<()>(&mut redis.client().await).await.expect("redis is up");
    if sent {
        redis.publish("order:r", line.as_bytes()).await;
    }
    offset
}

/// A Redis whose data began an hour ago, and a node on it.
async fn set_up() -> (Redis, Node) {
    let redis = Redis::start().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
    let (born, memory) = (now - 3_600_000, 604_800_000);
    let mut marks = redis::pipe();
    marks.cmd("SET").arg("hallway:birth").arg(born.to_string()).ignore();
    marks.cmd("SET").arg("hallway:memory").arg(format!("{memory} {born}")).ignore();
    marks.query_async::<()>(&mut redis.client().await).await.expect("redis is up");
    let node = Node::on(&redis.url()).await;
    (redis, node)
}

async fn hears(member: &mut Client, id: &str, offset: &str) {
    let event = member.event().await.1["event"].take();
    assert_eq!((&event["id"], &event["meta"]["offset"]), (&id.into(), &offset.into()));
}

#[tokio::test]
async fn a_quiet_room_goes_on_when_the_clock_of_redis_is_set_back() {
    let (redis, node) = set_up().await;
    let mut member = Client::connect(node.main(), &token::staff()).await;
    member.join("order:r").await;
    let first = store(&redis, 1, "5-0", true).await;
    hears(&mut member, "e1", &first).await;
    let mut newcomer = Client::connect(node.main(), &token::staff()).await;
    assert_eq!(newcomer.join("order:r").await["offset"], first.as_str());
    // One that is stored and not heard of is missed by the next, and both come in order.
    let second = store(&redis, 2, &first, false).await;
    let third = store(&redis, 3, &second, true).await;
    for client in [&mut member, &mut newcomer] {
        hears(client, "e2", &second).await;
        hears(client, "e3", &third).await;
        client.nothing_came().await;
    }
}

#[tokio::test]
async fn what_a_break_swallowed_then_is_delivered_too() {
    let (redis, node) = set_up().await;
    let mut member = Client::connect(node.main(), &token::staff()).await;
    member.join("order:r").await;
    let first = store(&redis, 1, "5-0", false).await;
    let kill = ["KILL", "TYPE", "pubsub"];
    redis::cmd("CLIENT").arg(&kill).exec_async(&mut redis.client().await).await.expect("redis is up");
    hears(&mut member, "e1", &first).await;
    eventually("the node is ready", || async { (node.readyz().await == 200).then_some(()) }).await;
    let second = store(&redis, 2, &first, true).await;
    hears(&mut member, "e2", &second).await;
    member.nothing_came().await;
}
