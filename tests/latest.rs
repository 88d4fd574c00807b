//! `latest` events: of each key a room keeps the newest, each newcomer gets it, and no client sees it go back in time.

use std::io::Write;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::task::JoinSet;

use crate::harness::checker::Record;
use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

const KIND: &str = "agent.location_updated";

fn location(agent: &str, n: usize) -> String {
    json!({"id": format!("{agent}-{n}"), "type": KIND, "payload": {"agentId": agent, "n": n}}).to_string()
}

async fn locate(redis: &Redis, rooms: &[&str], agent: &str, n: usize) {
    redis.fcall(rooms, &location(agent, n), &[]).await.expect("it is published");
}

async fn durable(redis: &Redis, room: &str, id: &str) {
    redis.fcall(&[room], r#"{"type":"t","payload":1}"#, &["ID", id]).await.expect("it is published");
}

fn ids(data: &Value) -> Vec<&str> {
    data["events"].as_array().expect("a list").iter().map(|event| event["id"].as_str().expect("an id")).collect()
}

/// The same with the last `latest` of them sorted: what was kept within one millisecond has no order among its keys.
fn ids_sorted(data: &Value, latest: usize) -> Vec<&str> {
    let mut ids = ids(data);
    let history = ids.len().saturating_sub(latest);
    ids[history..].sort_unstable();
    ids
}

async fn next_id(client: &mut Client) -> String {
    client.event().await.1["event"]["id"].as_str().expect("an id").to_owned()
}

async fn join_since(client: &mut Client, room: &str, since: u64) -> Value {
    let reply = client.call("join_room", &json!({"room": room, "since": since}).to_string()).await;
    assert_eq!(reply["ok"], true, "{reply}");
    reply["data"].clone()
}

#[tokio::test]
async fn whoever_comes_with_an_offset_gets_the_newest_of_each_key_behind_the_history() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    for n in 0..5 {
        locate(&redis, &["zone:z", "agents:all"], "a", n).await;
        locate(&redis, &["zone:z"], "b", n).await;
        durable(&redis, "zone:z", &format!("d{n}")).await;
    }
    locate(&redis, &["zone:z"], "a", 5).await;
    let expected = ["d0", "d1", "d2", "d3", "d4", "a-5", "b-4"];
    let mut client = Client::connect(node.main(), &token::staff()).await;
    let missed = client.call("get_missed_events", r#"{"room":"zone:z","after":"0-1"}"#).await["data"].clone();
    assert_eq!(ids_sorted(&missed, 2), expected);
    assert_eq!(missed["hasMore"], false);
    let events = missed["events"].as_array().expect("a list");
    let newest = events.iter().find(|event| event["id"] == "a-5").expect("it is there");
    assert_eq!(newest["payload"], json!({"agentId": "a", "n": 5}));
    assert_eq!(
        (&newest["meta"], &newest["priority"]),
        (&json!({"room": "zone:z"}), &json!("HIGH")),
        "it has no offset"
    );
    assert_eq!(missed["offset"], missed["events"][4]["meta"]["offset"], "nor any part in the room's");

    let (status, read) = node.get("/v1/rooms/zone:z/events?since=0").await;
    assert_eq!((status, ids_sorted(&read, 2)), (200, expected.to_vec()));
    let joined = client.resume("zone:z", "0-1").await;
    assert_eq!(ids_sorted(&joined, 2), expected);
    let mut plain = Client::connect(node.main(), &token::staff()).await;
    assert_eq!(plain.join("zone:z").await.get("events"), None);
    plain.nothing_came().await;
    client.nothing_came().await;
}

#[tokio::test]
async fn the_embedded_broker_keeps_the_newest_too() {
    let node = Node::embedded().await;
    for n in 0..3 {
        let body = json!({"rooms": ["agent:a", "agents:all"], "id": format!("a-{n}"), "type": KIND, "payload": {"agentId": "a"}});
        assert_eq!(node.post("/v1/publish", body.to_string()).await.1["offsets"], json!({}));
    }
    let mut client = Client::connect(node.main(), &token::staff()).await;
    assert_eq!(ids(&join_since(&mut client, "agents:all", 0).await), ["a-2"]);
    assert_eq!(ids(&join_since(&mut client, "agent:a", 0).await), ["a-2"]);
}

#[tokio::test]
async fn a_room_has_one_entry_per_key_that_expires_with_its_class() {
    let redis = Redis::start().await;
    let _node = Node::on(&redis.url()).await;
    for n in 0..20 {
        locate(&redis, &["zone:z", "agents:all"], "a", n).await;
        locate(&redis, &["agents:all"], "b", n).await;
    }
    let mut connection = redis.client().await;
    for (room, keys) in [("zone:z", 1_i64), ("agents:all", 2)] {
        let key = format!("hallway:{{{room}}}:latest");
        let (len, ttl): (i64, i64) =
            redis::pipe().cmd("HLEN").arg(&key).cmd("PTTL").arg(&key).query_async(&mut connection).await.expect("up");
        assert_eq!(len, keys, "{room}");
        assert!((1..=3_600_000).contains(&ttl), "{ttl}");
    }
}

#[tokio::test]
async fn a_socket_in_several_of_its_rooms_gets_each_once_and_in_order() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    for room in ["agent:a", "agents:all", "zone:z:agents"] {
        client.join(room).await;
    }
    for n in 0..50 {
        locate(&redis, &["agent:a", "agents:all", "zone:z:agents"], "a", n).await;
    }
    for n in 0..50 {
        assert_eq!(next_id(&mut client).await, format!("a-{n}"));
    }
    client.nothing_came().await;
}

