//! The floor: a client receives what a service publishes.

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token;

#[tokio::test]
async fn an_event_published_by_fcall_reaches_a_member() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    let joined = client.join("order:ord_123").await;
    assert_eq!(joined["roomSize"], 1);
    let event = r#"{"type":"order.status_changed","payload":{"orderId":"ord_123"}}"#;
    let published = redis.fcall(&["order:ord_123"], event, &[]).await.expect("it is published");
    let (name, argument) = client.event().await;
    assert_eq!(name, "order.status_changed");
    assert_eq!(argument["event"]["id"], published.id.as_str());
    assert_eq!(argument["event"]["meta"]["offset"], published.placed[0].1.as_str());
}
