//! The backlog: connections that come at once, faster than the node takes them in, wait and are not refused.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::client::is_admitted;
use crate::harness::node::Node;
use crate::harness::token;

/// As many as came within 0.2 s where it was seen.
const BURST: usize = 3000;
/// The kernel says a second time that a queue is full after one second at the soonest.
const AT_ONCE: Duration = Duration::from_millis(900);

/// What the kernel lets a listener have.
fn kernels_bound() -> usize {
    let text = fs::read_to_string("/proc/sys/net/core/somaxconn").expect("Linux");
    text.trim().parse().expect("a number")
}

/// So many connections to a node that takes none in; how many the kernel takes.
async fn burst(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let all = join_all((0..count).map(|_| timeout(AT_ONCE, TcpStream::connect(address)))).await;
    all.into_iter().filter_map(|connected| connected.ok()?.ok()).collect()
}

#[tokio::test]
async fn a_burst_of_connections_waits_until_the_node_has_time() {
    let open_files = rlimit::increase_nofile_limit(u64::MAX).expect("the limit can be read");
    let node = Node::embedded().await;
    let count = BURST.min(usize::try_from(open_files / 2).expect("a number of this machine"));
    node.pause();
    let connected = burst(node.main(), count).await;
    node.go_on();
    assert!(connected.len() >= count.min(kernels_bound()), "{} of {count}", connected.len());
    drop(connected);
    assert!(is_admitted(&node, &token::user("u1")).await);
}

#[tokio::test]
async fn a_backlog_that_is_set_is_the_one_there_is() {
    let node = Node::with(&[("HALLWAY_SERVER__BACKLOG", "16")]).await;
    node.pause();
    let connected = burst(node.main(), 64).await;
    node.go_on();
    assert!((16..32).contains(&connected.len()), "{} of 64", connected.len());
}
