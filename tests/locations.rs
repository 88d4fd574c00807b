//! Locations: an agent reports where it is, and no other user can in its name (S19, S20).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token;

const HERE: &str = r#"{"lat":12.97,"lng":77.59}"#;

fn agent(id: &str) -> String {
    token::with(json!({"sub": format!("user-of-{id}"), "role": "agent", "agentId": id}))
}

fn refused(error: &str) -> Value {
    json!({"ok": false, "error": error})
}

/// A member of staff who watches these rooms.
async fn watcher(node: &Node, rooms: &[&str]) -> Client {
    let mut watcher = Client::connect(node.main(), &token::staff()).await;
    for room in rooms {
        watcher.join(room).await;
    }
    watcher
}

/// Sends a location until there is a token for it.
async fn locate(client: &mut Client, argument: &str) {
    let mut beat = interval(Duration::from_millis(50));
    for _ in 0..200 {
        beat.tick().await;
        let reply = client.call("update_location", argument).await;
        if reply == json!({"ok": true}) {
            return;
        }
        assert_eq!(reply, refused("rate-limited"), "{argument}");
    }
    panic!("never accepted: {argument}");
}

/// Never closer, however busy the machine is.
fn every_fifth_of_a_second() -> Interval {
    let mut beat = interval(Duration::from_millis(200));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

async fn check_a_location_reaches_its_rooms(node: &Node) {
    let claims = json!({"sub": "u1", "role": "agent", "agentId": "a1", "zoneId": "z1"});
    let mut reporter = Client::connect(node.main(), &token::with(claims)).await;
    let rooms = ["agent:a1", "agents:all", "zone:z1:agents"];
    let mut watchers = Vec::new();
    for room in rooms {
        watchers.push(watcher(node, &[room]).await);
    }
    let mut of_all = watcher(node, &rooms).await;
    let mut elsewhere = watcher(node, &["agent:a2", "zone:z2:agents", "zone:z1", "agent:a1:orders", "user:u1"]).await;
    let argument = r#"{"agentId":"a2","lat":12.970000,"lng":-0.50,"accuracy":12.0,"speed":3}"#;
    assert_eq!(reporter.call_raw("update_location", argument).await, r#"{"ok":true}"#);
    let payload = r#""payload":{"agentId":"a1","location":{"lat":12.970000,"lng":-0.50,"accuracy":12.0}}"#;
    let mut ids = Vec::new();
    for (room, client) in rooms.iter().zip(&mut watchers) {
        let frame = client.frame().await.expect("the location");
        assert!(frame.contains(payload), "{frame}");
        let (name, argument) = client.parse_event(&frame).expect("an event");
        let event = &argument["event"];
        assert_eq!((name.as_str(), event["type"].as_str()), ("agent.location_updated", Some(name.as_str())));
        assert_eq!((&event["priority"], &event["meta"]["room"]), (&json!("HIGH"), &json!(room)));
        assert_eq!(argument["requiresAck"], false);
        ids.push(event["id"].clone());
    }
    assert!(ids.iter().all(|id| id == &ids[0] && id.as_str().is_some_and(|id| !id.is_empty())), "{ids:?}");
    assert_eq!(of_all.event().await.1["event"]["id"], ids[0]);
    of_all.nothing_came().await;
    elsewhere.nothing_came().await;
    reporter.nothing_came().await;
}

#[tokio::test]
async fn a_location_reaches_the_agents_room_all_agents_and_the_zone_of_the_token() {
    let redis = Redis::start().await;
    check_a_location_reaches_its_rooms(&Node::on(&redis.url()).await).await;
    check_a_location_reaches_its_rooms(&Node::embedded().await).await;
}

#[tokio::test]
async fn a_location_reaches_members_on_another_node() {
    let redis = Redis::start().await;
    let (here, there) = (Node::on(&redis.url()).await, Node::on(&redis.url()).await);
    let mut watching = watcher(&there, &["agents:all"]).await;
    let mut reporter = Client::connect(here.main(), &agent("a1")).await;
    assert_eq!(reporter.call("update_location", HERE).await, json!({"ok": true}));
    let location = json!({"agentId": "a1", "location": {"lat": 12.97, "lng": 77.59}});
    assert_eq!(watching.event().await.1["event"]["payload"], location);
}

#[tokio::test]
async fn the_agent_is_the_tokens_whatever_the_client_says() {
    let node = Node::embedded().await;
    let mut watching = watcher(&node, &["agents:all"]).await;
    for (claims, id) in [
        (json!({"sub": "u1", "role": "agent", "agentId": "a1"}), "a1"),
        (json!({"sub": "u1", "role": "agent"}), "u1"),
        (json!({"sub": "u1", "role": "agent", "agentId": 7}), "7"),
        (json!({"sub": "u1", "role": "agent", "agentId": null, "zoneId": "a:b"}), "u1"),
        (json!({"sub": "u1", "role": "agent", "zoneId": "z 1"}), "u1"),
        (json!({"sub": "u1", "role": "agent", "zoneId": ""}), "u1"),
        (json!({"sub": "u1", "role": "agent", "zoneId": 5}), "u1"),
    ] {
        let mut client = Client::connect(node.main(), &token::with(claims)).await;
        let argument = r#"{"agentId":"another","sub":"another","zoneId":"another","lat":1,"lng":2}"#;
        assert_eq!(client.call("update_location", argument).await, json!({"ok": true}));
        let (_, heard) = watching.event().await;
        assert_eq!(heard["event"]["payload"], json!({"agentId": id, "location": {"lat": 1, "lng": 2}}));
    }
    watching.nothing_came().await;
}

#[tokio::test]
async fn who_is_no_agent_reports_nothing() {
    let node = Node::embedded().await;
    let mut watching = watcher(&node, &["agents:all", "agent:a1", "agent:a1:orders", "agent:u1"]).await;
    for claims in [
        json!({"sub": "u1"}),
        json!({"sub": "u1", "agentId": "a1"}),
        json!({"sub": "u1", "role": "admin", "agentId": "a1"}),
        json!({"sub": "u1", "role": ["agent"], "agentId": "a1"}),
        json!({"sub": "u1", "role": "agent", "agentId": ""}),
        json!({"sub": "u1", "role": "agent", "agentId": ["a1"]}),
        json!({"sub": "u1", "role": "agent", "agentId": -7}),
        json!({"sub": "u1", "role": "agent", "agentId": 1e30}),
        json!({"sub": "u1", "role": "agent", "agentId": "a1:orders"}),
        json!({"sub": "u1", "role": "agent", "agentId": "a 1"}),
        json!({"sub": "u1", "role": "agent", "agentId": "x".repeat(129)}),
        json!({"sub": "ü", "role": "agent"}),
    ] {
        let mut client = Client::connect(node.main(), &token::with(claims.clone())).await;
        for argument in [HERE, "null", r#"{"agentId":"a1","lat":1,"lng":2}"#] {
            assert_eq!(client.call("update_location", argument).await, refused("forbidden"), "{claims} {argument}");
        }
        client.tell("update_location", HERE).await;
        client.nothing_came().await;
    }
    watching.nothing_came().await;
    assert!(node.metric("hallway_locations_refused_total").await >= 36.0);
}

#[tokio::test]
async fn what_is_no_location_is_an_invalid_payload_and_counts_for_nothing() {
    let node = Node::embedded().await;
    let mut watching = watcher(&node, &["agents:all"]).await;
    let mut client = Client::connect(node.main(), &agent("a1")).await;
    let mut arguments =
        ["null", "5", "[]", "[1,2]", "{}", r#""1,2""#, r#"{"lat":1}"#, r#"{"lng":1}"#].map(String::from).to_vec();
    for bad in ["null", r#""1""#, "true", "[]", "{}", "1e999", "-1e999", "90.000001", "-90.5", "181"] {
        arguments.push(format!(r#"{{"lat":{bad},"lng":1}}"#));
    }
    for bad in ["null", r#""1""#, "false", "[1]", "{}", "1e999", "180.000001", "-180.5"] {
        arguments.push(format!(r#"{{"lat":1,"lng":{bad}}}"#));
    }
    for bad in [r#""1""#, "false", "[1]", "{}", "1e999", "-0.1", "-1"] {
        arguments.push(format!(r#"{{"lat":1,"lng":1,"accuracy":{bad}}}"#));
    }
    for argument in &arguments {
        assert_eq!(client.call("update_location", argument).await, refused("invalid-payload"), "{argument}");
    }
    client.send(r#"42/realtime,77["update_location"]"#).await;
    let reply = client.frame().await.expect("a reply");
    assert_eq!(reply, r#"43/realtime,77[{"ok":false,"error":"invalid-payload"}]"#);
    let extremes = [
        r#"{"lat":90,"lng":180,"accuracy":0}"#,
        r#"{"lat":-90,"lng":-180,"accuracy":0.0}"#,
        r#"{"lat":90.0,"lng":180.0}"#,
        r#"{"lat":0,"lng":0,"accuracy":1e6}"#,
        r#"{"lat":-0.0,"lng":1E1}"#,
    ];
    for argument in extremes {
        assert_eq!(client.call("update_location", argument).await, json!({"ok": true}), "{argument}");
        assert_eq!(watching.event().await.1["event"]["payload"]["agentId"], "a1");
    }
    watching.nothing_came().await;
}

#[tokio::test]
async fn more_than_the_rate_are_refused_per_socket_and_come_back_with_time() {
    let node = Node::with(&[("HALLWAY_LIMITS__LOCATIONS_PER_SECOND", "2")]).await;
    let mut watching = watcher(&node, &["agents:all"]).await;
    let mut client = Client::connect(node.main(), &agent("a1")).await;
    let mut second = Client::connect(node.main(), &agent("a1")).await;
    for id in 0..20 {
        client.send(&format!(r#"42/realtime,{id}["update_location",{{"lat":{id},"lng":1}}]"#)).await;
    }
    let mut accepted = Vec::new();
    for id in 0..20 {
        let reply = client.frame().await.expect("a reply");
        if reply == format!(r#"43/realtime,{id}[{{"ok":true}}]"#) {
            accepted.push(id);
        } else {
            assert_eq!(reply, format!(r#"43/realtime,{id}[{{"ok":false,"error":"rate-limited"}}]"#));
        }
    }
    assert_eq!(accepted[..2], [0, 1], "the bucket starts full");
    assert!(accepted.len() < 20, "{accepted:?}");
    for id in accepted {
        assert_eq!(watching.event().await.1["event"]["payload"]["location"]["lat"], id);
    }
    assert_eq!(second.call("update_location", HERE).await, json!({"ok": true}), "another socket has its own");
    locate(&mut client, HERE).await;
    assert_eq!(client.join("order:o1").await["roomSize"], 1, "the socket stays");
}

#[tokio::test]
async fn five_evenly_spread_in_a_second_always_pass() {
    let node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &agent("a1")).await;
    let mut beat = every_fifth_of_a_second();
    for _ in 0..15 {
        beat.tick().await;
        assert_eq!(client.call("update_location", HERE).await, json!({"ok": true}));
    }
}

#[tokio::test]
async fn locations_that_waited_for_the_broker_are_judged_by_when_they_came() {
    let redis = Redis::start().await;
    let settings = [("HALLWAY_REDIS__URL", redis.url()), ("HALLWAY_REDIS__RESPONSE_TIMEOUT", "1m".to_owned())];
    let node = Node::with(&settings.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    let mut client = Client::connect(node.main(), &agent("a1")).await;
    redis.pause();
    let mut beat = every_fifth_of_a_second();
    for id in 0..12 {
        beat.tick().await;
        client.send(&format!(r#"42/realtime,{id}["update_location",{HERE}]"#)).await;
    }
    redis.go_on();
    for id in 0..12 {
        assert_eq!(client.frame().await.expect("a reply"), format!(r#"43/realtime,{id}[{{"ok":true}}]"#));
    }
}

#[tokio::test]
async fn locations_keep_their_order_and_one_without_an_ack_id_does_its_work() {
    let redis = Redis::start().await;
    let settings = [("HALLWAY_REDIS__URL", redis.url()), ("HALLWAY_LIMITS__LOCATIONS_PER_SECOND", "1000".to_owned())];
    let node = Node::with(&settings.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    let mut client = Client::connect(node.main(), &agent("a1")).await;
    client.join("agent:a1").await;
    for lat in 0..50 {
        client.tell("update_location", &format!(r#"{{"lat":{lat},"lng":1}}"#)).await;
    }
    for lat in 0..50 {
        let (name, heard) = client.event().await;
        assert_eq!(
            (name.as_str(), &heard["event"]["payload"]["location"]["lat"]),
            ("agent.location_updated", &json!(lat))
        );
    }
    client.tell("update_location", "null").await;
    client.nothing_came().await;
}

#[tokio::test]
async fn while_the_broker_is_away_a_location_is_unavailable_and_the_socket_stays() {
    let mut redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &agent("a1")).await;
    redis.kill();
    assert_eq!(client.call("update_location", HERE).await, refused("unavailable"));
    redis.restart().await;
    node.ready().await;
    client.join("agent:a1").await;
    locate(&mut client, HERE).await;
    assert_eq!(client.event().await.1["event"]["payload"]["agentId"], "a1");
}

/// Two agents at the full rate, a watcher of everything, and a watcher that comes late on another node.
#[tokio::test]
async fn each_room_keeps_one_location_per_agent_and_a_new_joiner_gets_the_newest() {
    const ROUNDS: usize = 15;
    let redis = Redis::start().await;
    let nodes = [Node::on(&redis.url()).await, Node::on(&redis.url()).await];
    let rooms = ["agents:all", "zone:z1:agents"];
    let mut watching = watcher(&nodes[0], &rooms).await;
    let mut agents = Vec::new();
    for id in ["a1", "a2"] {
        let claims = json!({"sub": id, "role": "agent", "zoneId": "z1"});
        agents.push(Client::connect(nodes[0].main(), &token::with(claims)).await);
    }
    let mut beat = every_fifth_of_a_second();
    for round in 0..ROUNDS {
        beat.tick().await;
        for client in &mut agents {
            let argument = format!(r#"{{"lat":{round},"lng":5}}"#);
            assert_eq!(client.call("update_location", &argument).await, json!({"ok": true}));
        }
    }
    for round in 0..ROUNDS {
        for agent in ["a1", "a2"] {
            let (_, argument) = watching.event().await;
            let expected = json!({"agentId": agent, "location": {"lat": round, "lng": 5}});
            assert_eq!(argument["event"]["payload"], expected, "each once, in order");
        }
    }
    watching.nothing_came().await;
    let mut late = Client::connect(nodes[1].main(), &token::staff()).await;
    for (room, expected) in
        [("agent:a1", &["a1"][..]), ("agent:a2", &["a2"]), (rooms[0], &["a1", "a2"]), (rooms[1], &["a1", "a2"])]
    {
        let mut kept = redis::cmd("HLEN");
        kept.arg(format!("hallway:{{{room}}}:latest"));
        let kept: usize = kept.query_async(&mut redis.client().await).await.expect("redis is up");
        assert_eq!(kept, expected.len(), "{room}");
        let data = late.resume(room, "0-1").await;
        let mut newest: Vec<Value> =
            data["events"].as_array().expect("a list").iter().map(|event| event["payload"].clone()).collect();
        newest.sort_by_key(|payload| payload["agentId"].to_string());
        let expected =
            expected.iter().map(|agent| json!({"agentId": agent, "location": {"lat": ROUNDS - 1, "lng": 5}}));
        assert_eq!(newest, expected.collect::<Vec<_>>(), "{room}");
    }
}
