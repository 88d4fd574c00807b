//! A way to a Redis on which links fail as they do in the field: it can be deaf, slow, silent, refuse, hang, or lead
//! elsewhere, for one link of a node or for all. Which link a connection is of is read from the name it gives itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What a gateway's connections call themselves: `hallway-<link>`.
const NAME: &[u8] = b"hallway-";

/// A running proxy; its connections end with it.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    target: Mutex<SocketAddr>,
    deaf: AtomicBool,
    held: watch::Sender<bool>,
    /// New connections are accepted, and nothing passes through them, ever.
    hanging: AtomicBool,
    /// New connections are closed at once.
    refusing: AtomicBool,
    made: AtomicUsize,
    connections: Mutex<Vec<Arc<Connection>>>,
}

/// A connection through the proxy.
#[derive(Default)]
struct Connection {
    link: Mutex<String>,
    subscribed: AtomicBool,
    fate: watch::Sender<Fate>,
    /// Before each answer.
    delay: Mutex<Duration>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Fate {
    #[default]
    Passes,
    /// Stays open, and nothing passes.
    Silent,
    Cut,
}

impl Proxy {
    /// One to this address, on a port of its own.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(super::free_address()).await.expect("the address is free");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            target: Mutex::new(target),
            deaf: AtomicBool::default(),
            held: watch::Sender::new(false),
            hanging: AtomicBool::default(),
            refusing: AtomicBool::default(),
            made: AtomicUsize::default(),
            connections: Mutex::default(),
        });
        let (mut tasks, shared) = (JoinSet::new(), state.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                shared.made.fetch_add(1, Ordering::SeqCst);
                if !shared.refusing.load(Ordering::SeqCst) {
                    connections.spawn(carry(client, shared.clone()));
                }
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

    /// New connections lead to `target`; those that stand stay where they are.
    pub fn redirect(&self, target: SocketAddr) {
        *self.state.target.lock() = target;
    }

    /// Nothing passes any more through the connections that this link has; new ones work. Says how many there were.
    pub fn silence(&self, link: &str) -> usize {
        self.doom(link, Fate::Silent)
    }

    /// Answers take so long through the connections that this link has; through new ones they do not.
    pub fn delay(&self, link: &str, delay: Duration) {
        let connections = self.state.connections.lock();
        connections.iter().filter(|one| *one.link.lock() == link).for_each(|one| *one.delay.lock() = delay);
    }

    /// Cuts the connections that this link has; new ones work.
    pub fn cut(&self, link: &str) -> usize {
        self.doom(link, Fate::Cut)
    }

    /// Nothing passes any more through any connection that stands, nor through those that are made until this is over.
    pub fn hang(&self, hanging: bool) {
        self.state.hanging.store(hanging, Ordering::SeqCst);
        if hanging {
            self.doom("", Fate::Silent);
        }
    }

    /// Cuts all connections, and closes new ones until this is over.
    pub fn refuse(&self, refusing: bool) {
        self.state.refusing.store(refusing, Ordering::SeqCst);
        if refusing {
            self.doom("", Fate::Cut);
        }
    }

    /// The links that have a connection and have said their names.
    pub fn links(&self) -> Vec<String> {
        let connections = self.state.connections.lock();
        let mut links: Vec<String> = connections.iter().map(|one| one.link.lock().clone()).collect();
        links.sort_unstable();
        links.dedup();
        links.retain(|link| !link.is_empty());
        links
    }

    /// How many connections were made so far.
    pub fn made(&self) -> usize {
        self.state.made.load(Ordering::SeqCst)
    }

    fn doom(&self, link: &str, fate: Fate) -> usize {
        let mut connections = self.state.connections.lock();
        let (doomed, others): (Vec<_>, Vec<_>) =
            connections.drain(..).partition(|connection| link.is_empty() || *connection.link.lock() == link);
        *connections = others;
        doomed.iter().for_each(|connection| _ = connection.fate.send_replace(fate));
        doomed.len()
    }
}

async fn carry(client: TcpStream, state: Arc<State>) {
    let connection = Arc::new(Connection::default());
    if state.hanging.load(Ordering::SeqCst) {
        connection.fate.send_replace(Fate::Silent);
    }
    state.connections.lock().push(connection.clone());
    let target = *state.target.lock();
    // A target that does not listen refuses by hanging up.
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = connection.fate.subscribe();
    tokio::select! {
        () = ask(from_client, to_server, &connection) => {}
        () = answer(from_server, to_client, &connection, &state) => {}
        _ = cut.wait_for(|fate| *fate == Fate::Cut) => {}
    }
    state.connections.lock().retain(|other| !Arc::ptr_eq(other, &connection));
}

/// Waits while nothing passes.
async fn passes(connection: &Connection) {
    connection.fate.subscribe().wait_for(|fate| *fate != Fate::Silent).await.ok();
}

async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, connection: &Connection) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let bytes = &bytes[..count];
        if bytes.windows(9).any(|word| word == b"SUBSCRIBE") {
            connection.subscribed.store(true, Ordering::SeqCst);
        }
        if let Some(at) = bytes.windows(NAME.len()).position(|word| word == NAME)
            && connection.link.lock().is_empty()
        {
            let name = bytes[at + NAME.len()..].split(|byte| *byte == b'\r').next().unwrap_or_default();
            *connection.link.lock() = String::from_utf8_lossy(name).into_owned();
        }
        passes(connection).await;
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, connection: &Connection, state: &State) {
    let (mut bytes, mut held) = ([0; 4096], state.held.subscribe());
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let subscribed = connection.subscribed.load(Ordering::SeqCst);
        if !subscribed && held.wait_for(|held| !held).await.is_err() {
            return;
        }
        let delay = *connection.delay.lock();
        tokio::time::sleep(delay).await;
        passes(connection).await;
        let swallowed = subscribed && state.deaf.load(Ordering::SeqCst);
        if !swallowed && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
