//! Odd names: rooms, types and ids with braces, control characters, letters of other scripts or none at all, on every
//! way in. Each is refused with its code, and Redis holds afterwards what it held before.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

/// What changes by itself, and what bad ingest entries are meant to change.
const RESTLESS: [&str; 4] = ["hallway:nodes", "hallway:ingest", "hallway:ingest:leader", REJECTED];
const REJECTED: &str = "hallway:ingest:rejected";

fn odd_rooms() -> Vec<String> {
    let fixed = [
        "",
        ":",
        "order",
        "order:",
        ":a",
        "order:a:b",
        "Order:a",
        "chat:a",
        "order:{a}",
        "{order:a}",
        "order:a}",
        "order:{",
        "order:a}:history",
        "order:a\u{0}",
        "order:\u{0}",
        "order:a\n",
        "\norder:a",
        "order:a\r\nx",
        "order:\u{7f}",
        "order:a\u{1b}[0m",
        "order:a b",
        "order:a\tb",
        "order:é",
        "order:１",
        "order:\u{202e}a",
        "order:\u{feff}a",
        "order:\u{10ffff}",
        "order:a\\b",
        "order:a?",
        "order:[a]",
        "order:\"a\"",
        "hallway:{order:a}",
        "order:<a>",
        "order:#a",
        "order:^a",
        "order:`a`",
        "order|a:b",
        "order/a",
        "order%3Aa",
        "*:a",
        "order:a+ b",
        "order:anna svensson@example.com",
    ];
    let long = [129, 1_100, 20_000].map(|length| format!("order:{}", "x".repeat(length)));
    fixed.iter().map(|room| (*room).to_owned()).chain(long).collect()
}

/// Of types and of ids.
fn odd_names() -> Vec<String> {
    let fixed = [
        "",
        " ",
        "a b",
        "a{b}",
        "{",
        "}",
        "a\u{0}b",
        "\u{0}",
        "a\nb",
        "a\r",
        "\u{7f}",
        "\u{1b}[0m",
        "é",
        "１",
        "\u{202e}a",
        "\u{10ffff}",
        "%61",
        "a/b",
        "a\\b",
        "a\"b",
        "a'b",
        "a*",
        "a,b",
        "a=b",
        "a~b",
    ];
    let long = [129, 20_000].map(|length| "x".repeat(length));
    fixed.iter().map(|name| (*name).to_owned()).chain(long).collect()
}

/// Every byte in percent form.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// What Redis holds, by key.
async fn held(redis: &Redis) -> BTreeMap<String, Vec<u8>> {
    let mut client = redis.client().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut client).await.expect("redis is up");
    let mut held = BTreeMap::new();
    for key in keys.into_iter().filter(|key| !RESTLESS.contains(&key.as_str()) && !key.starts_with("hallway:user:")) {
        let dump = redis::cmd("DUMP").arg(&key).query_async(&mut client).await.expect("it is there");
        held.insert(key, dump);
    }
    held
}

/// A node on Redis, a member in a room with an event in it, and what Redis holds of that.
struct Scene {
    redis: Redis,
    node: Node,
    reader: Client,
    before: BTreeMap<String, Vec<u8>>,
}

