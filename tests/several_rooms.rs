//! An event in several rooms: once for everybody who is in any of them, with true positions in each (S32).

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

const STOCK: &str = r#"{"type":"inventory.stock_updated","payload":{"storeId":"s","productId":"p","stock":18}}"#;
const ROOMS: [&str; 3] = ["store:s", "product:p", "variant:v"];

async fn member(node: &Node, rooms: &[&str]) -> Client {
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for room in rooms {
        client.join(room).await;
    }
    client
}

async fn meta(client: &mut Client) -> Value {
    client.event().await.1["event"]["meta"].clone()
}

#[tokio::test]
async fn each_member_gets_it_once_with_the_positions_of_its_own_rooms_only() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut in_all = member(&node, &["variant:v", "product:p", "store:s"]).await;
    let mut in_two = member(&node, &["variant:v", "product:p"]).await;
    let mut in_one = member(&node, &["product:p"]).await;
    let mut in_another = member(&node, &["order:o"]).await;
    redis.fcall(&["product:p"], r#"{"type":"t","payload":1}"#, &[]).await.expect("an offset of its own");
    for client in [&mut in_all, &mut in_two, &mut in_one] {
        assert_eq!(meta(client).await["room"], "product:p");
    }
    let placed = redis.fcall(&ROOMS, STOCK, &[]).await.expect("published").placed;
    let at = |i: usize| placed[i].1.as_str();
    assert_eq!(
        meta(&mut in_all).await,
        json!({"room": "store:s", "offset": at(0), "offsets": {"store:s": at(0), "product:p": at(1), "variant:v": at(2)}})
    );
    assert_eq!(
        meta(&mut in_two).await,
        json!({"room": "product:p", "offset": at(1), "offsets": {"product:p": at(1), "variant:v": at(2)}})
    );
    assert_eq!(meta(&mut in_one).await, json!({"room": "product:p", "offset": at(1)}));
    for client in [&mut in_all, &mut in_two, &mut in_one, &mut in_another] {
        client.nothing_came().await;
    }
}

#[tokio::test]
async fn a_later_join_from_either_position_is_complete_and_repeats_nothing() {
    let redis = Redis::start().await;
    for node in [Node::on(&redis.url()).await, Node::embedded().await] {
        let mut client = member(&node, &ROOMS[..2]).await;
        let publish = async |rooms: &[&str], id: &str| {
            let body = json!({"rooms": rooms, "id": id, "type": "t", "payload": 1});
            assert_eq!(node.post("/v1/publish", body.to_string()).await.0, 200);
        };
        publish(&ROOMS[..2], "both-1").await;
        publish(&["product:p"], "product").await;
        publish(&ROOMS[..2], "both-2").await;
        publish(&["store:s"], "store").await;
        let both = [meta(&mut client).await, meta(&mut client).await, meta(&mut client).await, meta(&mut client).await];
        client.drop_connection();
        for (room, offsets, behind) in [
            ("store:s", &both[0]["offsets"], vec!["both-2", "store"]),
            ("product:p", &both[0]["offsets"], vec!["product", "both-2"]),
            ("store:s", &both[2]["offsets"], vec!["store"]),
            ("product:p", &both[2]["offsets"], vec![]),
        ] {
            let mut client = member(&node, &[]).await;
            let joined = client.resume(room, offsets[room].as_str().expect("a position in each room")).await;
            let events = joined["events"].as_array().expect("a list");
            assert_eq!(
                events.iter().map(|event| event["id"].as_str()).collect::<Vec<_>>(),
                behind.into_iter().map(Some).collect::<Vec<_>>()
            );
            assert_eq!(joined["complete"], true, "{room}: {joined}");
            assert!(events.iter().all(|event| event["meta"]["room"] == room && event["meta"].get("offsets").is_none()));
        }
    }
}

