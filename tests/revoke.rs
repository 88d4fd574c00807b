//! Revocation: tokens lose their force on every node within a second, and a client that came with one is kicked (S41).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::client::{Client, UNAUTHORIZED, is_admitted};
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token::{self, now_s};
use crate::harness::within;

const SECOND: Duration = Duration::from_secs(1);
const WEEK_MS: u64 = 7 * 86_400_000;
const LEEWAY_MS: u64 = 2000;

fn issued(sub: &str, iat: u64) -> String {
    token::with(json!({"sub": sub, "iat": iat}))
}

/// A token that knows its own id; issued this second.
fn named(sub: &str, jti: &str) -> String {
    token::with(json!({"sub": sub, "jti": jti, "iat": now_s()}))
}

async fn revoke(node: &Node, body: Value) -> Value {
    let (status, reply) = node.post("/v1/revoke", body.to_string()).await;
    assert_eq!(status, 200, "{reply}");
    reply
}

async fn three_on(redis: &Redis) -> [Node; 3] {
    let url = redis.url();
    let settings = [("HALLWAY_REDIS__URL", url.as_str()), ("HALLWAY_LIMITS__CONNECTIONS_PER_USER", "1000")];
    let (a, b, c) = tokio::join!(Node::with(&settings), Node::with(&settings), Node::with(&settings));
    [a, b, c]
}

/// Waits until the clock has left the second that it shows: a token issued from then on is a later one.
async fn next_second() {
    let now = now_s();
    within(SECOND * 2, "the clock goes on", || async { (now_s() > now).then_some(()) }).await;
}