impl Scene {
    async fn begin() -> Self {
        let redis = Redis::start_forgetful().await;
        let node = Node::with(&[("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_REDIS__LINGER", "0s")]).await;
        let mut reader = Client::connect(node.main(), &token::user("u1")).await;
        reader.join("order:a").await;
        redis.fcall(&["order:a"], r#"{"type":"t","payload":1,"id":"first"}"#, &[]).await.expect("published");
        assert_eq!(reader.event().await.1["event"]["id"], "first");
        eventually("the members are told to the fleet", || async {
            held(&redis).await.contains_key("hallway:{order:a}:members").then_some(())
        })
        .await;
        let before = held(&redis).await;
        Self { redis, node, reader, before }
    }

    /// Asserts that Redis and the members of the room have seen nothing of it.
    async fn nothing_happened(mut self) {
        self.reader.nothing_came().await;
        let after = held(&self.redis).await;
        let (before, names) = (&self.before, after.keys().collect::<Vec<_>>());
        assert_eq!(before.keys().collect::<Vec<_>>(), names);
        let changed: Vec<&String> = names.into_iter().filter(|key| before[*key] != after[*key]).collect();
        assert!(changed.is_empty(), "changed: {changed:?}");
        let mut list = redis::cmd("PUBSUB");
        let mut client = self.redis.client().await;
        let channels: Vec<String> =
            list.arg("CHANNELS").arg("hallway:{*").query_async(&mut client).await.expect("redis is up");
        assert_eq!(channels, ["hallway:{order:a}"]);
        assert_eq!(self.node.readyz().await, 200);
        self.redis.fcall(&["order:a"], r#"{"type":"t","payload":1,"id":"last"}"#, &[]).await.expect("published");
        assert_eq!(self.reader.event().await.1["event"]["id"], "last");
    }
}

#[tokio::test]
async fn odd_names_in_commands_are_refused() {
    let scene = Scene::begin().await;
    let mut hostile = Client::connect(scene.node.main(), &token::user("u1")).await;
    for room in odd_rooms() {
        for command in ["join_room", "leave_room", "get_missed_events"] {
            for more in [json!({"since": 0}), json!({"after": "0-0"})] {
                let mut argument = json!({ "room": room });
                argument.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
                let reply = hostile.call(command, &argument.to_string()).await;
                assert_eq!(reply, json!({"ok": false, "error": "invalid-room"}), "{command} {room:?}");
            }
        }
    }
    for id in odd_names() {
        let reply = hostile.call("event_ack", &json!({ "eventId": id }).to_string()).await;
        assert_eq!(reply, json!({"ok": false, "error": "invalid-payload"}), "{id:?}");
    }
    scene.nothing_happened().await;
}

#[tokio::test]
async fn odd_names_by_http_are_refused_one_by_one_and_in_a_batch() {
    let scene = Scene::begin().await;
    let mut bad: Vec<(Value, &str)> = Vec::new();
    for room in odd_rooms() {
        bad.push((json!({"room": room, "type": "t", "payload": 1}), "invalid-room"));
        bad.push((json!({"rooms": ["order:b", room], "type": "t", "payload": 1}), "invalid-room"));
    }
    for name in odd_names() {
        bad.push((json!({"room": "order:a", "type": name, "payload": 1}), "invalid-event"));
        bad.push((json!({"room": "order:a", "type": "t", "payload": 1, "id": name}), "invalid-event"));
    }
    for (event, code) in &bad {
        let (status, reply) = scene.node.post("/v1/publish", event.to_string()).await;
        assert_eq!((status, &reply["error"]["code"]), (400, &json!(code)), "{event}: {reply}");
    }
    for events in bad.chunks(50) {
        let bodies: Vec<&Value> = events.iter().map(|(event, _)| event).collect();
        let (status, reply) = scene.node.post("/v1/publish/batch", json!({ "events": bodies }).to_string()).await;
        assert_eq!(status, 200, "{reply}");
        for ((event, code), result) in events.iter().zip(reply["results"].as_array().expect("results")) {
            assert_eq!(result["error"]["code"], *code, "{event}: {result}");
        }
    }
    scene.nothing_happened().await;
}

#[tokio::test]
async fn odd_rooms_in_a_path_are_refused() {
    let scene = Scene::begin().await;
    let paths = odd_rooms().into_iter().filter(|room| !room.is_empty() && room.len() < 4_000);
    let paths = paths.map(|room| encoded(&room));
    for path in paths.chain(["order:%FF", "order:%C0%AF", "order:%ED%A0%80", "%", "order%253Aa"].map(str::to_owned)) {
        for rest in ["", "/events?since=0", "/events?after=0-0"] {
            let (status, reply) = scene.node.get(&format!("/v1/rooms/{path}{rest}")).await;
            assert_eq!((status, &reply["error"]["code"]), (400, &json!("invalid-room")), "{path}{rest}: {reply}");
        }
    }
    let (status, reply) = scene.node.get("/v1/rooms/order%3Aa").await;
    assert_eq!((status, &reply["room"]), (200, &json!("order:a")), "a path may be encoded");
    let (status, reply) = scene.node.get("/v1/rooms/order:%2561").await;
    assert_eq!((status, &reply["room"]), (200, &json!("order:%61")), "and is decoded once");
    scene.nothing_happened().await;
}

#[tokio::test]
async fn odd_names_by_the_function_are_refused() {
    let scene = Scene::begin().await;
    let good = br#"{"type":"t","payload":1}"#.as_slice();
    for room in odd_rooms() {
        let whole = format!("hallway:{{{room}}}");
        let long = [format!("{whole}:history"), format!("{whole}:last")];
        for keys in [vec![whole.clone()], vec!["hallway:{order:b}".to_owned(), whole], long.to_vec()] {
            scene.redis.fcall_raw(&keys, &[good]).await.expect_err(&format!("{keys:?}"));
        }
    }
    for name in odd_names() {
        let key = ["hallway:{order:a}".to_owned()];
        for event in [json!({"type": name, "payload": 1}), json!({"type": "t", "payload": 1, "id": name})] {
            let refused = scene.redis.fcall_raw(&key, &[event.to_string().as_bytes()]).await;
            let refused = refused.expect_err(&event.to_string()).to_string();
            assert!(refused.contains("invalid-event"), "{event}: {refused}");
        }
        let option: [&[u8]; 3] = [good, b"ID", name.as_bytes()];
        scene.redis.fcall_raw(&key, &option).await.expect_err(&format!("ID {name:?}"));
    }
    scene.nothing_happened().await;
}

/// `XADD`s to the ingest stream.
async fn add(client: &mut MultiplexedConnection, fields: &[(&str, &str)]) {
    let mut add = redis::cmd("XADD");
    add.arg("hallway:ingest").arg("*").arg(fields);
    add.query_async::<String>(client).await.expect("redis is up");
}

/// The codes that bad entries were put aside with, oldest first.
async fn codes(client: &mut MultiplexedConnection) -> Vec<String> {
    let mut range = redis::cmd("XRANGE");
    let entries: Vec<(String, BTreeMap<String, Vec<u8>>)> =
        range.arg(REJECTED).arg("-").arg("+").query_async(client).await.expect("a stream");
    entries.into_iter().map(|(_, fields)| String::from_utf8_lossy(&fields["code"]).into_owned()).collect()
}

#[tokio::test]
async fn odd_names_by_the_ingest_stream_are_put_aside() {
    let scene = Scene::begin().await;
    let mut client = scene.redis.client().await;
    let mut expected = Vec::new();
    for room in odd_rooms() {
        add(&mut client, &[("room", &room), ("type", "t"), ("payload", "1")]).await;
        add(&mut client, &[("event", &json!({"room": room, "type": "t", "payload": 1}).to_string())]).await;
        expected.extend(["invalid-room"; 2]);
    }
    for name in odd_names() {
        add(&mut client, &[("room", "order:a"), ("type", &name), ("payload", "1")]).await;
        add(&mut client, &[("room", "order:a"), ("type", "t"), ("payload", "1"), ("id", &name)]).await;
        add(&mut client, &[("event", &json!({"room": "order:a", "type": name, "payload": 1}).to_string())]).await;
        expected.extend(["invalid-event"; 3]);
    }
    eventually("every entry is put aside", || async {
        let mut length = redis::cmd("XLEN");
        let length: usize = length.arg(REJECTED).query_async(&mut client.clone()).await.ok()?;
        (length >= expected.len()).then_some(())
    })
    .await;
    assert_eq!(codes(&mut client).await, expected);
    let left: usize = redis::cmd("XLEN").arg("hallway:ingest").query_async(&mut client).await.expect("redis is up");
    assert_eq!(left, 0);
    scene.nothing_happened().await;
}

#[tokio::test]
async fn plain_messages_on_odd_channels_and_with_odd_names_reach_nobody() {
    let scene = Scene::begin().await;
    for room in odd_rooms() {
        let heard = scene.redis.publish(&room, br#"{"type":"t","payload":1}"#).await;
        assert_eq!(heard, 0, "somebody listens to {room:?}");
        let forged = format!("1 an-id 1 0 {room} 5-0 0-0\n{{\"type\":\"t\",\"payload\":1}}");
        assert_eq!(scene.redis.publish("order:a", forged.as_bytes()).await, 1);
    }
    for name in odd_names() {
        for event in [json!({"type": name, "payload": 1}), json!({"type": "t", "payload": 1, "id": name})] {
            assert_eq!(scene.redis.publish("order:a", event.to_string().as_bytes()).await, 1);
        }
        let forged = format!("1 {name} 1 0 order:a - -\n{{\"type\":\"t\",\"payload\":1}}");
        assert_eq!(scene.redis.publish("order:a", forged.as_bytes()).await, 1);
    }
    scene.nothing_happened().await;
}
