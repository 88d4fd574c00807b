//! S37: a peer whose network vanishes without a word, while its rooms have events, is gone within 15 s.
//!
//! Each test starts itself again in a network of its own, and that process starts itself once more, as the peer, in
//! another. A pair of virtual interfaces joins the two, until the peer's side falls silent.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::harness::client::Client;
use crate::harness::network::{PART, again, ip, way_in};
use crate::harness::node::Node;
use crate::harness::{PATIENCE, eventually, token};

const ROOMS: [&str; 3] = ["order:r", "store:s", "user:peer"];
/// What the spec allows.
const LIMIT: Duration = Duration::from_secs(15);
/// A client that is still there has an event by then.
const PROMPT: Duration = Duration::from_secs(8);
/// Where the peer finds the node.
const NODE: &str = "10.77.0.1:8080";

/// How a peer's network vanishes.
#[derive(Clone, Copy)]
enum Silence {
    /// Its interface goes down, as when a cable is pulled.
    LinkDown,
    /// What is sent to it is dropped on the way, as when a phone has left its cell.
    Dropped,
}

#[tokio::test]
async fn a_peer_whose_link_goes_down_is_gone_with_its_rooms() {
    play("half_open::a_peer_whose_link_goes_down_is_gone_with_its_rooms", Silence::LinkDown).await;
}

#[tokio::test]
async fn a_peer_whose_packets_are_dropped_is_gone_with_its_rooms() {
    play("half_open::a_peer_whose_packets_are_dropped_is_gone_with_its_rooms", Silence::Dropped).await;
}

async fn play(test: &str, silence: Silence) {
    match std::env::var(PART).as_deref() {
        Ok("node") => node_side(test).await,
        Ok("peer") => peer_side(silence).await,
        Ok(other) => panic!("no such part: {other}"),
        Err(_) => {
            let mut inside = again(way_in(), test, "node");
            let status = inside.stdin(Stdio::null()).status().expect("unshare was there a moment ago");
            assert!(status.success(), "see what the process in the other network said");
        }
    }
}

/// The peer's process; it ends when it can no longer be told anything.
struct Peer {
    process: Child,
    orders: ChildStdin,
}

impl Peer {
    fn start(test: &str) -> Self {
        let mut command = again(&["-n"], test, "peer");
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("unshare runs");
        let orders = process.stdin.take().expect("piped");
        Self { process, orders }
    }

    fn tell(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("the peer listens");
    }

    fn is_alive(&mut self) -> bool {
        self.process.try_wait().expect("a child of ours").is_none()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

async fn node_side(test: &str) {
    ip("link set lo up");
    let node = Node::changed(&[], |command| {
        let own = command.get_envs().find(|(key, _)| *key == "HALLWAY_SERVER__LISTEN").and_then(|(_, value)| value);
        let both = format!("{},0.0.0.0:8080", own.and_then(|own| own.to_str()).expect("the harness sets it"));
        command.env("HALLWAY_SERVER__LISTEN", both);
    })
    .await;
    let mut witness = Client::connect(node.main(), &token::staff()).await;
    witness.join(ROOMS[0]).await;
    let mut peer = Peer::start(test);
    lay_cable(&mut peer).await;
    eventually("the peer is in its rooms", || async { (sizes(&node).await == [2, 1, 1]).then_some(()) }).await;
    publish(&node, &mut witness).await;
    peer.tell("vanish");
    let began = Instant::now();
    let mut pace = interval(Duration::from_millis(100));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while sizes(&node).await != [1, 0, 0] {
        assert!(began.elapsed() < LIMIT, "the peer is still a member");
        pace.tick().await;
        publish(&node, &mut witness).await;
    }
    assert!(peer.is_alive(), "it ended its connection itself");
    witness.nothing_came().await;
}

/// Joins the two networks.
async fn lay_cable(peer: &mut Peer) {
    let pid = peer.process.id();
    let own = std::fs::read_link("/proc/self/ns/net").expect("a network");
    eventually("the peer has a network of its own", || async {
        std::fs::read_link(format!("/proc/{pid}/ns/net")).ok().filter(|theirs| *theirs != own)
    })
    .await;
    ip(&format!("link add node0 type veth peer name peer0 netns {pid}"));
    ip("addr add 10.77.0.1/24 dev node0");
    ip("link set node0 up");
    peer.tell("up");
}

async fn sizes(node: &Node) -> [u64; 3] {
    [node.room_size(ROOMS[0]).await, node.room_size(ROOMS[1]).await, node.room_size(ROOMS[2]).await]
}

/// Publishes an event and asserts that the witness has it promptly.
async fn publish(node: &Node, witness: &mut Client) {
    let (status, reply) = node.post("/v1/publish", r#"{"room":"order:r","type":"t","payload":1}"#).await;
    assert_eq!(status, 200, "{reply}");
    let (_, argument) = timeout(PROMPT, witness.event()).await.expect("nobody else is held up");
    assert_eq!(argument["event"]["id"], reply["id"]);
}

fn order(expected: &str) {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("orders come by stdin");
    assert_eq!(line.trim_end(), expected);
}

async fn peer_side(silence: Silence) {
    order("up");
    ip("addr add 10.77.0.2/24 dev peer0");
    ip("link set peer0 up");
    let address: SocketAddr = NODE.parse().expect("an address");
    let token = token::user("peer");
    let mut client = timeout(PATIENCE, Client::connect(address, &token)).await.expect("the node is found");
    for room in ROOMS {
        client.join(room).await;
    }
    order("vanish");
    match silence {
        Silence::LinkDown => ip("link set peer0 down"),
        Silence::Dropped => ip("addr flush dev peer0"),
    }
    // Until the other side lets go of the pipe; the connection stays open.
    order("");
    drop(client);
}
