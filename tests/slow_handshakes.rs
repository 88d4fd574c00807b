//! Slow handshakes: peers that send a byte now and then hold nothing up, and are gone when their time is over.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::harness::client::Client;
use crate::harness::node::Node;
use crate::harness::{eventually, token};

/// Peers of each kind.
const PEERS: usize = 120;
/// `socketio.connect_timeout`.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Between two bytes.
const DRIP: Duration = Duration::from_millis(200);
/// A peer is gone by then: its timeout and a busy machine.
const GONE: Duration = Duration::from_secs(15);

/// A head that is whole, for a transport without a namespace.
const UPGRADE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Sends `at_once`, then `slowly` byte by byte and over again, until the gateway closes; says how long that took.
async fn drip(address: SocketAddr, at_once: Vec<u8>, slowly: Vec<u8>) -> Duration {
    let began = Instant::now();
    let stream = TcpStream::connect(address).await.expect("it listens");
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(&at_once).await.ok();
    let endless = async {
        for byte in slowly.iter().cycle() {
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(DRIP).await;
        }
    };
    let closed = async {
        let mut buffer = [0; 1024];
        while reader.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    };
    let both = async {
        tokio::select! { () = endless => {}, () = closed => {} }
    };
    timeout(GONE, both).await.expect("a slow peer is cut off");
    began.elapsed()
}

/// What peers send at once, and what they send slowly.
fn kinds() -> [(Vec<u8>, Vec<u8>); 5] {
    let text = |text: &str| text.as_bytes().to_vec();
    // A masked text frame of a hundred bytes that has only begun.
    let begun = [&[0x81, 0x80 | 100, 0, 0, 0, 0][..], &[b'4'; 90]].concat();
    // A message in fragments that never ends.
    let (first, next) = ([0x01, 0x80, 0, 0, 0, 0], [0x00, 0x80, 0, 0, 0, 0]);
    [
        (text(""), text("GET /socket.io/?EIO=4&transport=websocket&token=x HTTP/1.1\r\nHost: ")),
        (text("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"), text("X: y\r\n")),
        (text("POST /v1/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n"), text("A: b\r\n")),
        (text(UPGRADE), begun),
        ([UPGRADE.as_bytes(), &first].concat(), next.to_vec()),
    ]
}

#[tokio::test]
async fn peers_that_send_a_byte_now_and_then_are_cut_off_in_time_and_others_are_served_meanwhile() {
    let node = Node::with(&[
        ("HALLWAY_SOCKETIO__CONNECT_TIMEOUT", "3s"),
        ("HALLWAY_API__BODY_TIMEOUT", "1s"),
        ("HALLWAY_REDIS__RESPONSE_TIMEOUT", "1s"),
    ])
    .await;
    let mut reader = Client::connect(node.main(), &token::user("u1")).await;
    reader.join("order:1").await;
    let before = node.descriptors();
    let mut peers = JoinSet::new();
    for (at_once, slowly) in kinds().iter().cycle().take(PEERS * kinds().len()) {
        peers.spawn(drip(node.main(), at_once.clone(), slowly.clone()));
    }
    eventually("they are all there", || async { (node.descriptors() >= before + PEERS).then_some(()) }).await;
    let mut served = 0;
    while peers.try_join_next().is_none() {
        let (status, reply) = node.post("/v1/publish", r#"{"room":"order:1","type":"t","payload":1}"#).await;
        assert_eq!(status, 200, "{reply}");
        assert_eq!(reader.event().await.1["event"]["id"], reply["id"]);
        Client::connect(node.main(), &token::user("u2")).await.join("order:2").await;
        served += 1;
    }
    assert!(served > 0, "nobody was served before the first slow peer was gone");
    while let Some(took) = peers.join_next().await {
        let took = took.expect("no panic");
        assert!(took >= TIMEOUT / 2, "cut off after {took:?}, before its time");
    }
    eventually("the descriptors are back", || async { (node.descriptors() <= before).then_some(()) }).await;
    reader.nothing_came().await;
}
