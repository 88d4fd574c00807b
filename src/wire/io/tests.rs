//! Tests of the IO object that need its private fields: the descriptor is closed.

use std::sync::Arc;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::super::{WireConfig, WireListener};

#[tokio::test]
async fn the_descriptor_is_closed_when_hyper_lets_go_though_handles_and_lanes_live() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = TaskTracker::new();
    let mut listener = WireListener::new(listener, WireConfig::default(), tasks.clone());
    let (accepted, _client) = tokio::join!(listener.accept(), TcpStream::connect(address));
    let (io, _) = accepted;
    let wire = io.wire().clone();
    let _lane = wire.add_lane("40/realtime,");
    let stream = Arc::downgrade(&io.stream);
    drop(io);
    tasks.close();
    tasks.wait().await;
    assert!(stream.upgrade().is_none());
    assert!(wire.is_closed());
}
