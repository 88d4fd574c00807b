//! A way to a Redis on which links fail as they do in the field: it can be deaf, slow, silent, refuse, hang, or lead
//! elsewhere, for one link of a node or for all. Which link a connection is of is read from the name it gives itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// What a gateway's connections call themselves: `hallway-<link>`.
const NAME: &[u8] = b"hallway-";
/// Pieces that may be on their way in one direction.
const UNDER_WAY: usize = 1024;

/// Bytes on their way, and when they arrive.
type Piece = (Instant, Vec<u8>);

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
    /// The link whose answers do not pass, by whatever connection.
    stalled: watch::Sender<String>,
    /// New connections are accepted, and nothing passes through them, ever.
    hanging: AtomicBool,
    /// New connections are closed at once.
    refusing: AtomicBool,
    /// The round trip that every connection takes, milliseconds.
    round_trip: AtomicU64,
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
    /// Bytes of answers per second; 0 for as fast as they come.
    rate: AtomicU64,
    /// How often its client asked something behind an answer: the round trips that it waited for.
    turns: AtomicUsize,
    answered: AtomicBool,
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
            stalled: watch::Sender::new(String::new()),
            hanging: AtomicBool::default(),
            refusing: AtomicBool::default(),
            round_trip: AtomicU64::default(),
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

    /// From now on no answer passes through connections of this link, new ones included; of none, where the name is empty.
    pub fn stall(&self, link: &str) {
        self.state.stalled.send_replace(link.to_owned());
    }

    /// From now on every connection takes so long for a round trip, of which it may have many under way.
    pub fn take(&self, round_trip: Duration) {
        let ms = u64::try_from(round_trip.as_millis()).expect("a short time");
        self.state.round_trip.store(ms, Ordering::SeqCst);
    }

    /// Answers pass at so many bytes per second through the connections that this link has; through new ones as they come.
    pub fn throttle(&self, link: &str, rate: u64) {
        let connections = self.state.connections.lock();
        connections
            .iter()
            .filter(|one| *one.link.lock() == link)
            .for_each(|one| one.rate.store(rate, Ordering::SeqCst));
    }

    /// How often this link asked something behind an answer, on the connections that it has.
    pub fn turns(&self, link: &str) -> usize {
        let connections = self.state.connections.lock();
        connections.iter().filter(|one| *one.link.lock() == link).map(|one| one.turns.load(Ordering::SeqCst)).sum()
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
    sleep(state.round_trip()).await;
    // A target that does not listen refuses by hanging up.
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (asked, asking) = mpsc::channel(UNDER_WAY);
    let (told, telling) = mpsc::channel(UNDER_WAY);
    let asks = async { tokio::join!(ask(from_client, asked, &connection, &state), deliver(asking, to_server)) };
    let answers = async {
        tokio::join!(answer(from_server, told, &connection, &state), hand_over(telling, to_client, &connection))
    };
    let mut cut = connection.fate.subscribe();
    tokio::select! {
        _ = asks => {}
        _ = answers => {}
        _ = cut.wait_for(|fate| *fate == Fate::Cut) => {}
    }
    state.connections.lock().retain(|other| !Arc::ptr_eq(other, &connection));
}

impl State {
    fn round_trip(&self) -> Duration {
        Duration::from_millis(self.round_trip.load(Ordering::SeqCst))
    }

    /// When what leaves now arrives.
    fn arrival(&self) -> Instant {
        Instant::now() + self.round_trip() / 2
    }
}

/// Writes what was asked when it is due.
async fn deliver(mut pieces: mpsc::Receiver<Piece>, mut to: OwnedWriteHalf) {
    while let Some((due, bytes)) = pieces.recv().await {
        sleep_until(due).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Writes what was answered when it is due, at the rate that this connection has.
async fn hand_over(mut pieces: mpsc::Receiver<Piece>, mut to: OwnedWriteHalf, connection: &Connection) {
    while let Some((due, bytes)) = pieces.recv().await {
        sleep_until(due).await;
        if let Some(micros) = (bytes.len() as u64 * 1_000_000).checked_div(connection.rate.load(Ordering::SeqCst)) {
            sleep(Duration::from_micros(micros)).await;
        }
        connection.answered.store(true, Ordering::SeqCst);
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Waits while nothing passes.
async fn passes(connection: &Connection) {
    connection.fate.subscribe().wait_for(|fate| *fate != Fate::Silent).await.ok();
}

async fn ask(mut from: OwnedReadHalf, to: mpsc::Sender<Piece>, connection: &Connection, state: &State) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let bytes = &bytes[..count];
        if connection.answered.swap(false, Ordering::SeqCst) {
            connection.turns.fetch_add(1, Ordering::SeqCst);
        }
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
        if to.send((state.arrival(), bytes.to_vec())).await.is_err() {
            return;
        }
    }
}

async fn answer(mut from: OwnedReadHalf, to: mpsc::Sender<Piece>, connection: &Connection, state: &State) {
    let (mut bytes, mut held) = ([0; 4096], state.held.subscribe());
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let subscribed = connection.subscribed.load(Ordering::SeqCst);
        if !subscribed && held.wait_for(|held| !held).await.is_err() {
            return;
        }
        let delay = *connection.delay.lock();
        sleep(delay).await;
        passes(connection).await;
        let is_free = |stalled: &String| stalled.is_empty() || *stalled != *connection.link.lock();
        if state.stalled.subscribe().wait_for(is_free).await.is_err() {
            return;
        }
        let swallowed = subscribed && state.deaf.load(Ordering::SeqCst);
        if !swallowed && to.send((state.arrival(), bytes[..count].to_vec())).await.is_err() {
            return;
        }
    }
}
