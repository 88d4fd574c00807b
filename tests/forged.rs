//! Lines that a service sends by a plain `PUBLISH` and that look like the function's own: they cost no member an event.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::token;

const EVENT: &str = r#"{"type":"order.status_changed","payload":{}}"#;

/// What would make every later event look old: a line with an offset an hour ahead that continues the room.
#[tokio::test]
async fn a_line_from_the_future_reaches_no_client_and_moves_no_room() {
    let redis = Redis::start().await;
    let node = Node::on(&redis.url()).await;
    let mut member = Client::connect(node.main(), &token::staff()).await;
    member.join("order:r").await;
    let first = redis.fcall(&["order:r"], EVENT, &[]).await.expect("it is published");
    assert_eq!(member.event().await.1["event"]["id"], first.id.as_str());

    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
    let (far, last) = (now + 3_600_000, &first.placed[0].1);
    for n in 0..2 {
        let line = format!("1 forged-{n} {now} 0 order:r {far}-{n} {last}\n{EVENT}");
        redis.publish("order:r", line.as_bytes()).await;
        let next = redis.fcall(&["order:r"], EVENT, &[]).await.expect("it is published");
        let event = member.event().await.1["event"].take();
        assert_eq!(event["id"], next.id.as_str(), "{event}");
        let mut newcomer = Client::connect(node.main(), &token::staff()).await;
        assert_eq!(newcomer.join("order:r").await["offset"], next.placed[0].1.as_str());
    }
    member.nothing_came().await;
    assert!(node.metric("hallway_events_refused_total").await >= 1.0);
}
