//! `/api/health/realtime`: apps that ask before they connect hear what the platform hears from `/readyz`.

use serde_json::{Value, json};

use crate::harness::node::Node;
use crate::harness::provider::{Mode, Provider};
use crate::harness::redis::Redis;
use crate::harness::{eventually, free_address};

/// Waits until just this check fails, and compares what apps are told.
async fn check_apps_are_told(node: &Node, failing: &str, told: Value) {
    eventually(&format!("{failing} fails alone"), || async {
        let checks = node.checks().await;
        let fails = |(name, check): (&String, &Value)| (check["ready"] == false) == (name == failing);
        let ours = checks.as_object().expect("an object").iter().filter(|(name, _)| *name != "ingest");
        ours.clone().all(fails).then_some(())
    })
    .await;
    assert_eq!((node.readyz().await, node.get("/api/health/realtime").await), (503, (503, told)), "{failing}");
    assert_eq!(node.get("/api/health").await.0, 200, "the process lives");
}

#[tokio::test]
async fn apps_are_told_that_a_node_is_ready_and_which_half_of_it_is_not() {
    let ready = json!({"status": "ok", "socketReady": true, "redisOk": true});
    assert_eq!(Node::embedded().await.get("/api/health/realtime").await, (200, ready));

    let provider = Provider::start(Mode::Hang).await;
    let settings = [("HALLWAY_AUTH__JWKS_URL", provider.url())];
    let settings = settings.each_ref().map(|(key, value)| (*key, value.as_str()));
    let no_keys = Node::launch(&settings, |command| {
        command.env_remove("HALLWAY_AUTH__HS256_SECRET");
    })
    .await;
    let door_shut = json!({"status": "unavailable", "socketReady": false, "redisOk": true});
    check_apps_are_told(&no_keys, "keys", door_shut.clone()).await;

    let redis = Redis::start().await;
    redis::cmd("SET")
        .arg("hallway:revoked")
        .arg("strange")
        .exec_async(&mut redis.client().await)
        .await
        .expect("it is up");
    let unaware = Node::start(&[("HALLWAY_REDIS__URL", &redis.url())]).await;
    check_apps_are_told(&unaware, "revocations", door_shut).await;
}

#[tokio::test]
async fn apps_are_told_that_redis_is_gone() {
    let nowhere = format!("redis://{}", free_address());
    let alone = Node::start(&[("HALLWAY_REDIS__URL", &nowhere)]).await;
    let (status, told) = alone.get("/api/health/realtime").await;
    assert_eq!((alone.readyz().await, status, &told["status"]), (503, 503, &json!("unavailable")));
    assert_eq!(told["redisOk"], false);
    let mut redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    redis.kill();
    let gone = json!({"status": "unavailable", "socketReady": true, "redisOk": false});
    check_apps_are_told(&node, "broker", gone).await;
}
