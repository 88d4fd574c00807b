//! Revocations go by Redis' clock: a node whose own clock is wrong forgets none of the others, and notes its own at the right time.

use serde_json::{Value, json};

use crate::harness::client::is_admitted;
use crate::harness::clock;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token::{self, now_s};
use crate::harness::{eventually, within};

const HOUR: i64 = 3600;
/// Beyond any token's life, and beyond what Redis keeps for clocks that are behind.
const FAR: i64 = 3 * HOUR;
const LIFE: (&str, &str) = ("HALLWAY_AUTH__MAX_TOKEN_TTL", "1h");

async fn shifted(redis: &Redis, seconds: i64) -> Node {
    let url = redis.url();
    Node::changed(&[("HALLWAY_REDIS__URL", &url), LIFE], |command| clock::shift(command, seconds)).await
}

async fn revoke(node: &Node, body: Value) -> Value {
    let (status, reply) = node.post("/v1/revoke", body.to_string()).await;
    assert_eq!(status, 200, "{reply}");
    reply
}

fn issued(sub: &str, ago: i64) -> String {
    let iat = i64::try_from(now_s()).expect("a year before 2262") - ago;
    token::with(json!({"sub": sub, "iat": iat, "exp": iat + HOUR}))
}

async fn knows(node: &Node, known: u64) {
    eventually(&format!("{known} are known"), || async {
        (node.checks().await["revocations"] == json!({"ready": true, "known": known})).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_whose_clock_runs_ahead_forgets_nobody_and_locks_nobody_out() {
    let redis = Redis::start().await;
    let url = redis.url();
    let right = Node::with(&[("HALLWAY_REDIS__URL", &url), LIFE]).await;
    revoke(&right, json!({"sub": "u1"})).await;
    let ahead = shifted(&redis, FAR).await;
    knows(&ahead, 1).await;
    let until = revoke(&ahead, json!({"sub": "u2"})).await["until"].as_u64().expect("a time");
    assert!(until <= (now_s() + 3605) * 1000, "by Redis' clock");
    knows(&ahead, 2).await;
    knows(&right, 2).await;
    for user in ["u1", "u2"] {
        assert!(!is_admitted(&right, &issued(user, 10)).await, "{user}");
    }
    let welcome = || async { is_admitted(&right, &issued("u2", 0)).await.then_some(()) };
    within(std::time::Duration::from_secs(3), "a later token is welcome", welcome).await;
    drop((right, ahead));
    let later = Node::with(&[("HALLWAY_REDIS__URL", &url), LIFE]).await;
    assert!(!is_admitted(&later, &issued("u1", 10)).await, "Redis has kept it");
}

#[tokio::test]
async fn a_node_whose_clock_is_behind_revokes_what_was_issued_until_now() {
    let redis = Redis::start().await;
    let url = redis.url();
    let right = Node::with(&[("HALLWAY_REDIS__URL", &url), LIFE]).await;
    let behind = shifted(&redis, -FAR).await;
    revoke(&behind, json!({"sub": "u1"})).await;
    revoke(&behind, json!({"sub": "u2", "issuedBefore": now_s() * 1000})).await;
    for user in ["u1", "u2"] {
        let refused = || async { (!is_admitted(&right, &issued(user, 10)).await).then_some(()) };
        within(std::time::Duration::from_secs(1), user, refused).await;
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_told() {
    let redis = Redis::start().await;
    let node = shifted(&redis, -FAR).await;
    let told = |line: &String| line.contains("clock-differs") && line.contains("behind");
    eventually("an operator is told", || async { node.log().iter().any(told).then_some(()) }).await;
    assert_eq!(node.log().iter().filter(|line| told(line)).count(), 1);
}
