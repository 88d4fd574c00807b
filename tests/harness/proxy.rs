//! A way to a Redis that can be made deaf, so that what Redis sends on pub/sub connections is swallowed, or slow, so that
//! the replies to commands are held back. Nothing closes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A running proxy; its connections end with it.
pub struct Proxy {
    address: SocketAddr,
    state: State,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct State {
    deaf: Arc<AtomicBool>,
    held: Arc<watch::Sender<bool>>,
}

impl Proxy {
    /// One to this address, on a port of its own.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(super::free_address()).await.expect("the address is free");
        let address = listener.local_addr().expect("it is bound");
        let state = State { deaf: Arc::default(), held: Arc::new(watch::Sender::new(false)) };
        let (mut tasks, shared) = (JoinSet::new(), state.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(target).await.expect("redis listens");
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let subscribed = Arc::new(AtomicBool::new(false));
                connections.spawn(ask(from_client, to_server, subscribed.clone()));
                connections.spawn(answer(from_server, to_client, subscribed, shared.clone()));
            }
        });
        Self { address, state, _tasks: tasks }
    }

    /// For `HALLWAY_REDIS__URL`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on nothing comes through pub/sub connections, new ones included; or all of it again.
    pub fn deafen(&self, deaf: bool) {
        self.state.deaf.store(deaf, Ordering::SeqCst);
    }

    /// From now on Redis carries commands out and its replies wait here; or all of them go.
    pub fn hold_replies(&self, held: bool) {
        self.state.held.send_replace(held);
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

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, subscribed: Arc<AtomicBool>, state: State) {
    let (mut bytes, mut held) = ([0; 4096], state.held.subscribe());
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let subscribed = subscribed.load(Ordering::SeqCst);
        if !subscribed && held.wait_for(|held| !held).await.is_err() {
            return;
        }
        let swallowed = subscribed && state.deaf.load(Ordering::SeqCst);
        if !swallowed && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
