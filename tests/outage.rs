//! What a Redis that fails costs: nothing that was stored, for anybody who is connected; and no untrue `complete`.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::harness::checker::{Histories, Record};
use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::publisher::{self, Progress, Receipt, plans, progressed};
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

const EVENTS_EACH: usize = 400;
const LAST: &str = "the-last-word";

fn rooms() -> Vec<String> {
    (0..6).map(|i| format!("order:{i}")).collect()
}

async fn nodes(redis: &Redis, count: usize) -> Vec<Node> {
    let url = redis.url();
    let settings = [("HALLWAY_REDIS__URL", url.as_str()), ("HALLWAY_HISTORY__MAX_EVENTS", "10000")];
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(Node::with(&settings).await);
    }
    nodes
}

/// Members of overlapping rooms on all nodes, each reading until the last word.
async fn members(nodes: &[Node], count: usize) -> JoinSet<Record> {
    let rooms = rooms();
    let mut members = JoinSet::new();
    for i in 0..count {
        let mut client = Client::connect(nodes[i % nodes.len()].main(), &token::staff()).await;
        let mine = [rooms[i % 6].clone(), rooms[(i + 1 + i / 6) % 6].clone()];
        let mut record = Record::begin(format!("member {i}"), &mut client, &mine).await;
        members.spawn(async move {
            record.take_until(&mut client, LAST).await;
            client.nothing_came().await;
            record
        });
    }
    members
}

fn publishers(redis: &Redis, nodes: &[Node], progress: &Progress) -> JoinSet<Vec<Receipt>> {
    let mut publishers = JoinSet::new();
    publishers.spawn(publisher::by_fcall(redis.url(), plans("fcall", EVENTS_EACH, &rooms()), progress.clone()));
    publishers.spawn(publisher::by_fcall(redis.url(), plans("fcall-second", EVENTS_EACH, &rooms()), progress.clone()));
    publishers.spawn(publisher::by_http(nodes[0].main(), plans("http", EVENTS_EACH, &rooms()), progress.clone()));
    publishers
}

async fn settle(redis: &Redis, publishers: JoinSet<Vec<Receipt>>, members: JoinSet<Record>) {
    let mut receipts: Vec<_> = publishers.join_all().await.into_iter().flatten().collect();
    receipts.push(publisher::last_word(&redis.url(), LAST, &rooms()).await);
    let histories = Histories::read(redis, &rooms()).await;
    assert_eq!(histories.events(), 3 * EVENTS_EACH + 1);
    histories.hold(&receipts);
    for record in members.join_all().await {
        histories.check(&record);
    }
}

async fn becomes(node: &Node, status: u16) {
    eventually(&format!("readyz says {status}"), || async { (node.readyz().await == status).then_some(()) }).await;
}

#[tokio::test]
async fn a_redis_killed_and_restarted_loses_nothing_for_anybody_connected() {
    let mut redis = Redis::start().await;
    let nodes = nodes(&redis, 2).await;
    let members = members(&nodes, 24).await;
    let progress = Progress::default();
    let publishers = publishers(&redis, &nodes, &progress);
    progressed(&progress, EVENTS_EACH).await;
    redis.kill();
    for node in &nodes {
        becomes(node, 503).await;
    }
    assert!(progress.load(std::sync::atomic::Ordering::Relaxed) < 3 * EVENTS_EACH, "it was killed too late");
    redis.restart().await;
    for node in &nodes {
        becomes(node, 200).await;
    }
    settle(&redis, publishers, members).await;
}

#[tokio::test]
async fn a_redis_that_pauses_for_seconds_is_back_filled() {
    let redis = Redis::start().await;
    let nodes = nodes(&redis, 2).await;
    let members = members(&nodes, 12).await;
    let progress = Progress::default();
    let publishers = publishers(&redis, &nodes, &progress);
    progressed(&progress, EVENTS_EACH).await;
    redis.pause();
    for node in &nodes {
        becomes(node, 503).await;
    }
    redis.go_on();
    for node in &nodes {
        becomes(node, 200).await;
    }
    settle(&redis, publishers, members).await;
}

#[tokio::test]
async fn pubsub_connections_killed_on_the_fly_lose_and_double_nothing() {
    let redis = Redis::start().await;
    let nodes = nodes(&redis, 2).await;
    let members = members(&nodes, 12).await;
    let progress = Progress::default();
    let publishers = publishers(&redis, &nodes, &progress);
    let mut killed = 0;
    for round in 1..=4 {
        progressed(&progress, round * EVENTS_EACH / 2).await;
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("pubsub");
        killed += kill.query_async::<i64>(&mut redis.client().await).await.expect("redis is up");
    }
    assert!(killed >= 2, "no connection was there to be killed");
    settle(&redis, publishers, members).await;
}

