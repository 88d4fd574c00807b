//! Healing: what the live feed did not bring is read beside it. The trouble of one room costs no other, and what came into
//! Redis without a message is noticed by a look at all rooms.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use serde_json::json;

use crate::harness::checker::{Histories, Record};
use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::{PATIENCE, eventually, token};

const EVENT: &str = r#"{"type":"order.status_changed","payload":{}}"#;

async fn member(node: &Node, room: &str) -> Client {
    let mut client = Client::connect(node.main(), &token::staff()).await;
    client.join(room).await;
    client
}

async fn publish(redis: &Redis, room: &str) -> String {
    redis.fcall(&[room], EVENT, &[]).await.expect("it is published").id
}

async fn hears(member: &mut Client, id: &str) {
    assert_eq!(member.event().await.1["event"]["id"], id);
}

async fn admin(redis: &Redis) -> MultiplexedConnection {
    redis.client().await
}

async fn break_pubsub(redis: &Redis) {
    let kill = ["KILL", "TYPE", "pubsub"];
    redis::cmd("CLIENT").arg(&kill).exec_async(&mut admin(redis).await).await.expect("redis is up");
}

#[tokio::test]
async fn a_room_that_is_slow_to_be_read_costs_the_others_nothing() {
    const MISSED: usize = 40;
    let redis = Redis::start_forgetful().await;
    let proxy = Proxy::to(redis.address()).await;
    let node = Node::with(&[("HALLWAY_REDIS__URL", &proxy.url())]).await;
    let rooms = ["order:big".to_owned()];
    let mut big = Client::connect(node.main(), &token::staff()).await;
    let mut record = Record::begin("the slow room's".to_owned(), &mut big, &rooms).await;
    let mut good = member(&node, "order:good").await;
    let mut both = member(&node, "order:other").await;
    both.join("store:s:orders").await;

    // Two megabytes come while the node is deaf, by a link that carries as much in some seconds.
    proxy.throttle("healing", 400_000);
    proxy.deafen(true);
    let large = format!(r#"{{"type":"order.status_changed","payload":{{"note":"{}"}}}}"#, "x".repeat(50_000));
    for n in 1..=MISSED {
        redis.fcall(&["order:big"], &large, &["ID", &format!("big-{n}")]).await.expect("it is published");
    }
    proxy.deafen(false);
    proxy.cut("pubsub");
    eventually("the feed has a break", || async {
        node.log().iter().any(|line| line.contains("feed-broken")).then_some(())
    })
    .await;
    for _ in 0..20 {
        let begun = Instant::now();
        let id = publish(&redis, "order:good").await;
        hears(&mut good, &id).await;
        let id = redis.fcall(&["order:other", "store:s:orders"], EVENT, &[]).await.expect("it is published").id;
        hears(&mut both, &id).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "it waited for another room: {:?}", begun.elapsed());
    }
    let id = publish(&redis, "order:new").await;
    let mut newcomer = member(&node, "order:new").await;
    assert_ne!(publish(&redis, "order:new").await, id);
    newcomer.event().await;
    assert!(!node.log().iter().any(|line| line.contains("feed-healed")), "the slow room is still being read");
    record.take_until(&mut big, &format!("big-{MISSED}")).await;
    Histories::read(&redis, &rooms).await.check(&record);
}

#[tokio::test]
async fn keys_of_a_room_that_hold_something_else_cost_no_other_room_anything() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut good = member(&node, "order:good").await;
    for (n, (command, key)) in
        [("SET", "history"), ("SET", "last"), ("RPUSH", "history"), ("RPUSH", "last")].into_iter().enumerate()
    {
        let room = format!("order:bad-{n}");
        let mut bad = member(&node, &room).await;
        let id = publish(&redis, &room).await;
        hears(&mut bad, &id).await;
        let key = format!("hallway:{{{room}}}:{key}");
        let mut spoil = redis::pipe();
        spoil.cmd("DEL").arg(&key).cmd(command).arg(&key).arg("x");
        spoil.exec_async(&mut admin(&redis).await).await.expect("redis is up");
        break_pubsub(&redis).await;
        for _ in 0..3 {
            let id = publish(&redis, "order:good").await;
            hears(&mut good, &id).await;
        }
        let mut newcomer = member(&node, "order:new").await;
        let id = publish(&redis, "order:new").await;
        hears(&mut newcomer, &id).await;
        node.ready().await;
    }
}

/// Stores an event as the function does, without a word to anybody.
async fn store_silently(redis: &Redis, room: &str, id: &str, prev: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
    let (offset, keys) = (format!("{now}-7"), ["history", "last"].map(|key| format!("hallway:{{{room}}}:{key}")));
    let line = format!("1 {id} {now} 0 {room} {offset} {prev}\n{EVENT}");
    let mut store = redis::pipe();
    store.cmd("XADD").arg(&keys[0]).arg(&offset).arg("m").arg(line).cmd("SET").arg(&keys[1]).arg(&offset);
    store.exec_async(&mut admin(redis).await).await.expect("redis is up");
}