#[tokio::test]
async fn a_users_tokens_lose_their_force_on_every_node_and_a_later_one_is_good() {
    let redis = Redis::start().await;
    let nodes = three_on(&redis).await;
    let (old, unborn, other) = (issued("u1", now_s()), token::user("u1"), issued("u2", now_s()));
    let (mut theirs, mut others) = (Vec::new(), Vec::new());
    for node in &nodes {
        for token in [&old, &unborn] {
            let mut client = Client::connect(node.main(), token).await;
            client.join("order:o1").await;
            theirs.push(client);
        }
        others.push(Client::connect(node.main(), &other).await);
    }
    let asked = now_s() * 1000;
    let reply = revoke(&nodes[0], json!({"sub": "u1"})).await;
    let answered = Instant::now();
    for client in &mut theirs {
        let left = SECOND.saturating_sub(answered.elapsed());
        assert_eq!(client.until_closed(left).await.last().map(String::as_str), Some("41/realtime,"));
    }
    assert_eq!(reply["kickedHere"], 2);
    let until = reply["until"].as_u64().expect("milliseconds");
    assert!((asked..=asked + 2000).contains(&(until - WEEK_MS - 2 * LEEWAY_MS)), "{until}");
    for node in &nodes {
        assert!(!is_admitted(node, &old).await && !is_admitted(node, &unborn).await);
        assert!(is_admitted(node, &other).await);
        assert_eq!(node.metric("hallway_revocations").await as u64, 1);
        assert_eq!(node.metric("hallway_sessions_kicked_total").await as u64, 2);
        node.moves("hallway_revocations").await;
        node.moves("hallway_sessions_kicked_total").await;
        node.moves("hallway_kick_seconds").await;
    }
    next_second().await;
    for node in &nodes {
        let mut client = Client::connect(node.main(), &issued("u1", now_s())).await;
        client.join("user:u1").await;
    }
    for client in &mut others {
        client.nothing_came().await;
    }
    let log = nodes.iter().flat_map(Node::log).collect::<Vec<_>>();
    assert!(
        log.iter().any(|line| line.contains(r#""message":"revoked""#) && line.contains(r#""kicked":2"#)),
        "{log:?}"
    );
    assert!(log.iter().all(|line| !line.contains("u1")), "no user's id is logged: {log:?}");
}

#[tokio::test]
async fn a_token_that_is_named_loses_its_force_alone() {
    let redis = Redis::start().await;
    let nodes = three_on(&redis).await;
    let (bad, good) = (named("u1", "t1"), named("u1", "t2"));
    let mut kicked = Client::connect(nodes[1].main(), &bad).await;
    let mut stays = Client::connect(nodes[1].main(), &good).await;
    let mut namesake = Client::connect(nodes[2].main(), &token::user("t1")).await;
    assert_eq!(revoke(&nodes[0], json!({"jti": "t1"})).await["kickedHere"], 0);
    assert_eq!(kicked.until_closed(SECOND).await, ["41/realtime,"]);
    for node in &nodes {
        assert!(!is_admitted(node, &bad).await && is_admitted(node, &good).await);
    }
    let refused = json!({"ok": false, "error": "unauthorized"});
    assert_eq!(stays.call("refresh_token", &json!({"token": bad}).to_string()).await, refused);
    assert_eq!(nodes[1].metric("hallway_refreshes_revoked_total").await as u64, 1);
    nodes[1].moves("hallway_refreshes_revoked_total").await;
    let next = named("u1", "t3");
    assert_eq!(stays.call("refresh_token", &json!({"token": next}).to_string()).await["ok"], true);
    revoke(&nodes[2], json!({"jti": "t2"})).await;
    stays.nothing_came().await;
    namesake.nothing_came().await;
    revoke(&nodes[2], json!({"jti": "t3"})).await;
    assert_eq!(stays.until_closed(SECOND).await, ["41/realtime,"], "its newest token counts");
    assert_eq!(nodes[0].metric("hallway_connects_refused_total").await as u64, 1);
}

#[tokio::test]
async fn issued_before_spares_what_was_issued_from_then_on() {
    let redis = Redis::start().await;
    let nodes = [Node::on(&redis.url()).await, Node::on(&redis.url()).await];
    let now = now_s();
    let (old, at, later) = (issued("u1", now - 101), issued("u1", now - 100), issued("u1", now - 99));
    let mut stays = Client::connect(nodes[1].main(), &at).await;
    revoke(&nodes[0], json!({"sub": "u1", "issuedBefore": (now - 100) * 1000})).await;
    let spared = async |token: &str| is_admitted(&nodes[0], token).await && is_admitted(&nodes[1], token).await;
    within(SECOND, "the other node knows", || async { (!is_admitted(&nodes[1], &old).await).then_some(()) }).await;
    assert!(!is_admitted(&nodes[0], &old).await && spared(&at).await && spared(&later).await);
    revoke(&nodes[1], json!({"sub": "u1", "issuedBefore": (now - 200) * 1000})).await;
    assert!(!is_admitted(&nodes[1], &old).await, "an earlier time takes nothing back");
    stays.nothing_came().await;
    revoke(&nodes[1], json!({"sub": "u1", "issuedBefore": (now - 100) * 1000 + 1})).await;
    assert_eq!(stays.until_closed(SECOND).await, ["41/realtime,"], "a token has whole seconds");
    assert!(!is_admitted(&nodes[1], &at).await && spared(&later).await);
}

#[tokio::test]
async fn what_is_no_revocation_is_refused_and_changes_nothing() {
    let node = Node::with(&[("HALLWAY_LIMITS__REVOCATIONS", "2")]).await;
    let mut client = Client::connect(node.main(), &issued("u1", now_s())).await;
    let now_ms = now_s() * 1000;
    for body in [
        json!({}),
        json!([]),
        json!({"sub": ""}),
        json!({"jti": ""}),
        json!({"sub": 5.5}),
        json!({"sub": -5}),
        json!({"jti": [5]}),
        json!({"sub": null}),
        json!({"sub": "u1", "jti": "t1"}),
        json!({"jti": "t1", "issuedBefore": now_ms}),
        json!({"issuedBefore": now_ms}),
        json!({"sub": "u1", "issued_before": now_ms}),
        json!({"sub": "u1", "issuedBefore": now_s()}),
        json!({"sub": "u1", "issuedBefore": now_ms * 1000}),
        json!({"sub": "u1", "issuedBefore": now_ms + 120_000}),
        json!({"sub": "u1", "issuedBefore": now_ms - WEEK_MS - 10_000}),
        json!({"sub": "u1", "issuedBefore": -1}),
        json!({"sub": "u1", "issuedBefore": "now"}),
        json!({"sub": "x".repeat(257)}),
        json!({"sub": "u1\n"}),
        json!({"jti": "x".repeat(257)}),
        json!({"jti": "t1\u{0}"}),
    ] {
        let (status, reply) = node.post("/v1/revoke", body.to_string()).await;
        assert_eq!((status, &reply["error"]["code"]), (400, &json!("invalid-payload")), "{body}");
    }
    let (status, reply) = node.post("/v1/revoke", vec![b'x'; 100_000]).await;
    assert_eq!((status, &reply["error"]["code"]), (400, &json!("invalid-payload")));
    revoke(&node, json!({"sub": "u2"})).await;
    revoke(&node, json!({"sub": "u3"})).await;
    let (status, reply) = node.post("/v1/revoke", r#"{"sub":"u1"}"#).await;
    assert_eq!((status, &reply["error"]["code"]), (507, &json!("too-many-revocations")));
    assert!(reply["error"]["message"].as_str().expect("a sentence").contains("limits.revocations"));
    revoke(&node, json!({"sub": "u3"})).await;
    client.nothing_came().await;
    assert!(is_admitted(&node, &issued("u1", now_s())).await);
    assert_eq!(node.metric("hallway_revokes_total").await as u64, 4 + 4, "four times that were no use, and four more");
    node.moves("hallway_revokes_total").await;
}

#[tokio::test]
async fn the_embedded_broker_revokes_and_both_namespaces_of_a_transport_end() {
    let node = Node::with(&[("HALLWAY_SERVER__ALIASES", "/other")]).await;
    let token = issued("u1", now_s());
    let mut client = Client::connect(node.main(), &token).await;
    client.send(&format!("40/other,{}", json!({"token": token}))).await;
    assert!(client.frame().await.expect("a reply").starts_with("40/other,"));
    assert_eq!(revoke(&node, json!({"sub": "u1"})).await["kickedHere"], 2);
    let frames = client.until_closed(SECOND).await;
    assert!(["41/realtime,", "41/other,"].iter().all(|end| frames.iter().any(|frame| frame == end)), "{frames:?}");
    assert!(!is_admitted(&node, &token).await);
}

#[tokio::test]
async fn revocations_of_two_nodes_at_once_all_hold() {
    let redis = Redis::start().await;
    let nodes = three_on(&redis).await;
    let mut asked = JoinSet::new();
    for at in 0..60_usize {
        let address = nodes[at % 2].main();
        asked.spawn(async move {
            let body = json!({"sub": format!("u{}", at / 2)}).to_string();
            let request =
                crate::harness::http().post(format!("http://{address}/v1/revoke")).bearer_auth(token::API_KEY);
            request.body(body).send().await.expect("it answers").status().as_u16()
        });
    }
    assert!(asked.join_all().await.iter().all(|status| *status == 200));
    for node in &nodes {
        within(SECOND, "all are known", || async {
            (node.metric("hallway_revocations").await as u64 == 30).then_some(())
        })
        .await;
        for user in [0, 13, 29] {
            assert!(!is_admitted(node, &issued(&format!("u{user}"), now_s() - 1)).await);
        }
    }
}

/// Signs in while the user's tokens are revoked: what came behind the admission, or nothing if there was none. A transport
/// that is closed before the reply is none either: a client comes back, and is refused.
async fn race(address: std::net::SocketAddr, token: String, after: Duration) -> Option<Vec<String>> {
    tokio::time::sleep(after).await;
    let (mut client, _) = Client::open(address).await;
    client.send(&format!("40/realtime,{}", json!({"token": token}))).await;
    let reply = client.frame().await?;
    if reply == UNAUTHORIZED {
        return None;
    }
    assert!(reply.starts_with("40/realtime,"), "{reply}");
    Some(client.until_closed(SECOND * 5).await)
}

/// Opens 200 connections of one user on three nodes, and revokes in the middle. Says how many were admitted first.
async fn none_survives(nodes: &[Node; 3], round: usize) -> usize {
    let sub = format!("racer-{round}");
    let token = issued(&sub, now_s() - 1);
    let mut racers = JoinSet::new();
    for at in 0..67_u64 {
        for node in nodes {
            racers.spawn(race(node.main(), token.clone(), Duration::from_millis(at)));
        }
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    revoke(&nodes[round % 3], json!({"sub": sub})).await;
    let admitted: Vec<Vec<String>> = racers.join_all().await.into_iter().flatten().collect();
    assert!(admitted.iter().all(|frames| frames == &["41/realtime,"]), "{admitted:?}");
    for node in nodes {
        within(SECOND, "nobody is left", || async {
            (node.metric("hallway_sessions").await as u64 == 0).then_some(())
        })
        .await;
    }
    admitted.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_that_races_with_the_revocation_survives_it() {
    let redis = Redis::start().await;
    let nodes = three_on(&redis).await;
    let mut admitted = 0;
    for round in 0..6 {
        admitted += none_survives(&nodes, round).await;
    }
    assert!((1..6 * 201).contains(&admitted), "some came before it and some after: {admitted}");
}

#[tokio::test]
async fn no_refresh_that_races_with_the_revocation_survives_it() {
    let node = Node::embedded().await;
    for round in 0..20 {
        let mut client = Client::connect(node.main(), &named("u1", &format!("old-{round}"))).await;
        let next = named("u1", &format!("new-{round}"));
        let refreshing = async {
            client.send(&format!(r#"42/realtime,7["refresh_token",{}]"#, json!({"token": next}))).await;
        };
        let (reply, ()) = tokio::join!(revoke(&node, json!({"jti": format!("new-{round}")})), refreshing);
        let kicked = reply["kickedHere"].as_u64().expect("a number");
        let refused = r#"43/realtime,7[{"ok":false,"error":"unauthorized"}]"#;
        match client.frame().await.as_deref() {
            Some(frame) if frame == refused => client.nothing_came().await,
            Some("41/realtime,") => assert_eq!(client.until_closed(SECOND).await, [] as [&str; 0]),
            Some(frame) => {
                assert!(frame.starts_with(r#"43/realtime,7[{"ok":true"#) && kicked == 1, "{frame} {kicked}");
                assert_eq!(client.until_closed(SECOND).await, ["41/realtime,"]);
            }
            None => panic!("closed without a word"),
        }
    }
}