/// Clients that join while locations rain down: the newest is in the answer or comes live, never an older one behind it.
#[tokio::test]
async fn a_joiner_misses_no_newest_however_fast_they_come() {
    const LAST: usize = 400;
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut joiners = JoinSet::new();
    for _ in 0..20 {
        let mut client = Client::connect(node.main(), &token::staff()).await;
        joiners.spawn(async move {
            let mut seen = Vec::new();
            let n = |event: &Value| event["payload"]["n"].as_u64().expect("a number");
            while seen.last() != Some(&(LAST as u64)) {
                let data = join_since(&mut client, "agents:all", 0).await;
                seen.extend(data["events"].as_array().expect("a list").iter().map(n));
                for _ in 0..3 {
                    if seen.last() == Some(&(LAST as u64)) {
                        break;
                    }
                    seen.push(n(&client.event().await.1["event"]));
                }
                client.call("leave_room", r#"{"room":"agents:all"}"#).await;
                seen.extend(client.events_aside().iter().map(|(_, argument)| n(&argument["event"])));
            }
            seen
        });
    }
    for n in 0..=LAST {
        locate(&redis, &["agents:all"], "a", n).await;
    }
    for seen in joiners.join_all().await {
        assert!(seen.is_sorted(), "{seen:?}");
    }
}

/// What is current has been read and is on its way when a newer one passes the room: the joiner, who has no seat yet, is
/// told the newer one.
#[tokio::test]
async fn what_comes_between_the_reading_and_the_seat_is_told() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.address()).await;
    // One loop, in which the room is open already: the joiner's first question to Redis is for what is current.
    let node = Node::with(&[("HALLWAY_REDIS__URL", &proxy.url()), ("HALLWAY_SERVER__CORES", "1")]).await;
    let mut member = Client::connect(node.main(), &token::staff()).await;
    member.join("agents:all").await;
    for (agent, n) in [("a", 1), ("b", 1)] {
        locate(&redis, &["agents:all"], agent, n).await;
        assert_eq!(next_id(&mut member).await, format!("{agent}-{n}"));
    }
    let mut joiner = Client::connect(node.main(), &token::staff()).await;
    let before = redis.calls("xrange").await;
    proxy.hold_replies(true);
    joiner.send(r#"42/realtime,7["join_room",{"room":"agents:all","since":0}]"#).await;
    eventually("the room is read", || async { (redis.calls("xrange").await > before).then_some(()) }).await;
    locate(&redis, &["agents:all"], "a", 2).await;
    assert_eq!(next_id(&mut member).await, "a-2");
    proxy.hold_replies(false);
    let reply = joiner.frame().await.expect("a reply");
    let body = reply.strip_prefix("43/realtime,7[").and_then(|body| body.strip_suffix(']')).expect("the reply");
    let reply: Value = serde_json::from_str(body).expect("a map");
    assert_eq!(ids_sorted(&reply["data"], 2), ["a-2", "b-1"]);
    joiner.nothing_came().await;
}