#[tokio::test]
async fn what_had_no_message_reaches_members_by_the_next_look_at_all_rooms() {
    let redis = Redis::start().await;
    let node = Node::with(&[("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_REDIS__AUDIT", "300ms")]).await;
    let mut busy = member(&node, "order:busy").await;
    let mut quiet = member(&node, "order:quiet").await;
    let first = redis.fcall(&["order:busy"], EVENT, &[]).await.expect("it is published");
    hears(&mut busy, &first.id).await;
    store_silently(&redis, "order:busy", "silent-1", &first.placed[0].1).await;
    hears(&mut busy, "silent-1").await;
    store_silently(&redis, "order:quiet", "silent-2", "5-0").await;
    hears(&mut quiet, "silent-2").await;
    for (client, room) in [(&mut busy, "order:busy"), (&mut quiet, "order:quiet")] {
        let id = publish(&redis, room).await;
        hears(client, &id).await;
        client.nothing_came().await;
    }
    assert_eq!(node.metric("hallway_rooms_cut_off_total").await, 0.0);
}

/// An older function could stop half-way, or a service store by itself. Its retry finds the id known, and sends nothing.
#[tokio::test]
async fn an_event_that_was_stored_and_never_sent_reaches_members_once_though_its_publisher_tries_again() {
    let redis = Redis::start().await;
    let node = Node::with(&[("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_REDIS__AUDIT", "300ms")]).await;
    let mut both = member(&node, "order:a").await;
    both.join("order:b").await;
    let first = redis.fcall(&["order:a"], EVENT, &[]).await.expect("it is published");
    hears(&mut both, &first.id).await;
    store_silently(&redis, "order:a", "half", &first.placed[0].1).await;
    let mut client = admin(&redis).await;
    let last: String =
        redis::cmd("GET").arg("hallway:{order:a}:last").query_async(&mut client).await.expect("an offset");
    let known = redis::cmd("SET").arg("hallway:{order:a}:id:half").arg(&last).to_owned();
    known.exec_async(&mut client).await.expect("redis is up");
    let again = redis.fcall(&["order:a"], EVENT, &["ID", "half"]).await.expect("it is known");
    assert_eq!(again.placed, [("order:a".to_owned(), last, 1)]);
    hears(&mut both, "half").await;
    // It was to go to another room, too, which it did not reach.
    let others = redis.fcall(&["order:a", "order:b"], EVENT, &["ID", "half"]).await.expect("it is stored");
    assert_eq!(others.placed.iter().map(|place| place.2).collect::<Vec<_>>(), [1, 0]);
    let id = publish(&redis, "order:b").await;
    hears(&mut both, &id).await;
    both.nothing_came().await;
}

#[tokio::test]
async fn what_came_by_a_full_sync_from_another_server_reaches_members() {
    let mut servers = [Redis::start().await, Redis::start().await];
    let url = servers[0].url();
    let node = Node::with(&[("HALLWAY_REDIS__URL", url.as_str()), ("HALLWAY_REDIS__AUDIT", "1s")]).await;
    let rooms = ["order:r".to_owned(), "order:quiet".to_owned()];
    let mut client = Client::connect(node.main(), &token::staff()).await;
    let mut record = Record::begin("the member".to_owned(), &mut client, &rooms).await;
    publish(&servers[0], "order:r").await;
    servers[1].follow(Some(&servers[0])).await;
    servers[1].follow(None).await;
    publish(&servers[1], "order:r").await;
    publish(&servers[1], "order:quiet").await;
    servers[1].is_written().await;
    // It has forgotten whose replica it was, so what it has is copied whole, without the messages that went with it.
    servers[1].kill();
    servers[1].restart().await;
    servers[0].follow(Some(&servers[1])).await;
    servers[0].follow(None).await;
    eventually("all of it is delivered", || async {
        (node.metric("hallway_events_healed_total").await >= 2.0).then_some(())
    })
    .await;
    node.ready().await;
    let last = servers[0].fcall(&["order:r", "order:quiet"], EVENT, &["ID", "last"]).await.expect("it is published");
    assert_eq!(last.id, "last");
    record.take_until(&mut client, "last").await;
    client.nothing_came().await;
    Histories::read(&servers[0], &rooms).await.check(&record);
}

#[tokio::test]
async fn a_room_whose_keys_were_deleted_costs_its_members_their_transports_once() {
    let redis = Redis::start().await;
    let node = Node::with(&[("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_REDIS__AUDIT", "300ms")]).await;
    let mut gone = member(&node, "order:gone").await;
    let mut kept = member(&node, "order:kept").await;
    let published = redis.fcall(&["order:gone"], EVENT, &[]).await.expect("it is published");
    hears(&mut gone, &published.id).await;
    let keys = ["history", "last"].map(|key| format!("hallway:{{order:gone}}:{key}"));
    redis::cmd("DEL").arg(&keys).exec_async(&mut admin(&redis).await).await.expect("redis is up");
    assert_eq!(gone.until_closed(PATIENCE).await, Vec::<String>::new(), "without a 41");

    let mut back = Client::connect(node.main(), &token::staff()).await;
    let argument = json!({"room": "order:gone", "after": published.placed[0].1}).to_string();
    assert_eq!(back.call("join_room", &argument).await["data"]["complete"], false);
    // Some looks later it is still there, and hears what comes.
    let looks = node.metric("hallway_rooms_cut_off_total").await;
    back.nothing_came().await;
    let id = publish(&redis, "order:gone").await;
    hears(&mut back, &id).await;
    let id = publish(&redis, "order:kept").await;
    hears(&mut kept, &id).await;
    assert_eq!(node.metric("hallway_rooms_cut_off_total").await, looks);
}
