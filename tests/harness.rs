//! What tests stand on: a real Redis on a free port, real gateways as processes, and a client that speaks raw frames.
//!
//! Included by each test with `mod harness;`, so not every test uses all of it.
#![allow(dead_code, unreachable_pub, clippy::allow_attributes, reason = "each test uses a part of the harness")]

pub mod checker;
pub mod client;
pub mod clock;
pub mod network;
pub mod node;
pub mod pair;
pub mod provider;
pub mod proxy;
pub mod publisher;
pub mod record;
pub mod redis;
pub mod refuser;
pub mod service;
pub mod token;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything that works needs, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The lowest port that tests use: the range lies below the ports that the kernel gives to outgoing connections.
const FIRST_PORT: u32 = 10_000;
/// Ports of one test process, so that processes that run at once do not take each other's.
const PORTS: u32 = 20;

/// A loopback address that is free right now, and that no other test process asks for.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = FIRST_PORT + std::process::id() % 1000 * PORTS;
    let candidates = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed) % 400);
    let addresses = candidates.map(|port| SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).expect("a port"))));
    addresses.take(1000).find(|address| TcpListener::bind(address).is_ok()).expect("a free port")
}

/// A client for plain HTTP; reading the system's certificates for each would cost more than the requests.
pub fn http() -> reqwest::Client {
    reqwest::Client::builder().tls_certs_only([]).build().expect("a client")
}

/// Waits until `probe` gives something, looking often; panics with `what` when it takes longer than [`PATIENCE`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, probe: impl FnMut() -> F) -> T {
    within(PATIENCE, what, probe).await
}

/// Like [`eventually`], within a deadline that a spec names.
pub async fn within<T, F: Future<Output = Option<T>>>(limit: Duration, what: &str, mut probe: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Each promise as a test of either broker, or either fleet.
macro_rules! promises {
    ($($promise:ident)*) => {
        mod of_memory {
            $(#[tokio::test] async fn $promise() { super::$promise(super::Kind::Memory).await; })*
        }
        mod of_redis {
            $(#[tokio::test] async fn $promise() { super::$promise(super::Kind::Redis).await; })*
        }
    };
}
pub(crate) use promises;
