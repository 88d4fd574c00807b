//! Ids as identity providers make them: a user who has one can join the room of its own, and events reach it there by every
//! way in, live and from the history, on either broker.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

/// Of Auth0, Azure, Cognito, Keycloak, LDAP, Okta, mail, base64 and JWT; and what globs, patterns, paths, queries, live
/// messages and shells take for something else.
fn ids() -> Vec<String> {
    let fixed = [
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "google-oauth2|103547991597142817347",
        "samlp|contoso|anna.svensson@contoso.com",
        "anna.svensson+test@example.co.uk",
        "o'neill@example.ie",
        "!",
        "eu-central-1_aB3dE5fG7",
        "9b1deb4d~7bad",
        "CN=Anna,OU=Sales,DC=contoso,DC=com",
        "dGVzdCtpZC8xMjM=",
        "+/8=",
        "+/+/++==",
        "00u1abcD2eFGHIJKL3l7",
        "50%",
        "%41%2f%00",
        "%d%s%b()%f",
        "a*b",
        "*",
        "(.+)$",
        "-",
        "--",
        "=",
        "~0000000000000001",
        "1",
        "..",
        "../../etc/passwd",
        "//",
        "user;v=1;p",
        "&amp;",
        "$(id)",
        "$1,$2",
    ];
    let every = "_.~-|@+=%,!$&'()*;/";
    fixed.map(str::to_owned).into_iter().chain([every.to_owned(), every.repeat(7)[..128].to_owned()]).collect()
}

/// In a path: every byte encoded, or just those that a path gives another meaning.
fn in_path(text: &str) -> [String; 2] {
    let all = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    [all, text.replace('%', "%25").replace('/', "%2F")]
}

/// Publishes to `room` by every way that there is; returns the ids of the events, those that are stored first.
async fn publish(node: &Node, redis: Option<&Redis>, room: &str) -> Vec<String> {
    let event = |id: &str| json!({"room": room, "type": "t", "payload": 1, "id": id});
    let (status, reply) = node.post("/v1/publish", event("http").to_string()).await;
    assert_eq!((status, reply["offsets"][room].is_string()), (200, true), "{room}: {reply}");
    let batch = json!({"events": [event("batch")]}).to_string();
    let (status, reply) = node.post("/v1/publish/batch", batch).await;
    assert_eq!((status, reply["results"][0]["offsets"][room].is_string()), (200, true), "{room}: {reply}");
    let mut ids = vec!["http", "batch"];
    if let Some(redis) = redis {
        over_redis(redis, room, &event("ingest-json").to_string()).await;
        ids.extend(["short", "long", "rooms", "command", "ingest", "ingest-json", "plain"]);
    }
    ids.into_iter().map(str::to_owned).collect()
}

async fn over_redis(redis: &Redis, room: &str, whole: &str) {
    let text = |id: &str| json!({"type": "t", "payload": 1, "id": id}).to_string();
    let placed = redis.fcall(&[room], &text("short"), &[]).await.expect(room).placed;
    assert_eq!(placed[0].0, room);
    let keys = ["history", "last"].map(|end| format!("hallway:{{{room}}}:{end}"));
    redis.fcall_raw(&keys, &[text("long").as_bytes()]).await.expect(room);
    let named = [text("rooms"), "ROOMS".to_owned(), room.to_owned()];
    redis.fcall_raw(&keys, &named.each_ref().map(String::as_bytes)).await.expect(room);
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
    command.args(["publish", "--type", "t", "--payload", "1", "--id", "command", "--redis", &redis.url(), "--", room]);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{room}: {output:?}");
    let mut client = redis.client().await;
    for fields in [&[("room", room), ("type", "t"), ("payload", "1"), ("id", "ingest")][..], &[("event", whole)]] {
        let mut add = redis::cmd("XADD");
        add.arg("hallway:ingest").arg("*").arg(fields).exec_async(&mut client).await.expect("redis is up");
    }
    eventually("the ingest stream is read", || async {
        let left: usize = redis::cmd("XLEN").arg("hallway:ingest").query_async(&mut client.clone()).await.ok()?;
        (left == 0).then_some(())
    })
    .await;
    assert_eq!(redis.publish(room, text("plain").as_bytes()).await, 1, "{room}");
}

/// The events' ids, each of which names this room.
fn ids_in(room: &str, events: &[Value]) -> Vec<String> {
    let id = |event: &Value| {
        assert_eq!(event["meta"]["room"], room, "{event}");
        event["id"].as_str().expect("an id").to_owned()
    };
    events.iter().map(id).collect()
}