#[tokio::test]
async fn it_is_heard_once_whichever_room_is_joined_or_left_around_that_moment() {
    const EVENTS: u64 = 300;
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = member(&node, &["store:s"]).await;
    let publish = async {
        let mut pipe = redis.client().await;
        for n in 0..EVENTS {
            let mut call = redis::cmd("FCALL");
            call.arg("hallway_publish").arg(2).arg("hallway:{product:p}").arg("hallway:{store:s}");
            call.arg(format!(r#"{{"type":"t","payload":{n}}}"#));
            call.query_async::<redis::Value>(&mut pipe).await.expect("published");
        }
    };
    let toggle = async {
        for _ in 0..60 {
            client.join("product:p").await;
            client.call("leave_room", r#"{"room":"product:p"}"#).await;
        }
    };
    tokio::join!(publish, toggle);
    for n in 0..EVENTS {
        let (_, heard) = client.event().await;
        assert_eq!(heard["event"]["payload"], n, "{heard}");
    }
    client.nothing_came().await;
}

#[tokio::test]
async fn a_room_named_twice_and_rooms_derived_from_the_payload_count_once() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = member(&node, &["store:s", "product:p"]).await;
    let placed = redis.fcall(&["store:s", "store:s"], STOCK, &[]).await.expect("published").placed;
    assert_eq!(placed.len(), 1);
    assert_eq!(meta(&mut client).await, json!({"room": "store:s", "offset": placed[0].1}));
    let (status, reply) = node.post("/v1/publish", STOCK).await;
    assert_eq!(status, 200, "{reply}");
    assert_eq!(meta(&mut client).await["offsets"], reply["offsets"]);
    assert_eq!(reply["offsets"].as_object().map(serde_json::Map::len), Some(2), "{reply}");
    client.nothing_came().await;
}

/// The event comes by the room that is open while the head of the other one is still on its way: there it is newer than
/// the head, and read from the history.
#[tokio::test]
async fn an_event_that_comes_while_one_of_its_rooms_is_being_opened_comes_once() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.address()).await;
    // The lease is renewed so seldom that nothing but the room's head is got meanwhile.
    let node = Node::with(&[("HALLWAY_REDIS__URL", &proxy.url()), ("HALLWAY_INGEST__LEASE", "60s")]).await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    client.join("store:s").await;
    let event = r#"{"type":"inventory.stock_updated","payload":{}}"#;
    redis.fcall(&["store:s", "product:p"], event, &["ID", "before"]).await.expect("it is published");
    assert_eq!(client.event().await.1["event"]["id"], "before");

    let before = redis.calls("mget").await;
    proxy.hold_replies(true);
    client.send(r#"42/realtime,7["join_room",{"room":"product:p"}]"#).await;
    eventually("the room is subscribed", || async {
        let mut heard = redis::cmd("PUBSUB");
        heard.arg("NUMSUB").arg("hallway:{product:p}");
        let (_, nodes): (String, i64) = heard.query_async(&mut redis.client().await).await.expect("redis is up");
        (nodes == 1).then_some(())
    })
    .await;
    eventually("its head is asked for", || async { (redis.calls("mget").await > before).then_some(()) }).await;
    redis.fcall(&["store:s", "product:p"], event, &["ID", "meanwhile"]).await.expect("it is published");
    assert_eq!(client.event().await.1["event"]["id"], "meanwhile");
    proxy.hold_replies(false);
    let reply = client.frame().await.expect("the reply");
    assert!(reply.starts_with("43/realtime,7[{\"ok\":true"), "{reply}");
    redis.fcall(&["store:s", "product:p"], event, &["ID", "after"]).await.expect("it is published");
    assert_eq!(client.event().await.1["event"]["id"], "after");
}

/// What is read to a member from one room it had by another, which it leaves meanwhile.
#[tokio::test]
async fn an_event_had_by_a_room_that_is_left_while_the_other_is_read_comes_once() {
    let redis = Redis::start().await;
    let node = Node::with(&[("HALLWAY_REDIS__URL", &redis.url()), ("HALLWAY_HISTORY__MAX_EVENTS", "5000")]).await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    client.join("store:s").await;
    let event = r#"{"type":"inventory.stock_updated","payload":{}}"#;
    for n in 0..1500 {
        redis.fcall(&["product:p"], event, &["ID", &format!("old-{n}")]).await.expect("it is published");
    }
    redis.fcall(&["store:s", "product:p"], event, &["ID", "both"]).await.expect("it is published");
    redis.fcall(&["product:p"], event, &["ID", "last"]).await.expect("it is published");
    assert_eq!(client.event().await.1["event"]["id"], "both");
    client.send(r#"42/realtime,7["join_room",{"room":"product:p","after":"0-1"}]"#).await;
    client.send(r#"42/realtime,8["leave_room",{"room":"store:s"}]"#).await;
    let mut ids = Vec::new();
    while ids.last().is_none_or(|id| id != "last") {
        let frame = client.frame().await.expect("a frame");
        if let Some((_, argument)) = client.parse_event(&frame) {
            ids.push(argument["event"]["id"].as_str().expect("an id").to_owned());
        }
    }
    let expected: Vec<String> = (1000..1500).map(|n| format!("old-{n}")).chain(["last".to_owned()]).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn an_event_of_a_class_that_one_node_does_not_know_yet_reaches_its_other_rooms_there() {
    let redis = Redis::start().await;
    let url = redis.url();
    let old = Node::on(&url).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hallway.toml");
    std::fs::write(&file, "[rooms.\"deal:{dealId}\"]\n").expect("room on the disk");
    let settings = [("HALLWAY_REDIS__URL", url.as_str())];
    let new = Node::changed(&settings, |command| _ = command.arg("--config").arg(&file)).await;
    let mut members = [member(&old, &["store:s"]).await, member(&new, &["store:s", "deal:1"]).await];
    for rooms in [["store:s", "deal:1"], ["deal:1", "store:s"]] {
        let heard = redis.fcall(&rooms, STOCK, &[]).await.expect("it is published");
        for member in &mut members {
            assert_eq!(member.event().await.1["event"]["id"], heard.id.as_str());
        }
    }
    let kill = ["KILL", "TYPE", "pubsub"];
    redis::cmd("CLIENT").arg(&kill).exec_async(&mut redis.client().await).await.expect("redis is up");
    let mut back = Client::connect(old.main(), &token::user("u1")).await;
    let data = back.resume("store:s", "1-0").await;
    assert_eq!(data["events"].as_array().map(Vec::len), Some(2), "the history can be read as well: {data}");
    members[0].nothing_came().await;
}
