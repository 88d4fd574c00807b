//! Shares: one address that asks for all handshakes of a node has them, until another one asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::eventually;
use crate::harness::node::Node;

const TRUSTED: (&str, &str) = ("HALLWAY_SERVER__TRUSTED_PROXIES", "127.0.0.1");
const STRANGER: &str = "203.0.113.7";

/// Asks for a transport from an address, and hangs up. Gives the head of the answer and its body.
async fn ask(address: SocketAddr, from: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         X-Forwarded-For: {from}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("it takes bytes");
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

fn is_upgraded(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 101")
}

/// Upgrades and hangs up without end, from some connections at once.
struct Stranger {
    upgraded: Arc<AtomicU32>,
    refused: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    asking: JoinSet<()>,
}

impl Stranger {
    fn at(address: SocketAddr) -> Self {
        let (upgraded, refused, stop) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default(), Arc::default());
        let mut asking = JoinSet::new();
        for _ in 0..8 {
            let (upgraded, refused, stop) = (upgraded.clone(), refused.clone(), Arc::<AtomicBool>::clone(&stop));
            asking.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let counter = if is_upgraded(&ask(address, STRANGER).await) { &upgraded } else { &refused };
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { upgraded, refused, stop, asking }
    }

    async fn takes_everything(&self) {
        let before = self.refused.load(Ordering::SeqCst);
        eventually("it is refused again and again", || async {
            (self.refused.load(Ordering::SeqCst) > before + 100).then_some(())
        })
        .await;
    }

    async fn ends(mut self) -> u32 {
        self.stop.store(true, Ordering::SeqCst);
        while self.asking.join_next().await.is_some() {}
        self.upgraded.load(Ordering::SeqCst)
    }
}

async fn over(node: &Node, limit: &str) -> u64 {
    let lead = format!("hallway_over_limit_total{{limit=\"{limit}\"}} ");
    let numbers = node.numbers().await;
    numbers.lines().find_map(|line| line.strip_prefix(&lead)).map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test]
async fn a_stranger_that_upgrades_and_hangs_up_keeps_no_newcomer_out() {
    let node = Node::with(&[("HALLWAY_LIMITS__HANDSHAKES_PER_SECOND", "20"), TRUSTED]).await;
    let stranger = Stranger::at(node.main());
    stranger.takes_everything().await;
    assert!(over(&node, "handshakes_per_second").await > 0, "alone, it has the whole rate");
    // As many as come in a second, and fewer than the credit has for those who come in the same moment.
    for i in 1..=8 {
        let answer = ask(node.main(), &format!("198.51.100.{i}")).await;
        assert!(is_upgraded(&answer), "newcomer {i}: {answer}");
    }
    let answer = ask(node.main(), STRANGER).await;
    assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("too-many-handshakes"), "{answer}");
    assert!(over(&node, "handshakes_per_ip").await > 0);
    // The rest is the stranger's: nothing of the rate is wasted.
    let had = stranger.upgraded.load(Ordering::SeqCst);
    eventually("it goes on alone", || async { (stranger.upgraded.load(Ordering::SeqCst) >= had + 20).then_some(()) })
        .await;
    assert!(stranger.ends().await >= 20);
}

#[tokio::test]
async fn handshakes_of_one_address_can_be_bounded_though_no_other_asks() {
    let node = Node::with(&[("HALLWAY_LIMITS__HANDSHAKES_PER_IP", "3"), TRUSTED]).await;
    let mut answers = Vec::new();
    for host in 1..=20 {
        answers.push(ask(node.main(), &format!("2001:db8::{host}")).await);
    }
    let refused = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 429")).count();
    assert!((10..=17).contains(&refused), "{refused} of one /64 refused");
    assert!(is_upgraded(&ask(node.main(), "2001:db8:0:1::1").await));
    assert_eq!(over(&node, "handshakes_per_ip").await, refused as u64);
}
