//! Rooms that are silent for longer than their last offset is remembered: nothing is missing, and no client is closed.

use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token;

const EVENT: &str = r#"{"type":"order.status_changed","payload":{}}"#;

/// A gateway that remembers last offsets for four seconds.
async fn forgetful_node(redis: &Redis) -> Node {
    let url = redis.url();
    Node::with(&[("HALLWAY_REDIS__URL", &url), ("HALLWAY_HISTORY__TTL", "1s"), ("HALLWAY_HISTORY__MEMORY", "4s")]).await
}

/// Waits until Redis no longer knows the room's last offset.
async fn forgotten(redis: &Redis, room: &str) {
    let key = format!("hallway:{{{room}}}:last");
    eventually("the last offset is forgotten", || async {
        let there: bool = redis::cmd("EXISTS").arg(&key).query_async(&mut redis.client().await).await.ok()?;
        (!there).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_member_of_a_room_that_was_silent_for_longer_than_the_memory_gets_the_next_event() {
    let redis = Redis::start().await;
    let node = forgetful_node(&redis).await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    client.join("order:silent").await;
    client.join("order:busy").await;
    for _ in 0..2 {
        let published = redis.fcall(&["order:busy"], EVENT, &[]).await.expect("it is published");
        assert_eq!(client.event().await.1["event"]["id"], published.id.as_str());
        forgotten(&redis, "order:busy").await;
    }
    let published = redis.fcall(&["order:silent", "order:busy"], EVENT, &[]).await.expect("it is published");
    assert_eq!(client.event().await.1["event"]["id"], published.id.as_str());
    assert!(node.metric("hallway_rooms_cut_off_total").await < 1.0);
}
