//! The Redis user of a node: with the line that `hallway redis-function` prints it does all of its work.

use serde_json::json;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};
use crate::publishing_user::{library, of_user};

const PREFIX: &str = "shop";

#[tokio::test]
async fn nodes_do_all_their_work_with_just_the_printed_rights() {
    let redis = Redis::start().await;
    let printed = library(PREFIX);
    let words: Vec<&str> = of_user(&printed, "gateway").split(' ').collect();
    redis::cmd("ACL").arg(&words).exec_async(&mut redis.client().await).await.expect("the line is right");
    let url = format!("redis://gateway:secret@{}", redis.address());
    let settings = [("HALLWAY_REDIS__URL", url.as_str()), ("HALLWAY_REDIS__PREFIX", PREFIX)];
    // The first one loads the function.
    let nodes = [Node::with(&settings).await, Node::with(&settings).await];
    let mut members = Vec::new();
    for node in &nodes {
        let mut member = Client::connect(node.main(), &token::user("u1")).await;
        member.join("order:r").await;
        members.push(member);
    }
    eventually("both are counted", || async { (nodes[0].room_size("order:r").await == 2).then_some(()) }).await;

    let mut heard = Vec::new();
    for (id, kind) in [("e1", "order.x"), ("e2", "agent.location_updated")] {
        let event = json!({"room": "order:r", "id": id, "type": kind, "payload": {"agentId": "a1"}});
        let (status, body) = nodes[1].post("/v1/publish", event.to_string()).await;
        assert_eq!(status, 200, "{body}");
        heard.push(id);
    }
    let batch = json!({"events": [{"room": "order:r", "id": "e4", "type": "order.x", "payload": {}}]});
    assert_eq!(nodes[0].post("/v1/publish/batch", batch.to_string()).await.0, 200);
    let mut add = redis::cmd("XADD");
    add.arg("shop:ingest").arg(&["*", "room", "order:r", "type", "order.x", "payload", "{}", "id", "e5"]);
    add.exec_async(&mut redis.client().await).await.expect("redis is up");
    heard.extend(["e4", "e5"]);
    for member in &mut members {
        for id in &heard {
            assert_eq!(member.event().await.1["event"]["id"], *id);
        }
    }
    let mut add = redis::cmd("XADD");
    add.arg("shop:ingest")
        .arg(&["*", "nonsense", "x"])
        .exec_async(&mut redis.client().await)
        .await
        .expect("redis is up");
    let lead = &nodes[usize::from(nodes[1].checks().await["ingest"]["leading"] == true)];
    eventually("a bad entry is put aside", || async {
        (lead.metric("hallway_ingest_rejected_total").await > 0.0).then_some(())
    })
    .await;

    assert_eq!(
        members[1].resume("order:r", "1-0").await["events"].as_array().map(Vec::len),
        Some(4),
        "the newest location too"
    );
    let (status, body) = nodes[0].post("/v1/disconnect", r#"{"userId":"u1"}"#).await;
    assert_eq!((status, &body), (200, &json!({"sockets": 2, "complete": true})));
    let (status, body) = nodes[0].post("/v1/revoke", r#"{"sub":"u1"}"#).await;
    assert_eq!(status, 200, "{body}");
    eventually("the other node knows", || async { (nodes[1].metric("hallway_revocations").await > 0.0).then_some(()) })
        .await;
    for node in &nodes {
        assert_eq!(node.readyz().await, 200);
        let refused = |line: &&String| line.contains("NOPERM") || line.contains("NoPerm");
        assert_eq!(node.log().iter().filter(refused).collect::<Vec<_>>(), Vec::<&String>::new());
    }
}