async fn an_owner_of(id: &str, node: &Node, redis: Option<&Redis>) {
    let room = format!("user:{id}");
    let mut client = Client::connect(node.main(), &token::user(id)).await;
    let joined = client.join(&room).await;
    assert_eq!((&joined["room"], &joined["roomSize"]), (&json!(room), &json!(1)));
    let head = joined["offset"].as_str().expect("an offset").to_owned();
    let published = publish(node, redis, &room).await;
    let mut heard = Vec::new();
    for _ in &published {
        heard.push(client.event().await.1["event"].take());
    }
    assert_eq!(ids_in(&room, &heard), published);
    let stored: Vec<&String> = published.iter().filter(|id| *id != "plain").collect();
    let missed = client.call("get_missed_events", &json!({"room": room, "after": head}).to_string()).await;
    let (events, complete) = (&missed["data"]["events"], &missed["data"]["complete"]);
    assert_eq!(
        (ids_in(&room, events.as_array().expect(&room)).iter().collect(), complete),
        (stored.clone(), &json!(true))
    );
    for path in in_path(&room) {
        let (status, state) = node.get(&format!("/v1/rooms/{path}")).await;
        assert_eq!((status, &state["room"], &state["size"]), (200, &json!(room), &json!(1)), "{path}: {state}");
        let (status, page) = node.get(&format!("/v1/rooms/{path}/events?after={head}")).await;
        assert_eq!(status, 200, "{path}: {page}");
        assert_eq!(ids_in(&room, page["events"].as_array().expect(&room)).len(), stored.len(), "{path}");
    }
    let resumed = client.resume(&room, &head).await;
    assert_eq!((&resumed["complete"], resumed["events"].as_array().map(Vec::len)), (&json!(true), Some(stored.len())));
    let left = client.call("leave_room", &json!({ "room": room }).to_string()).await;
    assert_eq!(left, json!({"ok": true, "data": {"room": room, "roomSize": 0}}));
    let other = client.call("join_room", r#"{"room":"user:auth0|another"}"#).await;
    assert_eq!(other, json!({"ok": false, "error": "forbidden"}), "{id}");
}

#[tokio::test]
async fn an_owner_of_any_id_joins_its_room_and_gets_what_is_published_there_by_every_way() {
    let redis = Redis::start_forgetful().await;
    let (node, embedded) = (Node::on(&redis.url()).await, Node::embedded().await);
    for id in ids() {
        an_owner_of(&id, &node, Some(&redis)).await;
        an_owner_of(&id, &embedded, None).await;
    }
    assert_eq!(node.metric("hallway_ingest_rejected_total").await, 0.0);
}

#[tokio::test]
async fn members_on_two_nodes_are_counted_and_hear_the_same() {
    let redis = Redis::start_forgetful().await;
    let nodes = [Node::on(&redis.url()).await, Node::on(&redis.url()).await];
    let rooms: Vec<String> = ids().into_iter().map(|id| format!("order:{id}")).collect();
    let mut clients = Vec::new();
    for node in &nodes {
        let mut client = Client::connect(node.main(), &token::user("u1")).await;
        for room in &rooms {
            client.join(room).await;
        }
        clients.push(client);
    }
    for room in &rooms {
        eventually("each counts both", || async { (nodes[0].room_size(&in_path(room)[0]).await == 2).then_some(()) })
            .await;
        nodes[1].post("/v1/publish", json!({"room": room, "type": "t", "payload": 1, "id": "e"}).to_string()).await;
        for client in &mut clients {
            assert_eq!(client.event().await.1["event"]["meta"]["room"], json!(room));
        }
    }
}

#[tokio::test]
async fn rooms_are_derived_from_any_id_in_a_payload_and_from_whole_numbers() {
    let redis = Redis::start_forgetful().await;
    for node in [Node::on(&redis.url()).await, Node::embedded().await] {
        for id in ids().into_iter().map(Value::from).chain([json!(17), json!(9_007_199_254_740_993_u64)]) {
            let text = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
            for (event, rooms) in [
                (
                    json!({"type": "order.status_changed", "payload": {"orderId": id, "customerId": id}}),
                    ["order:", "user:"],
                ),
                (
                    json!({"type": "inventory.stock_updated", "payload": {"storeId": id, "productId": id}}),
                    ["store:", "product:"],
                ),
            ] {
                let (status, reply) = node.post("/v1/publish", event.to_string()).await;
                assert_eq!(status, 200, "{event}: {reply}");
                let offsets = reply["offsets"].as_object().expect("offsets");
                let derived = rooms.map(|lead| offsets.contains_key(&format!("{lead}{text}")));
                assert_eq!((derived, offsets.len()), ([true; 2], 2), "{event}: {reply}");
            }
        }
        for id in ["7:orders", "", "a b", "a\"b", "{a}"] {
            let event = json!({"type": "inventory.stock_updated", "payload": {"storeId": id, "productId": "p"}});
            let (status, reply) = node.post("/v1/publish", event.to_string()).await;
            assert_eq!((status, &reply["error"]["code"]), (400, &json!("invalid-room")), "{id}: {reply}");
        }
    }
}

#[tokio::test]
async fn an_agent_of_any_id_tells_where_it_is() {
    let redis = Redis::start_forgetful().await;
    for node in [Node::on(&redis.url()).await, Node::embedded().await] {
        let mut watcher = Client::connect(node.main(), &token::staff()).await;
        for id in ids() {
            let mut agent = Client::connect(node.main(), &token::with(json!({"sub": id, "role": "agent"}))).await;
            let located = agent.call("update_location", r#"{"lat":12.9,"lng":77.6}"#).await;
            assert_eq!(located, json!({"ok": true}), "{id}");
            let since = json!({"room": format!("agent:{id}"), "since": 0}).to_string();
            let joined = watcher.call("join_room", &since).await;
            assert_eq!(joined["data"]["events"][0]["payload"]["agentId"], json!(id), "{joined}");
        }
    }
}
