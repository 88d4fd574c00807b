//! A link to Redis: a connection that is remade whatever happens to it, for as long as the process lives.
//!
//! No reply and no missing reply is final. The states are those of [`machine`]: connecting, up, suspect. The causes
//! of a transition, the most telling first:
//!
//! 1. **The connection broke**, or a reply shows that this server serves no client (`READONLY`, `LOADING`,
//!    `NOAUTH`, …: `trouble.rs`). The connection is closed and another one made, with the name resolved again.
//! 2. **Silence**: a command is open and not a byte has come for two seconds (with TLS, whose stream is the
//!    library's own: no whole reply). Redis may be busy, or this connection may lead nowhere. Only a second
//!    connection can tell, so one is made beside the first. If it is answered, it replaces the first one, which has
//!    some time left for its open commands. If it is as silent, the first one goes on.
//! 3. **A refusal that may be this server's alone** (`NOPERM`, `OOM`, …). As with silence, a second connection is
//!    made, and the first one's open commands are answered there.
//!
//! An idle link sends `HELLO` every second, so that failures are noticed where no work is done. Any user may send it,
//! and its reply has the server's role and mode: every link notices a demoted primary and a cluster node.
//!
//! The first attempt at another connection is immediate. The next ones wait, twice as long each time, up to two
//! seconds. With `redis.connect_timeout` for an attempt that hangs, a link is up within five seconds of the moment
//! when a fresh connection would work.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Client, Cmd, Pipeline, RedisError, RedisFuture, RedisResult, Value};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

mod connection_loop;
mod dial;
mod failure;
mod flight;
pub mod machine;
pub mod remedy;
mod stream;

pub use connection_loop::ConnectionLoop;
use connection_loop::LinkReports;
use dial::{ConnectionDriver, ServerHello};
pub use dial::{named_client, timeout_message};
use failure::LinkVerdict;

/// The settings of a link.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Its purpose: `commands`, `lease`, … Redis 7.2 and later display it in `CLIENT LIST` as
    /// `lib-name=hallway-<name>`.
    pub name: &'static str,
    /// Timeout of a connection attempt, its first reply included: `redis.connect_timeout`.
    pub connect_timeout: Duration,
    /// Timeout of a reply: `redis.response_timeout`, plus the time that a command of this link may block.
    pub response_timeout: Duration,
    /// How long commands of this link may block in Redis, so that blocking does not count as silence.
    pub block: Duration,
}

/// Redis, or whatever else is in its place, is out of reach.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the broker is out of reach: {0}")]
pub struct Unavailable(pub String);

/// The failure before the first attempt has ended.
pub const UNANSWERED: &str = "Redis has not answered yet; see whether Redis runs, and redis.url";

/// A link. Clones share the connection.
#[derive(Clone)]
pub struct Link(Arc<LinkShared>);

struct LinkShared {
    settings: LinkSettings,
    state: watch::Sender<LinkState>,
    reports: LinkReports,
    /// Runs the bytes of each connection. It outlives the connection loop, since a stopping node's last commands must
    /// get out.
    drivers: TaskTracker,
}

/// Whether commands can be sent.
#[derive(Clone)]
enum LinkState {
    /// No connection, and the first attempt is under way: commands wait for it.
    Connecting(Arc<str>),
    /// The last attempt failed, or the server serves no client: commands fail at once.
    Down(Arc<str>),
    /// Connected.
    Up(ActiveConnection),
}

/// A connection that is in use.
#[derive(Clone)]
struct ActiveConnection {
    connection: MultiplexedConnection,
    /// Numbers the connections of this link.
    generation: u64,
    /// The server's statement about itself.
    greeting: ServerHello,
    /// See [`Link::breaks`].
    breaks: u64,
    /// The commands without a reply.
    flight: Arc<flight::InFlight>,
    /// Ends the task that runs its bytes, when the last holder drops it.
    #[expect(dead_code, reason = "it is held")]
    driver: Arc<DropGuard>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({}, {:?})", self.0.settings.name, self.problem())
    }
}

impl Link {
    /// Makes a link for this client, and its connection loop, which the owner has to run.
    ///
    /// # Errors
    /// When the client's address is invalid.
    pub fn new(client: &Client, settings: LinkSettings) -> RedisResult<(Self, ConnectionLoop)> {
        let client = named_client(client, settings.name)?;
        let (reports, inbox) = LinkReports::new();
        let state = watch::Sender::new(LinkState::Connecting(UNANSWERED.into()));
        let shared = LinkShared { settings, state, reports, drivers: TaskTracker::new() };
        let link = Self(Arc::new(shared));
        let keeper = ConnectionLoop::new(link.clone(), client, inbox);
        Ok((link, keeper))
    }

