//! S41: a node that is asked to stop tells its clients, and closes their transports so that they come back elsewhere.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use serde_json::json;

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{PATIENCE, eventually, token};

const NAMESPACES: [(&str, &str); 1] = [("HALLWAY_SERVER__ALIASES", "/other")];

/// The number a notice names, asserted to be the notice of the contract.
#[track_caller]
fn pause(name: &str, argument: &serde_json::Value) -> u64 {
    let event = &argument["event"];
    let pause = event["payload"]["reconnectInMs"].as_u64().expect("milliseconds");
    let (id, timestamp) = (event["id"].as_str().expect("an id"), event["timestamp"].as_u64().expect("a time"));
    assert_eq!(id.len(), 36, "{id}");
    assert!(timestamp / 1000 <= token::now_s() + 1, "{timestamp}");
    assert_eq!(
        (name, argument),
        (
            "server.draining",
            &json!({
                "event": {
                    "id": id,
                    "type": "server.draining",
                    "priority": "NORMAL",
                    "timestamp": timestamp,
                    "payload": {"reconnectInMs": pause},
                    "meta": {"source": "hallway"},
                },
                "requiresAck": false,
            })
        )
    );
    pause
}

#[tokio::test]
async fn every_socket_is_told_to_come_back_at_another_time_and_closed_without_41() {
    let mut node = Node::with(&NAMESPACES).await;
    let (mut nobody, _) = Client::open(node.main()).await;
    let mut clients = Vec::new();
    for i in 0..12 {
        let (mut client, _) = Client::open(node.main()).await;
        client.set_namespace(["/realtime", "/other"][i % 2]);
        client.sign_in(&token::staff()).await;
        if i % 3 == 0 {
            client.join("order:o1").await;
        }
        clients.push(client);
    }
    let gone = async {
        let mut pauses = HashSet::new();
        for client in &mut clients {
            let frames = client.until_closed(PATIENCE).await;
            assert_eq!(frames.len(), 1, "{frames:?}");
            let (name, argument) = client.parse_event(&frames[0]).expect("an event of its namespace");
            pauses.insert(pause(&name, &argument));
        }
        assert_eq!(nobody.until_closed(PATIENCE).await, Vec::<String>::new());
        pauses
    };
    let (status, pauses) = tokio::join!(node.terminate(), gone);
    assert_eq!(status.code(), Some(0));
    assert!(pauses.iter().all(|pause| *pause <= 5000), "{pauses:?}");
    assert!(pauses.len() > 6, "not spread: {pauses:?}");
}

#[tokio::test]
async fn a_transport_with_two_sockets_is_told_in_both_namespaces() {
    let settings = [NAMESPACES[0], ("HALLWAY_SHUTDOWN__RECONNECT_SPREAD", "0s")];
    let mut node = Node::with(&settings).await;
    let mut client = Client::connect(node.main(), &token::staff()).await;
    client.set_namespace("/other");
    client.sign_in(&token::staff()).await;
    let (status, mut frames) = tokio::join!(node.terminate(), client.until_closed(PATIENCE));
    assert!(status.success(), "{status}");
    frames.sort();
    assert_eq!(frames.len(), 2, "{frames:?}");
    for (namespace, frame) in ["/other", "/realtime"].iter().zip(&frames) {
        client.set_namespace(namespace);
        let (name, argument) = client.parse_event(frame).expect("an event of its namespace");
        assert_eq!(pause(&name, &argument), 0);
    }
}

#[tokio::test]
async fn a_node_stops_in_order_while_redis_is_out_of_reach() {
    let mut redis = Redis::start().await;
    let (mut first, mut second) = (Node::on(&redis.url()).await, Node::on(&redis.url()).await);
    let mut clients =
        [Client::connect(first.main(), &token::staff()).await, Client::connect(second.main(), &token::staff()).await];
    for client in &mut clients {
        client.join("order:o1").await;
    }
    let [one, two] = &mut clients;
    redis.pause();
    let (status, frames) = tokio::join!(first.terminate(), one.until_closed(PATIENCE));
    assert_eq!((status.code(), frames.len()), (Some(0), 1), "{frames:?}");
    redis.kill();
    eventually("readyz says 503", || async { (second.readyz().await == 503).then_some(()) }).await;
    let (status, frames) = tokio::join!(second.terminate(), two.until_closed(PATIENCE));
    assert_eq!((status.code(), frames.len()), (Some(0), 1), "{frames:?}");
}

/// glibc looks names up in a blocking call, and reads the file of `HOSTALIASES` first: a pipe without a writer is a
/// name server that does not answer.
#[tokio::test]
async fn a_name_that_is_being_looked_up_holds_up_no_stop() {
    const NONBLOCK: i32 = 0o4000;
    let folder = tempfile::tempdir().expect("a folder");
    let aliases = folder.path().join("aliases");
    assert!(Command::new("mkfifo").arg(&aliases).status().expect("mkfifo runs").success());
    let settings = [("HALLWAY_AUTH__JWKS_URL", "https://nowhere/keys")];
    let mut node = Node::changed(&settings, |command| {
        command.env("HOSTALIASES", &aliases);
    })
    .await;
    let writer = || async { OpenOptions::new().write(true).custom_flags(NONBLOCK).open(&aliases).ok() };
    let _silent = eventually("the name is looked up", writer).await;
    assert!(node.terminate().await.success());
}
