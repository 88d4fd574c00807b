//! The ingest stream: what services `XADD` to `hallway:ingest` is published in its order, once, whichever node dies meanwhile;
//! what is bad is put aside and stops nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::checker::{Histories, Record};
use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::publisher::{self, Plan, Progress, plans, progressed};
use crate::harness::redis::Redis;
use crate::harness::{eventually, token, within};

const STREAM: &str = "hallway:ingest";
const REJECTED: &str = "hallway:ingest:rejected";
/// For what is measured in leases of a second and in thousands of events.
const LONG: Duration = Duration::from_secs(60);

/// An entry of a stream: its id and its fields.
type Entry = (String, Vec<(Vec<u8>, Vec<u8>)>);
type Fields<'a> = Vec<(&'a str, &'a [u8])>;

fn fields<'a>(words: &[&'a str]) -> Fields<'a> {
    words.chunks(2).map(|pair| (pair[0], pair[1].as_bytes())).collect()
}

/// An entry that is published to `order:1`.
fn good(id: &str) -> Fields<'_> {
    fields(&["room", "order:1", "type", "t", "payload", "1", "id", id])
}

/// `XADD`s an entry and returns its id.
async fn add(redis: &mut MultiplexedConnection, fields: &Fields<'_>) -> String {
    let mut add = redis::cmd("XADD");
    add.arg(STREAM).arg("*");
    for (name, value) in fields {
        add.arg(*name).arg(*value);
    }
    add.query_async(redis).await.expect("redis is up")
}

async fn length(redis: &mut MultiplexedConnection, stream: &str) -> Option<usize> {
    redis::cmd("XLEN").arg(stream).query_async(redis).await.ok()
}

/// Waits until nothing is left in the ingest stream.
async fn drained(redis: &Redis) {
    let client = redis.client().await;
    within(LONG, "the ingest stream is empty", || async {
        (length(&mut client.clone(), STREAM).await == Some(0)).then_some(())
    })
    .await;
}

/// The ids of a room's history, in its order.
async fn stored(redis: &Redis, room: &str) -> Vec<String> {
    let mut range = redis::cmd("XRANGE");
    range.arg(format!("hallway:{{{room}}}:history")).arg("-").arg("+");
    let stream: Vec<(String, Vec<String>)> = range.query_async(&mut redis.client().await).await.expect("a stream");
    stream.iter().map(|(_, fields)| fields[1].split(' ').nth(1).expect("an id").to_owned()).collect()
}

/// What was put aside, oldest first: its fields by name.
async fn rejected(redis: &Redis) -> Vec<BTreeMap<String, Vec<u8>>> {
    let mut range = redis::cmd("XRANGE");
    range.arg(REJECTED).arg("-").arg("+");
    let stream: Vec<Entry> = range.query_async(&mut redis.client().await).await.expect("a stream");
    let named = |(name, value): (Vec<u8>, Vec<u8>)| (String::from_utf8_lossy(&name).into_owned(), value);
    stream.into_iter().map(|(_, fields)| fields.into_iter().map(named).collect()).collect()
}

async fn node(redis: &Redis, lease: &str) -> Node {
    let url = redis.url();
    let settings = [
        ("HALLWAY_REDIS__URL", url.as_str()),
        ("HALLWAY_HISTORY__MAX_EVENTS", "100000"),
        ("HALLWAY_INGEST__LEASE", lease),
    ];
    Node::with(&settings).await
}

async fn leads(node: &Node) -> bool {
    node.checks().await["ingest"]["leading"] == true
}

async fn becomes_leader(node: &Node) {
    eventually("the node reads the ingest stream", || async { leads(node).await.then_some(()) }).await;
}

/// Two nodes, the one that reads the ingest stream first.
async fn leader_and_other(redis: &Redis, lease: &str) -> (Node, Node) {
    let leader = node(redis, lease).await;
    becomes_leader(&leader).await;
    (leader, node(redis, lease).await)
}

fn rooms() -> Vec<String> {
    (0..6).map(|i| format!("order:{i}")).collect()
}

/// Asserts that every room has just the planned events that name it, in the order of the plans.
async fn all_is_stored_in_order(redis: &Redis, plans: &[Plan]) {
    for room in rooms() {
        let planned: Vec<&String> =
            plans.iter().filter(|plan| plan.rooms.contains(&room)).map(|plan| &plan.id).collect();
        let stored = stored(redis, &room).await;
        let differs = (0..planned.len().max(stored.len())).find(|i| stored.get(*i) != planned.get(*i).copied());
        assert_eq!(differs, None, "{room}: {} planned, {} stored", planned.len(), stored.len());
    }
}