    /// What is wrong with it; none while commands can be sent.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match &*self.0.state.borrow() {
            LinkState::Up(_) => None,
            LinkState::Connecting(problem) | LinkState::Down(problem) => Some(problem.to_string()),
        }
    }

    /// Whether it leads to a node of a Redis Cluster, which refuses most rooms of a client that does not know its slots.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(&*self.0.state.borrow(), LinkState::Up(line) if line.greeting.cluster)
    }

    /// The number of the connection in use, or 0: later ones have higher numbers.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.state.borrow().generation().unwrap_or_default()
    }

    /// How often answers may have come from another server, or have been lost, since the beginning.
    #[must_use]
    pub fn breaks(&self) -> u64 {
        match &*self.0.state.borrow() {
            LinkState::Up(line) => line.breaks,
            LinkState::Connecting(_) | LinkState::Down(_) => 0,
        }
    }

    /// Waits until the connection with this number is not in use any more.
    pub async fn wait_until_replaced(&self, generation: u64) {
        let mut state = self.0.state.subscribe();
        state.wait_for(|state| state.generation().unwrap_or_default() != generation).await.ok();
    }

    /// Waits for a connection and returns its number: a different one means that there was a break.
    pub async fn wait_until_connected(&self) -> u64 {
        self.connected_after(0).await
    }

    /// Waits for a connection later than this one.
    pub async fn connected_after(&self, known: u64) -> u64 {
        let mut state = self.0.state.subscribe();
        let found = state.wait_for(|state| matches!(state, LinkState::Up(line) if line.generation > known)).await;
        // The sender lives as long as this link.
        found.ok().and_then(|state| state.generation()).unwrap_or(known)
    }

    /// Requests a check of the connection soon, because another link has lost its own.
    pub fn request_check(&self) {
        self.0.reports.request_check();
    }

    /// The connection. Without one, only the first attempt is waited for: a longer outage must fail commands at once.
    async fn active_connection(&self, until: Instant) -> RedisResult<ActiveConnection> {
        let mut state = self.0.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, LinkState::Connecting(_)));
        let Ok(Ok(settled)) = timeout_at(until, settled).await else { return Err(unreached_error("no connection")) };
        match &*settled {
            LinkState::Up(line) => Ok(line.clone()),
            LinkState::Connecting(problem) | LinkState::Down(problem) => Err(unreached_error(problem)),
        }
    }

    /// Runs the bytes of a connection for as long as something holds it.
    fn drive_connection(&self, driver: Option<ConnectionDriver>) -> DropGuard {
        let end = CancellationToken::new();
        if let Some(driver) = driver {
            self.0.drivers.spawn(end.clone().run_until_cancelled_owned(driver));
        }
        end.drop_guard()
    }

    /// Sends a command and waits for its reply, for as long as its connection lasts and brings bytes.
    async fn send_and_wait<T>(&self, send: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>) -> RedisResult<T>
    where
        T: failure::RedisAnswer,
    {
        let wait_limit = self.0.settings.response_timeout;
        let due = Instant::now() + wait_limit;
        let line = self.active_connection(due).await?;
        let asked = line.flight.begin_command();
        let answer = tokio::select! {
            answer = send(line.connection.clone()) => answer,
            // Late only while nothing comes: a large reply over a slow network keeps its time.
            () = line.flight.wait_until_overdue(due, wait_limit) => {
                self.0.reports.report_late(line.generation);
                return Err(unreached_error("Redis did not answer in redis.response_timeout"));
            }
            // The connection loop has replaced the connection; a reply could only come from it.
            () = line.flight.given_up() => return Err(unreached_error("the connection was given up")),
        };
        // Counts any reply as a sign of life, an error included.
        asked.note_answer();
        let verdict = failure::judge_answer(&answer);
        if verdict != LinkVerdict::Fine {
            self.0.reports.report_verdict(line.generation, verdict);
        }
        answer
    }
}

fn unreached_error(why: &str) -> RedisError {
    RedisError::from((redis::ErrorKind::Io, "the link to Redis is down", why.to_owned()))
}

impl LinkState {
    fn generation(&self) -> Option<u64> {
        match self {
            Self::Up(line) => Some(line.generation),
            Self::Connecting(_) | Self::Down(_) => None,
        }
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.send_and_wait(async move |mut connection| connection.send_packed_command(cmd).await))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let send = async move |mut connection: MultiplexedConnection| {
            connection.send_packed_commands(pipeline, offset, count).await
        };
        Box::pin(self.send_and_wait(send))
    }

    fn get_db(&self) -> i64 {
        match &*self.0.state.borrow() {
            LinkState::Up(line) => line.connection.get_db(),
            LinkState::Connecting(_) | LinkState::Down(_) => 0,
        }
    }
}
