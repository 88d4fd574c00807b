//! A way to a Redis that is as narrow or as long as a real one: all connections of a node share its bytes per second, and
//! each byte takes its time.
//!
//! It runs on a thread of its own, so that it is not late because a thousand clients are busy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc as threads;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::{Outcome, thread};

/// How late a chunk may be for the lost time to be made good: above what a timer is off.
const SLACK: Duration = Duration::from_millis(4);
/// Bytes of a chunk; of a narrow way a millisecond's worth, so that one connection does not hold up another.
const CHUNK: usize = 16 * 1024;
/// Chunks of one connection on a narrow way: its queue is the sender's, as in a switch that drops what is too much.
const NARROW: usize = 1;
/// Chunks of one connection on a long way: many, because length alone holds nothing back.
const LONG: usize = 4096;
/// Receive buffer towards Redis: what a way of 500 Mbit/s and some milliseconds holds. A larger one would hide from Redis how
/// narrow the way is.
const WINDOW: u32 = 256 * 1024;

/// What a way is like, in each direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// Bytes per second of all connections together.
    pub(crate) rate: Option<u64>,
    /// What every byte takes.
    pub(crate) delay: Duration,
}

/// A running way; its connections end with it.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    state: Arc<State>,
    _ends_with_this: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    shape: Shape,
    there: Lane,
    back: Lane,
    refusing: AtomicBool,
    cut: watch::Sender<()>,
}

/// One direction.
#[derive(Debug)]
struct Lane {
    passed: AtomicU64,
    /// Microseconds from `origin` at which it is free again.
    free: AtomicU64,
    origin: Instant,
}

impl Link {
    /// One to a Redis.
    pub(crate) fn to(target: SocketAddr, shape: Shape) -> Outcome<Self> {
        let cut = watch::Sender::new(());
        let (there, back) = (Lane::open(), Lane::open());
        let state = Arc::new(State { target, shape, there, back, refusing: AtomicBool::new(false), cut });
        let (over, mut is_over) = watch::channel(());
        let (tell, told) = threads::channel();
        let shared = state.clone();
        thread::run("link", move || async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            tell.send(listener.local_addr()?)?;
            tokio::select! {
                ended = accept(listener, shared) => ended,
                _ = is_over.changed() => Ok(()),
            }
        })?;
        let address = told.recv()?;
        Ok(Self { address, state, _ends_with_this: over })
    }

    /// For `HALLWAY_REDIS__URL`.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Bytes that came from Redis so far.
    pub(crate) fn brought(&self) -> u64 {
        self.state.back.passed.load(Ordering::Relaxed)
    }

    /// Cuts every connection, and closes new ones until this is over.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.state.refusing.store(refusing, Ordering::SeqCst);
        if refusing {
            self.state.cut.send_replace(());
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) -> Outcome<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted?;
                if !state.refusing.load(Ordering::SeqCst) {
                    connections.spawn(carry(client, state.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(client: TcpStream, state: Arc<State>) -> Outcome<()> {
    let mut cut = state.cut.subscribe();
    let socket = TcpSocket::new_v4()?;
    if state.shape.rate.is_some() {
        socket.set_recv_buffer_size(WINDOW)?;
    }
    let server = socket.connect(state.target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, &state.there, state.shape) => {}
        () = pump(from_server, to_client, &state.back, state.shape) => {}
        _ = cut.changed() => {}
    }
    Ok(())
}

/// Carries one direction of one connection, its end included.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lane: &Lane, shape: Shape) {
    let depth = if shape.delay.is_zero() { NARROW } else { LONG };
    let (begin, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(depth);
    let chunk = shape.rate.map_or(CHUNK, |rate| usize::try_from(rate / 1000).unwrap_or(CHUNK).clamp(1460, CHUNK));
    let departing = async move {
        let mut bytes = vec![0; chunk];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            lane.pass(count, shape.rate).await;
            if begin.send((Instant::now() + shape.delay, bytes[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let arriving = async move {
        while let Some((at, bytes)) = under_way.recv().await {
            if !shape.delay.is_zero() {
                sleep_until(at).await;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(departing, arriving);
}

impl Lane {
    fn open() -> Self {
        Self { passed: AtomicU64::new(0), free: AtomicU64::new(0), origin: Instant::now() }
    }

    /// Waits until so many bytes have passed behind all that came before.
    async fn pass(&self, bytes: usize, rate: Option<u64>) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if let Some(rate) = rate {
            let now = micros(self.origin.elapsed());
            let takes = bytes * 1_000_000 / rate;
            let earliest = now.saturating_sub(micros(SLACK));
            // One thread runs all connections, so nothing comes between.
            let free = self.free.load(Ordering::Relaxed).max(earliest) + takes;
            self.free.store(free, Ordering::Relaxed);
            sleep_until(self.origin + Duration::from_micros(free)).await;
        }
        self.passed.fetch_add(bytes, Ordering::Relaxed);
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
