//! What tests stand on: a real Redis on a free port, real gateways as processes, and a client that speaks raw frames.
//!
//! Included by each test with `mod harness;`, so not every test uses all of it.
#![allow(dead_code, unreachable_pub, clippy::allow_attributes, reason = "each test uses a part of the harness")]

pub mod checker;
pub mod client;
pub mod node;
pub mod publisher;
pub mod redis;
pub mod token;

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// Longer than anything that works needs, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A loopback address that is free right now.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound listener has an address")
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
