//! A way to a Redis that can be made deaf: what Redis sends on pub/sub connections is swallowed, and nothing closes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A running proxy; its connections end with it.
pub struct Proxy {
    address: SocketAddr,
    deaf: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// One to this address, on a port of its own.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(super::free_address()).await.expect("the address is free");
        let (address, deaf) = (listener.local_addr().expect("it is bound"), Arc::new(AtomicBool::new(false)));
        let (mut tasks, swallow) = (JoinSet::new(), deaf.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(target).await.expect("redis listens");
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let subscribed = Arc::new(AtomicBool::new(false));
                connections.spawn(ask(from_client, to_server, subscribed.clone()));
                connections.spawn(answer(from_server, to_client, subscribed, swallow.clone()));
            }
        });
        Self { address, deaf, _tasks: tasks }
    }

    /// For `HALLWAY_REDIS__URL`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on nothing comes through pub/sub connections, new ones included; or all of it again.
    pub fn deafen(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::SeqCst);
    }
}

async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, subscribed: Arc<AtomicBool>) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if bytes[..count].windows(9).any(|word| word == b"SUBSCRIBE") {
            subscribed.store(true, Ordering::SeqCst);
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, subscribed: Arc<AtomicBool>, deaf: Arc<AtomicBool>) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let swallowed = subscribed.load(Ordering::SeqCst) && deaf.load(Ordering::SeqCst);
        if !swallowed && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
