//! Signals: those that ask for the end drain, and those that other servers read as "reload" or "write a log anew" end
//! nothing.

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::{PATIENCE, eventually, token};

fn lines(node: &Node, event: &str) -> usize {
    node.log().iter().filter(|line| line.contains(&format!(r#""event":"{event}""#))).count()
}

#[tokio::test]
async fn term_int_and_quit_drain() {
    for signal in ["-TERM", "-INT", "-QUIT"] {
        let mut node = Node::embedded().await;
        let mut client = Client::connect(node.main(), &token::user("u1")).await;
        node.signal(signal);
        let frames = client.until_closed(PATIENCE).await;
        assert!(frames.len() == 1 && frames[0].contains("server.draining"), "{signal}: {frames:?}");
        assert_eq!(node.ended().await.code(), Some(0), "{signal}");
        assert_eq!(lines(&node, "stopping"), 1, "{signal}");
        assert_eq!(lines(&node, "peers-cut-off"), 0, "{signal}: it did not wait for a peer that had gone");
    }
}

#[tokio::test]
async fn hup_usr1_and_usr2_end_nothing_and_are_said() {
    let mut node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    client.join("order:o1").await;
    for (times, signal) in (1..).zip(["-HUP", "-USR1", "-USR2", "-HUP"]) {
        node.signal(signal);
        let said = || async { (lines(&node, "signal-ignored") >= times).then_some(()) };
        eventually(&format!("{signal} is said"), said).await;
    }
    assert_eq!(node.readyz().await, 200);
    let (_, published) = node.post("/v1/publish", r#"{"room":"order:o1","type":"t","payload":1}"#).await;
    assert_eq!(client.event().await.1["event"]["id"], published["id"]);
    assert_eq!(node.terminate().await.code(), Some(0));
}

/// A container's runtime may send them at any time, and a drain may take long.
#[tokio::test]
async fn a_signal_during_the_drain_does_not_cut_it_short() {
    let mut node = Node::embedded().await;
    let mut client = Client::connect(node.main(), &token::user("u1")).await;
    for signal in ["-TERM", "-HUP", "-USR1", "-USR2", "-TERM", "-INT", "-QUIT"] {
        node.signal(signal);
    }
    assert_eq!(client.until_closed(PATIENCE).await.len(), 1);
    assert_eq!(node.ended().await.code(), Some(0));
}