/// A client in two of the rooms, and what it gets until the last word.
async fn member(node: &Node, rooms: &[String]) -> JoinSet<Record> {
    let mut client = Client::connect(node.main(), &token::staff()).await;
    let mut record = Record::begin("a member".to_owned(), &mut client, rooms).await;
    let mut member = JoinSet::new();
    member.spawn(async move {
        record.take_until(&mut client, "the-last-word").await;
        record
    });
    member
}

#[tokio::test]
async fn both_forms_reach_all_their_rooms_in_the_order_of_the_stream() {
    let redis = Redis::start().await;
    let node = node(&redis, "6s").await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    let mut redis_client = redis.client().await;
    for room in ["order:o1", "user:u1"] {
        client.join(room).await;
    }
    let big = r#"{"n": 9007199254740993,"ü":"\u00e9"}"#;
    let flat = [
        "room",
        "order:o1 user:u1",
        "type",
        "order.status_changed",
        "payload",
        big,
        "id",
        "e1",
        "priority",
        "HIGH",
        "timestamp",
        "5",
        "meta",
        r#"{"source":"outbox"}"#,
        "requires_ack",
        "1",
    ];
    add(&mut redis_client, &fields(&flat)).await;
    let whole = r#"{"room":"order:o1","type":"t","payload":[1],"requiresAck":false}"#;
    let derived = add(&mut redis_client, &fields(&["event", whole])).await;
    add(&mut redis_client, &fields(&["room", "user:u1", "type", "typing", "payload", "1", "delivery", "ephemeral"]))
        .await;
    add(&mut redis_client, &fields(&["type", "delivery.assigned", "payload", r#"{"orderId":"o1"}"#, "id", "e4"])).await;

    let (name, first) = client.event().await;
    assert_eq!((name.as_str(), &first["requiresAck"]), ("order.status_changed", &json!(true)));
    let event = &first["event"];
    assert_eq!((&event["id"], &event["priority"], &event["timestamp"]), (&json!("e1"), &json!("HIGH"), &json!(5)));
    assert_eq!(event["payload"], serde_json::from_str::<Value>(big).expect("JSON"));
    assert_eq!(event["meta"]["source"], "outbox");
    assert_eq!(event["meta"]["offsets"].as_object().expect("two rooms").len(), 2);
    let second = client.event().await.1;
    assert_eq!(
        (&second["event"]["id"], &second["event"]["payload"]),
        (&json!(format!("ingest:{derived}")), &json!([1]))
    );
    let third = client.event().await.1;
    assert_eq!((&third["event"]["type"], &third["event"]["meta"]), (&json!("typing"), &json!({"room": "user:u1"})));
    assert_eq!(client.event().await.1["event"]["id"], "e4", "its rooms come from its payload");
    drained(&redis).await;
    assert_eq!(stored(&redis, "order:o1").await, ["e1", &format!("ingest:{derived}"), "e4"]);
    assert_eq!(stored(&redis, "user:u1").await, ["e1"]);
}

#[tokio::test]
async fn what_a_node_left_between_publishing_and_acknowledging_is_stored_once_and_in_its_place() {
    let redis = Redis::start().await;
    node(&redis, "6s").await.terminate().await;
    let mut client = redis.client().await;
    let mut ids = Vec::new();
    for n in ["1", "2", "3", "4"] {
        ids.push(add(&mut client, &fields(&["room", "order:1", "type", "t", "payload", n])).await);
    }
    let mut read = redis::cmd("XREADGROUP");
    read.arg(&["GROUP", "gateway", "gateway", "COUNT", "3", "STREAMS", STREAM, ">"]);
    read.exec_async(&mut client).await.expect("redis is up");
    redis::cmd("XDEL").arg(STREAM).arg(&ids[1]).exec_async(&mut client).await.expect("redis is up");
    let derived = |at: usize| format!("ingest:{}", ids[at]);
    redis.fcall(&["order:1"], r#"{"type":"t","payload":1}"#, &["ID", &derived(0)]).await.expect("published");
    let _node = node(&redis, "6s").await;
    drained(&redis).await;
    assert_eq!(stored(&redis, "order:1").await, [derived(0), derived(2), derived(3)]);
    let mut pending = redis::cmd("XPENDING");
    let pending: Vec<redis::Value> =
        pending.arg(STREAM).arg("gateway").query_async(&mut client).await.expect("redis is up");
    assert_eq!(pending[0], redis::Value::Int(0));
}

#[tokio::test]
async fn bad_entries_are_put_aside_with_their_reason_and_good_ones_pass() {
    let redis = Redis::start().await;
    let node = node(&redis, "6s").await;
    let (large, huge) = (format!("\"{}\"", "x".repeat(70_000)), "y".repeat(1_000_000));
    let nested = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    let many = (0..65).map(|i| format!("order:{i}")).collect::<Vec<_>>().join(" ");
    let good = ["room", "order:1", "type", "t", "payload", "1"];
    let with = |words: &[&'static str]| fields(&[&good[..], words].concat());
    let cases: Vec<(Fields<'_>, &str)> = vec![
        (fields(&["room", "chat:1", "type", "t", "payload", "1"]), "invalid-room"),
        (fields(&["room", "order:1 Order:2", "type", "t", "payload", "1"]), "invalid-room"),
        (fields(&["type", "t", "payload", "1"]), "invalid-room"),
        (fields(&["room", &many, "type", "t", "payload", "1"]), "invalid-room"),
        (fields(&["room", "order:1", "type", "connect", "payload", "1"]), "invalid-event"),
        (fields(&["room", "order:1", "type", "a b", "payload", "1"]), "invalid-event"),
        (fields(&["room", "order:1", "payload", "1"]), "invalid-event"),
        (fields(&["room", "order:1", "type", "t"]), "invalid-event"),
        (fields(&["room", "order:1", "type", "t", "payload", "secret-word"]), "invalid-event"),
        (fields(&["room", "order:1", "type", "t", "payload", r#"1,"id":"forged""#]), "invalid-event"),
        (fields(&["room", "order:1", "type", "t", "payload", &nested]), "invalid-event"),
        (fields(&["room", "order:1", "type", "t", "payload", &large]), "event-too-large"),
        (with(&["id", "a b"]), "invalid-event"),
        (with(&["id", ""]), "invalid-event"),
        (with(&["priority", "urgent"]), "invalid-event"),
        (with(&["timestamp", "1.5"]), "invalid-event"),
        (with(&["meta", "[]"]), "invalid-event"),
        (with(&["requires_ack", "2"]), "invalid-event"),
        (with(&["delivery", "latest"]), "invalid-event"),
        (with(&["type", "u"]), "invalid-event"),
        (with(&["colour", "red"]), "invalid-event"),
        (with(&["event", "{}"]), "invalid-event"),
        (fields(&["event", "no JSON"]), "invalid-event"),
        (fields(&["event", r#"{"room":"order:1","type":"t"}"#]), "invalid-event"),
        (fields(&["event", r#"{"room":"nowhere","type":"t","payload":1}"#]), "invalid-room"),
        (vec![("room", b"order:1"), ("type", b"t"), ("payload", b"\"\xff\"")], "invalid-event"),
        (vec![("event", b"{\"room\":\"order:1\",\"type\":\"t\",\"payload\":\"\xff\"}")], "invalid-event"),
        (vec![("room", b"order:1"), ("what", huge.as_bytes())], "invalid-event"),
    ];
    let mut client = redis.client().await;
    let (mut bad, mut passed) = (Vec::new(), Vec::new());
    for (fields_of, code) in &cases {
        bad.push((add(&mut client, fields_of).await, *code));
        passed.push(format!("ingest:{}", add(&mut client, &fields(&good)).await));
    }
    drained(&redis).await;
    assert_eq!(stored(&redis, "order:1").await, passed);
    let kept = rejected(&redis).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let told: Vec<(String, String)> = kept.iter().map(|r| (text(&r["entry"]), text(&r["code"]))).collect();
    assert_eq!(told, bad.iter().map(|(id, code)| (id.clone(), (*code).to_owned())).collect::<Vec<_>>());
    for (reject, (fields, _)) in kept.iter().zip(&cases) {
        assert!(!reject["reason"].is_empty());
        let size: usize = reject.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(size < 2 * 65_536 + 1024, "{size} bytes of a rejected entry");
        let (name, value) = fields.last().expect("a field");
        assert!(value.starts_with(&reject[*name]), "the entry is there as it came");
    }
    let counted =
        || async { (node.metric("hallway_ingest_rejected_total").await as usize == cases.len()).then_some(()) };
    eventually("all are counted", counted).await;
    let log = node.log().join("\n");
    assert!(log.contains("bad ingest entries were put aside") && !log.contains("secret-word"), "{log}");
}

#[tokio::test]
async fn a_reader_killed_in_the_middle_is_followed_by_another_and_nothing_is_lost_doubled_or_out_of_order() {
    let redis = Redis::start().await;
    let (mut leader, other) = leader_and_other(&redis, "1s").await;
    let member = member(&other, &rooms()[..2]).await;
    let (plans, progress) = (plans("ingest", 6000, &rooms()), Progress::default());
    let mut publishers = JoinSet::new();
    publishers.spawn(publisher::by_ingest(redis.url(), plans.clone(), progress.clone()));
    progressed(&progress, 2000).await;
    leader.kill();
    within(Duration::from_secs(11), "the other node takes over", || async { leads(&other).await.then_some(()) }).await;
    publishers.join_all().await;
    drained(&redis).await;
    all_is_stored_in_order(&redis, &plans).await;
    publisher::last_word(&redis.url(), "the-last-word", &rooms()).await;
    Histories::read(&redis, &rooms()).await.check(&member.join_all().await[0]);
    assert_eq!(length(&mut redis.client().await, REJECTED).await, Some(0));
}

#[tokio::test]
async fn a_reader_that_wakes_up_after_its_turn_neither_doubles_nor_reorders() {
    let redis = Redis::start().await;
    let (mut reader, mut other) = leader_and_other(&redis, "500ms").await;
    let (plans, progress) = (plans("ingest", 6000, &rooms()), Progress::default());
    let mut publishers = JoinSet::new();
    publishers.spawn(publisher::by_ingest(redis.url(), plans.clone(), progress.clone()));
    for round in 1..=4 {
        progressed(&progress, round * 1200).await;
        reader.pause();
        becomes_leader(&other).await;
        progressed(&progress, round * 1200 + 200).await;
        reader.go_on();
        std::mem::swap(&mut reader, &mut other);
    }
    publishers.join_all().await;
    drained(&redis).await;
    all_is_stored_in_order(&redis, &plans).await;
    assert_eq!(length(&mut redis.client().await, REJECTED).await, Some(0));
}

#[tokio::test]
async fn a_redis_killed_and_restarted_in_the_middle_loses_doubles_and_reorders_nothing() {
    let mut redis = Redis::start().await;
    let (leader, other) = leader_and_other(&redis, "1s").await;
    let member = member(&other, &rooms()[..2]).await;
    let (plans, progress) = (plans("ingest", 4000, &rooms()), Progress::default());
    let mut publishers = JoinSet::new();
    publishers.spawn(publisher::by_ingest(redis.url(), plans.clone(), progress.clone()));
    progressed(&progress, 1500).await;
    redis.kill();
    for node in [&leader, &other] {
        eventually("readyz says 503", || async { (node.readyz().await == 503).then_some(()) }).await;
        assert!(!node.log().iter().any(|line| line.contains("is read again")), "nothing is over yet");
    }
    redis.restart().await;
    publishers.join_all().await;
    drained(&redis).await;
    all_is_stored_in_order(&redis, &plans).await;
    publisher::last_word(&redis.url(), "the-last-word", &rooms()).await;
    Histories::read(&redis, &rooms()).await.check(&member.join_all().await[0]);
    for node in [&leader, &other] {
        let said = node.log().iter().filter(|line| line.contains("events wait in the ingest stream")).count();
        assert!(said <= 3, "an outage is told {said} times");
    }
}

#[tokio::test]
async fn an_emptied_redis_is_read_again() {
    let mut redis = Redis::start_forgetful().await;
    let node = node(&redis, "1s").await;
    becomes_leader(&node).await;
    let send = async |redis: &Redis, id: &str| {
        let words = ["room", "order:1", "type", "t", "payload", "1", "id", id];
        add(&mut redis.client().await, &fields(&words)).await;
        drained(redis).await;
        assert_eq!(stored(redis, "order:1").await, [id]);
    };
    send(&redis, "first").await;
    redis::cmd("FLUSHALL").exec_async(&mut redis.client().await).await.expect("redis is up");
    send(&redis, "second").await;
    redis.kill();
    redis.restart().await;
    send(&redis, "third").await;
}

#[tokio::test]
async fn thousands_that_wait_at_the_start_are_published_in_order_in_bounded_memory() {
    let redis = Redis::start().await;
    let plans = plans("waiting", 20_000, &rooms());
    publisher::by_ingest(redis.url(), plans.clone(), Progress::default()).await;
    let node = node(&redis, "6s").await;
    let (before, mut most) = (node.rss_kib(), 0);
    let mut client = redis.client().await;
    let began = std::time::Instant::now();
    while length(&mut client, STREAM).await != Some(0) {
        most = most.max(node.rss_kib());
        assert!(began.elapsed() < 2 * LONG, "it takes too long");
    }
    assert!(most.saturating_sub(before) < 200 * 1024, "from {before} KiB to {most} KiB");
    all_is_stored_in_order(&redis, &plans).await;
}

#[tokio::test]
async fn large_entries_are_read_in_bounded_memory() {
    let redis = Redis::start().await;
    let payload = format!("\"{}\"", "x".repeat(60_000));
    let mut client = redis.client().await;
    for _ in 0..30 {
        let mut add = redis::pipe();
        for _ in 0..50 {
            add.cmd("XADD").arg(&[STREAM, "*", "room", "order:1", "type", "t", "payload", &payload]);
        }
        add.exec_async(&mut client).await.expect("redis is up");
    }
    let url = redis.url();
    let settings = [("HALLWAY_REDIS__URL", url.as_str()), ("HALLWAY_INGEST__BATCH", "10000")];
    let node = Node::with(&settings).await;
    let (before, mut most) = (node.rss_kib(), 0);
    while length(&mut client, STREAM).await != Some(0) {
        most = most.max(node.rss_kib());
    }
    assert!(most.saturating_sub(before) < 80 * 1024, "from {before} KiB to {most} KiB for 90 MB");
}

#[tokio::test]
async fn a_room_that_cannot_be_stored_to_blocks_no_other() {
    let redis = Redis::start().await;
    let node = node(&redis, "6s").await;
    let mut client = redis.client().await;
    let mut spoil = redis::cmd("SET");
    spoil.arg("hallway:{order:broken}:history").arg("no stream").exec_async(&mut client).await.expect("redis is up");
    for (id, room) in [("e1", "order:1"), ("e2", "order:broken"), ("e3", "order:1")] {
        add(&mut client, &fields(&["room", room, "type", "t", "payload", "1", "id", id])).await;
    }
    drained(&redis).await;
    assert_eq!(stored(&redis, "order:1").await, ["e1", "e3"]);
    let kept = rejected(&redis).await;
    assert_eq!((kept.len(), kept[0]["code"].as_slice(), kept[0]["id"].as_slice()), (1, &b"not-stored"[..], &b"e2"[..]));
    let (status, reply) = node.post("/v1/publish", r#"{"room":"order:broken","type":"t","payload":1}"#).await;
    assert_eq!((status, &reply["error"]["code"]), (500, &json!("not-stored")), "{reply}");
}

#[tokio::test]
async fn a_stream_that_cannot_be_read_is_told_once_with_its_remedy() {
    let redis = Redis::start().await;
    let mut client = redis.client().await;
    redis::cmd("SET").arg(STREAM).arg("no stream").exec_async(&mut client).await.expect("redis is up");
    let node = node(&redis, "6s").await;
    let said = |words: &str| node.log().iter().filter(|line| line.contains(words)).count();
    eventually("it is told", || async { (said("rename or delete it") == 1).then_some(()) }).await;
    assert_eq!(node.readyz().await, 200, "everything else works");
    let check = node.checks().await["ingest"].take();
    assert_eq!((&check["ready"], &check["leading"]), (&json!(false), &json!(true)), "{check}");
    assert!(check["problem"].as_str().is_some_and(|problem| problem.contains("rename or delete it")), "{check}");
    assert_eq!(node.metric("hallway_ingest_stuck").await, 1.0);
    node.moves("hallway_ingest_stuck").await;
    redis::cmd("DEL").arg(STREAM).exec_async(&mut client).await.expect("redis is up");
    add(&mut client, &fields(&["room", "order:1", "type", "t", "payload", "1", "id", "e1"])).await;
    drained(&redis).await;
    assert_eq!(stored(&redis, "order:1").await, ["e1"]);
    eventually("its end is told", || async { (said("the ingest stream is read again") == 1).then_some(()) }).await;
    assert_eq!(said("events wait in the ingest stream"), 1);
    let check = node.checks().await["ingest"].take();
    assert_eq!((&check["ready"], check.get("problem")), (&json!(true), None), "{check}");
    assert_eq!(node.metric("hallway_ingest_stuck").await, 0.0);
}

#[tokio::test]
async fn a_bad_entry_that_cannot_be_put_aside_is_kept_until_it_can_and_holds_nothing_up() {
    let redis = Redis::start().await;
    let mut client = redis.client().await;
    for key in [REJECTED, "hallway:{order:broken}:history"] {
        redis::cmd("SET").arg(key).arg("no stream").exec_async(&mut client).await.expect("redis is up");
    }
    let url = redis.url();
    let settings = [("HALLWAY_REDIS__URL", url.as_str()), ("HALLWAY_INGEST__BATCH", "3")];
    let node = Node::with(&settings).await;
    let (mut bad, mut passed) = (Vec::new(), Vec::new());
    for n in 0..8 {
        bad.push(add(&mut client, &fields(&["a", "b"])).await);
        bad.push(add(&mut client, &fields(&["room", "order:broken", "type", "t", "payload", "1"])).await);
        passed.push(format!("e{n}"));
        add(&mut client, &good(&passed[n])).await;
    }
    let all_passed = async |passed: &[String]| {
        within(LONG, "the good ones pass", || async { (stored(&redis, "order:1").await == passed).then_some(()) })
            .await;
    };
    all_passed(&passed).await;
    let said = |words: &str| node.log().iter().filter(|line| line.contains(words)).count();
    eventually("it is told", || async { (said("cannot be put aside") == 1).then_some(()) }).await;
    assert!(node.log().iter().any(|line| line.contains(REJECTED) && line.contains("rename or delete it")));
    let check = node.checks().await["ingest"].take();
    assert!(check["ready"] == true && check["problem"].as_str().is_some_and(|text| text.contains(REJECTED)), "{check}");
    passed.push("late".to_owned());
    add(&mut client, &good("late")).await;
    all_passed(&passed).await;
    within(LONG, "only the bad ones are left", || async {
        (length(&mut client.clone(), STREAM).await == Some(bad.len())).then_some(())
    })
    .await;

    redis::cmd("DEL").arg("hallway:{order:broken}:history").arg(REJECTED).exec_async(&mut client).await.expect("up");
    drained(&redis).await;
    let kept = rejected(&redis).await;
    let told: Vec<String> = kept.iter().map(|r| String::from_utf8_lossy(&r["entry"]).into_owned()).collect();
    assert_eq!(told, bad);
    assert!(kept.iter().all(|reject| !reject["reason"].is_empty()));
    assert_eq!(stored(&redis, "order:broken").await, Vec::<String>::new(), "what was refused is not published late");
    assert_eq!(stored(&redis, "order:1").await, passed);
    eventually("its end is told", || async { (said("are put aside again") == 1).then_some(()) }).await;
    assert_eq!(said("cannot be put aside"), 1);
    assert_eq!(node.checks().await["ingest"].get("problem"), None);
}

#[tokio::test]
async fn what_stuck_with_one_reader_is_put_aside_by_the_next() {
    let redis = Redis::start().await;
    let mut client = redis.client().await;
    redis::cmd("SET").arg(REJECTED).arg("no stream").exec_async(&mut client).await.expect("redis is up");
    let (mut leader, other) = leader_and_other(&redis, "5m").await;
    add(&mut client, &fields(&["a", "b"])).await;
    let tells = |node: &Node| node.log().iter().any(|line| line.contains("cannot be put aside"));
    eventually("it is told", || async { tells(&leader).then_some(()) }).await;
    assert!(leader.terminate().await.success());
    eventually("the next one tells it", || async { tells(&other).then_some(()) }).await;
    redis::cmd("DEL").arg(REJECTED).exec_async(&mut client).await.expect("redis is up");
    drained(&redis).await;
    assert_eq!(rejected(&redis).await.len(), 1);
}

#[tokio::test]
async fn a_lease_without_an_end_is_taken_over_and_one_of_another_type_is_told() {
    let redis = Redis::start().await;
    let mut client = redis.client().await;
    let leader = "hallway:ingest:leader";
    redis::cmd("RPUSH").arg(leader).arg("no lease").exec_async(&mut client).await.expect("redis is up");
    let node = node(&redis, "6s").await;
    let told = |line: &String| line.contains("ERROR") && line.contains(leader) && line.contains("rename or delete it");
    eventually("it is told", || async { node.log().iter().any(told).then_some(()) }).await;
    assert!(!leads(&node).await);
    redis::cmd("SET").arg(leader).arg("nobody").exec_async(&mut client).await.expect("redis is up");
    becomes_leader(&node).await;
    let left: i64 = redis::cmd("PTTL").arg(leader).query_async(&mut client).await.expect("redis is up");
    assert!(left > 0, "{left}");
}

#[tokio::test]
async fn entries_that_somebody_else_took_hold_nothing_up() {
    let redis = Redis::start().await;
    becomes_leader(&node(&redis, "6s").await).await;
    let mut client = redis.client().await;
    add(&mut client, &fields(&["room", "order:1", "type", "t", "payload", "1"])).await;
    let mut take = redis::cmd("XREADGROUP");
    take.arg(&["GROUP", "gateway", "somebody", "STREAMS", STREAM, ">"]);
    take.exec_async(&mut client).await.expect("redis is up");
    let _node = node(&redis, "6s").await;
    for id in ["e1", "e2"] {
        add(&mut client, &fields(&["room", "order:1", "type", "t", "payload", "1", "id", id])).await;
        eventually("it is stored", || async { stored(&redis, "order:1").await.contains(&id.to_owned()).then_some(()) })
            .await;
    }
    assert_eq!(stored(&redis, "order:1").await, ["e1", "e2"]);
}

#[tokio::test]
async fn a_node_that_stops_hands_its_turn_over_at_once() {
    let redis = Redis::start().await;
    let (mut leader, other) = leader_and_other(&redis, "5m").await;
    assert!(!leads(&other).await);
    assert!(leader.terminate().await.success());
    becomes_leader(&other).await;
    add(&mut redis.client().await, &fields(&["room", "order:1", "type", "t", "payload", "1", "id", "e1"])).await;
    drained(&redis).await;
    assert_eq!(stored(&redis, "order:1").await, ["e1"]);
}

#[tokio::test]
async fn what_waits_what_was_rejected_and_who_reads_is_shown() {
    let redis = Redis::start().await;
    let (leader, other) = leader_and_other(&redis, "6s").await;
    let mut client = redis.client().await;
    let mut leader_is_another = redis::cmd("SET");
    add(&mut client, &fields(&["room", "order:1", "type", "t", "payload", "1"])).await;
    add(&mut client, &fields(&["room", "nowhere", "type", "t", "payload", "1"])).await;
    drained(&redis).await;
    for (node, leading) in [(&leader, true), (&other, false)] {
        let expected = json!({"ready": true, "leading": leading, "waiting": 0, "rejected": 1});
        eventually("readyz tells", || async { (node.checks().await["ingest"] == expected).then_some(()) }).await;
        assert_eq!(node.metric("hallway_ingest_leading").await, f64::from(u8::from(leading)));
    }
    assert_eq!(leader.metric("hallway_events_published_total").await, 1.0);
    assert_eq!(leader.metric("hallway_ingest_lag_seconds_count").await, 1.0);
    assert_eq!(leader.metric("hallway_ingest_rejected_total").await, 1.0);
    leader.moves("hallway_ingest_leading").await;
    leader.moves("hallway_ingest_lag_seconds").await;
    leader.moves("hallway_ingest_rejected_total").await;

    leader_is_another.arg("hallway:ingest:leader").arg("somebody-else").arg("PX").arg(600_000);
    leader_is_another.exec_async(&mut client).await.expect("redis is up");
    eventually("nobody leads", || async { (!leads(&leader).await).then_some(()) }).await;
    add(&mut client, &fields(&["room", "order:1", "type", "t", "payload", "1"])).await;
    for node in [&leader, &other] {
        eventually("it waits", || async { (node.metric("hallway_ingest_waiting").await == 1.0).then_some(()) }).await;
        node.moves("hallway_ingest_waiting").await;
        assert_eq!(
            node.checks().await["ingest"],
            json!({"ready": true, "leading": false, "waiting": 1, "rejected": 1})
        );
        assert_eq!(node.readyz().await, 200);
    }
    redis::cmd("DEL").arg("hallway:ingest:leader").exec_async(&mut client).await.expect("redis is up");
    drained(&redis).await;
    assert_eq!(Node::embedded().await.checks().await.get("ingest"), None);
}