#[tokio::test]
async fn behind_more_than_a_page_the_newest_follow_as_events() {
    let redis = Redis::start().await;
    let node = Node::with(&[("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_HISTORY__MAX_EVENTS", "5000")]).await;
    for n in 0..1500 {
        durable(&redis, "zone:z", &format!("d{n}")).await;
    }
    locate(&redis, &["zone:z"], "a", 1).await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    let data = client.resume("zone:z", "0-1").await;
    assert_eq!((data["hasMore"].as_bool(), ids(&data).len(), ids(&data)[999]), (Some(true), 1000, "d999"));
    for n in 1000..1500 {
        assert_eq!(next_id(&mut client).await, format!("d{n}"));
    }
    assert_eq!(next_id(&mut client).await, "a-1");
    locate(&redis, &["zone:z"], "a", 2).await;
    assert_eq!(next_id(&mut client).await, "a-2");
    client.nothing_came().await;
}

#[tokio::test]
async fn a_history_that_fills_its_page_puts_the_newest_on_the_next_one() {
    let redis = Redis::start().await;
    let node = Node::with(&[("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_HISTORY__MAX_EVENTS", "5000")]).await;
    for n in 0..1000 {
        durable(&redis, "zone:z", &format!("d{n}")).await;
    }
    locate(&redis, &["zone:z"], "a", 1).await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    let mut ask = async |after: &str| {
        let argument = json!({"room": "zone:z", "after": after}).to_string();
        client.call("get_missed_events", &argument).await["data"].clone()
    };
    let first = ask("0-1").await;
    assert_eq!((ids(&first).len(), &first["hasMore"]), (1000, &json!(true)));
    let second = ask(first["offset"].as_str().expect("an offset")).await;
    assert_eq!((ids(&second), &second["hasMore"]), (vec!["a-1"], &json!(false)));
}

#[tokio::test]
async fn what_was_newest_during_a_break_of_the_feed_comes_behind_it() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    let rooms = ["agents:all".to_owned(), "zone:z:agents".to_owned()];
    let _record = Record::begin("member".to_owned(), &mut client, &rooms).await;
    locate(&redis, &["agents:all"], "a", 1).await;
    locate(&redis, &["agents:all"], "b", 1).await;
    assert_eq!([next_id(&mut client).await, next_id(&mut client).await], ["a-1", "b-1"]);
    let mut broken = redis::pipe();
    broken.atomic().cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").ignore();
    broken.cmd("FCALL").arg("hallway_publish").arg(2).arg("hallway:{agents:all}").arg("hallway:{zone:z:agents}");
    broken.arg(location("a", 2)).ignore();
    broken.query_async::<()>(&mut redis.client().await).await.expect("redis is up");
    assert_eq!(next_id(&mut client).await, "a-2");
    eventually("the feed is back", || async {
        (node.metric("hallway_pubsub_connects_total").await >= 2.0).then_some(())
    })
    .await;
    locate(&redis, &["agents:all"], "b", 2).await;
    assert_eq!(next_id(&mut client).await, "b-2", "what had been told is not told again");
    client.nothing_came().await;
}

#[tokio::test]
async fn a_class_or_a_type_can_be_made_latest_and_back_again() {
    let mut file = NamedTempFile::new().expect("a file");
    let text = r#"
        [rooms."zone:{zoneId}"]
        delivery = "latest"
        [types."weather.changed"]
        delivery = "latest"
        key = "place"
        [types."agent.location_updated"]
        delivery = "durable"
    "#;
    file.write_all(text.as_bytes()).expect("it is written");
    let redis = Redis::start().await;
    let path = file.path().to_owned();
    let node = Node::changed(&[("HALLWAY_REDIS__URL", &redis.url())], |command| {
        command.arg("--config").arg(path);
    })
    .await;
    for (id, room, kind, place) in [
        ("w1", "order:o", "weather.changed", "here"),
        ("w2", "order:o", "weather.changed", "there"),
        ("w3", "order:o", "weather.changed", "here"),
        ("l1", "order:o", KIND, "here"),
        ("l2", "order:o", KIND, "here"),
        ("z1", "zone:z", "any", "here"),
        ("z2", "zone:z", "any", "there"),
        ("z3", "zone:z", "other", "there"),
    ] {
        let event = json!({"type": kind, "payload": {"place": place, "agentId": "a"}}).to_string();
        redis.fcall(&[room], &event, &["ID", id]).await.expect("it is published");
    }
    let mut client = Client::connect(node.main(), &token::staff()).await;
    assert_eq!(ids_sorted(&join_since(&mut client, "order:o", 0).await, 2), ["l1", "l2", "w2", "w3"]);
    assert_eq!(ids_sorted(&join_since(&mut client, "zone:z", 0).await, 2), ["z2", "z3"]);
}