#[tokio::test]
async fn a_join_with_an_ack_id_during_an_outage_is_answered_unavailable_and_the_socket_stays() {
    let mut redis = Redis::start().await;
    let url = redis.url();
    let node = Node::with(&[("HALLWAY_REDIS__URL", &url), ("HALLWAY_REDIS__ANSWER_WAIT", "200ms")]).await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    client.join("order:known").await;
    redis.kill();
    becomes(&node, 503).await;
    for room in ["order:known", "order:new"] {
        let plain = client.call("join_room", &format!(r#"{{"room":"{room}","since":0}}"#)).await;
        assert_eq!(plain, serde_json::json!({"ok": false, "error": "unavailable"}), "{room}");
    }
    let missed = client.call("get_missed_events", r#"{"room":"order:known","since":0}"#).await;
    assert_eq!(missed, serde_json::json!({"ok": false, "error": "unavailable"}));
    redis.restart().await;
    becomes(&node, 200).await;
    let event = r#"{"type":"order.status_changed","payload":{}}"#;
    let published = redis.fcall(&["order:known"], event, &[]).await.expect("it is published");
    assert_eq!(client.event().await.1["event"]["id"], published.id.as_str());
    assert_eq!(client.join("order:new").await["roomSize"], 1);
}

#[tokio::test]
async fn a_join_without_an_ack_id_during_an_outage_is_carried_out_after_it() {
    let mut redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    redis.kill();
    becomes(&node, 503).await;
    client.send(r#"42/realtime,["join_room",{"room":"order:late"}]"#).await;
    redis.restart().await;
    becomes(&node, 200).await;
    let size = || async { (node.get("/v1/rooms/order:late").await.1["size"] == 1).then_some(()) };
    eventually("the join is carried out", size).await;
    let event = r#"{"type":"order.status_changed","payload":{}}"#;
    let published = redis.fcall(&["order:late"], event, &[]).await.expect("it is published");
    assert_eq!(client.event().await.1["event"]["id"], published.id.as_str());
}

#[tokio::test]
async fn a_join_without_an_ack_id_that_waits_too_long_closes_the_transport() {
    let mut redis = Redis::start().await;
    let url = redis.url();
    let node = Node::with(&[("HALLWAY_REDIS__URL", &url), ("HALLWAY_REDIS__JOIN_WAIT", "1s")]).await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    redis.kill();
    becomes(&node, 503).await;
    client.send(r#"42/realtime,["join_room",{"room":"order:late"}]"#).await;
    let before = client.until_closed(Duration::from_secs(10)).await;
    assert_eq!(before, Vec::<String>::new());
}

#[tokio::test]
async fn a_redis_that_forgot_everything_costs_its_members_their_transports_and_is_never_called_complete() {
    let mut redis = Redis::start_forgetful().await;
    let node = Node::on(&redis.url()).await;
    let event = r#"{"type":"order.status_changed","payload":{}}"#;
    let mut member = Client::connect(node.main(), &token::staff()).await;
    member.join("order:busy").await;
    let published = redis.fcall(&["order:busy"], event, &[]).await.expect("it is published");
    assert_eq!(member.event().await.1["event"]["id"], published.id.as_str());
    let mut quiet = Client::connect(node.main(), &token::staff()).await;
    let quiet_head = quiet.join("order:quiet").await["offset"].clone();
    let mut idle = Client::connect(node.main(), &token::staff()).await;

    redis.kill();
    becomes(&node, 503).await;
    redis.restart().await;
    assert_eq!(member.until_closed(Duration::from_secs(20)).await, Vec::<String>::new());
    assert_eq!(quiet.until_closed(Duration::from_secs(20)).await, Vec::<String>::new());
    node.moves("hallway_rooms_cut_off_total").await;
    becomes(&node, 200).await;
    idle.nothing_came().await;

    let offset = published.placed[0].1.clone();
    for (room, after) in [("order:busy", offset.as_str()), ("order:quiet", quiet_head.as_str().expect("an offset"))] {
        assert_eq!(idle.resume(room, after).await["complete"], false, "{room}");
        redis.fcall(&[room], event, &[]).await.expect("it is published");
        idle.event().await;
        assert_eq!(idle.resume(room, after).await["complete"], false, "{room}, with an event");
    }
}

#[tokio::test]
async fn a_redis_that_lost_its_newest_entries_costs_nobody_what_comes_next() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut member = Client::connect(node.main(), &token::staff()).await;
    member.join("order:r").await;
    let event = r#"{"type":"order.status_changed","payload":{}}"#;
    let mut offsets = Vec::new();
    for _ in 0..4 {
        let published = redis.fcall(&["order:r"], event, &[]).await.expect("it is published");
        assert_eq!(member.event().await.1["event"]["id"], published.id.as_str());
        offsets.push(published.placed[0].1.clone());
    }
    let mut lose = redis::pipe();
    lose.cmd("XDEL").arg("hallway:{order:r}:history").arg(&offsets[2..]);
    lose.cmd("SET").arg("hallway:{order:r}:last").arg(&offsets[1]);
    lose.cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub");
    lose.exec_async(&mut redis.client().await).await.expect("redis is up");
    let rewound = || async { (node.metric("hallway_rooms_rewound_total").await > 0.0).then_some(()) };
    eventually("the node notices", rewound).await;
    node.moves("hallway_rooms_rewound_total").await;
    becomes(&node, 200).await;
    let mut other = Client::connect(node.main(), &token::staff()).await;
    assert_eq!(other.resume("order:r", &offsets[3]).await["complete"], false);
    let published = redis.fcall(&["order:r"], event, &[]).await.expect("it is published");
    for client in [&mut member, &mut other] {
        assert_eq!(client.event().await.1["event"]["id"], published.id.as_str());
        client.nothing_came().await;
    }
}

#[tokio::test]
async fn an_evicting_redis_keeps_a_node_not_ready_also_where_config_is_forbidden() {
    let redis = Redis::start().await;
    let mut client = redis.client().await;
    let policy = |policy| redis::cmd("CONFIG").arg("SET").arg("maxmemory-policy").arg(policy).to_owned();
    policy("volatile-lru").exec_async(&mut client).await.expect("redis is up");
    let mut user = redis::cmd("ACL");
    user.arg(&["SETUSER", "gateway", "on", ">secret", "~*", "&*", "+@all", "-config"]);
    user.exec_async(&mut client).await.expect("redis is up");
    let url = format!("redis://gateway:secret@{}", redis.address());
    let node = Node::start(&[("HALLWAY_REDIS__URL", &url)]).await;
    eventually("the policy is noticed", || async {
        node.log().iter().any(|line| line.contains("maxmemory-policy is volatile-lru")).then_some(())
    })
    .await;
    assert_eq!(node.readyz().await, 503);
    policy("noeviction").exec_async(&mut client).await.expect("redis is up");
    node.ready().await;
}

#[tokio::test]
async fn a_batch_in_an_outage_is_answered_after_one_time_out_not_after_one_per_event() {
    let redis = Redis::start().await;
    let settings = [("HALLWAY_REDIS__URL", redis.url()), ("HALLWAY_REDIS__RESPONSE_TIMEOUT", "500ms".to_owned())];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let node = Node::with(&settings).await;
    redis.pause();
    let event = r#"{"room":"order:r","type":"order.status_changed","payload":{}}"#;
    let batch = format!(r#"{{"events":[{}]}}"#, vec![event; 50].join(","));
    let answer = tokio::time::timeout(Duration::from_secs(10), node.post("/v1/publish/batch", batch)).await;
    redis.go_on();
    let (status, reply) = answer.expect("it is answered");
    let results = reply["results"].as_array().expect("results");
    assert_eq!((status, results.len()), (200, 50));
    assert!(results.iter().all(|result| result["error"]["code"] == "unavailable"), "{reply}");
}

#[tokio::test]
async fn what_a_redis_lost_and_is_given_again_reaches_nobody_twice() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut member = Client::connect(node.main(), &token::staff()).await;
    member.join("order:r").await;
    let event = r#"{"type":"order.status_changed","payload":{}}"#;
    let kept = redis.fcall(&["order:r"], event, &["ID", "kept"]).await.expect("it is published");
    let lost = redis.fcall(&["order:r"], event, &["ID", "lost"]).await.expect("it is published");
    for id in ["kept", "lost"] {
        assert_eq!(member.event().await.1["event"]["id"], id);
    }
    let mut lose = redis::pipe();
    lose.cmd("XDEL").arg("hallway:{order:r}:history").arg(&lost.placed[0].1);
    lose.cmd("SET").arg("hallway:{order:r}:last").arg(&kept.placed[0].1);
    lose.cmd("DEL").arg("hallway:{order:r}:id:lost");
    lose.cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub");
    lose.exec_async(&mut redis.client().await).await.expect("redis is up");
    let rewound = || async { (node.metric("hallway_rooms_rewound_total").await > 0.0).then_some(()) };
    eventually("the node notices", rewound).await;
    let again = redis.fcall(&["order:r"], event, &["ID", "lost"]).await.expect("it is published again");
    assert_eq!(again.placed[0].2, 0, "Redis had forgotten it");
    redis.fcall(&["order:r"], event, &["ID", "next"]).await.expect("it is published");
    assert_eq!(member.event().await.1["event"]["id"], "next");
}
