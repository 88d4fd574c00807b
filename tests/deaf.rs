//! A pub/sub connection that stands and brings nothing: only the canary can tell, and `/readyz` says so.

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::{eventually, token};

#[tokio::test]
async fn a_deaf_pubsub_connection_is_noticed_and_replaced_and_what_it_swallowed_is_delivered() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.address()).await;
    let settings = [
        ("HALLWAY_REDIS__URL", proxy.url()),
        ("HALLWAY_REDIS__CANARY", "200ms".to_owned()),
        ("HALLWAY_REDIS__RESPONSE_TIMEOUT", "1s".to_owned()),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let node = Node::with(&settings).await;
    let mut member = Client::connect(node.main(), &token::staff()).await;
    member.join("order:r").await;
    let event = r#"{"type":"order.status_changed","payload":{}}"#;
    let heard = redis.fcall(&["order:r"], event, &[]).await.expect("it is published");
    assert_eq!(member.event().await.1["event"]["id"], heard.id.as_str());

    proxy.deafen(true);
    let swallowed = redis.fcall(&["order:r"], event, &[]).await.expect("it is published");
    eventually("readyz says 503", || async { (node.readyz().await == 503).then_some(()) }).await;
    let told = |line: &String| line.contains("canaries do not come back through pub/sub");
    eventually("an operator is told", || async { node.log().iter().any(told).then_some(()) }).await;
    member.nothing_came().await;

    proxy.deafen(false);
    node.ready().await;
    assert_eq!(member.event().await.1["event"]["id"], swallowed.id.as_str());
    let next = redis.fcall(&["order:r"], event, &[]).await.expect("it is published");
    assert_eq!(member.event().await.1["event"]["id"], next.id.as_str());
    assert!(node.metric("hallway_pubsub_connects_total").await >= 2.0);
}
