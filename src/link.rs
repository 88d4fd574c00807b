//! A link to Redis: one connection that is made anew whatever happens to it, for as long as the process lives.
//!
//! Nothing that Redis answers, or does not answer, is final. The states are those of [`machine`]: connecting, up, suspect.
//! What moves a link between them, in the order of how much it says:
//!
//! 1. **The connection broke**, or an answer says that this server serves nobody from here (`READONLY`, `LOADING`,
//!    `NOAUTH`, …: `trouble.rs`). The connection is given up and another one made, with the name resolved anew.
//! 2. **Silence**: something was asked and not a byte has come for two seconds (with TLS, whose stream is the library's own: no
//!    whole answer). Redis may be busy, or this connection may lead nowhere. Only a second connection can tell, so one is made beside the first. If
//!    it is answered, it takes the first one's place, which has some time left for what was asked on it; if it is as
//!    silent, the first one goes on.
//! 3. **A refusal that may be this server's alone** (`NOPERM`, `OOM`, …). As with silence, a second connection is made,
//!    and what is under way on the first one is answered there.
//!
//! So that trouble is noticed where no work is done, an idle link asks `HELLO` every second. Any user may ask it, and it
//! tells the server's role and mode: a primary that was demoted, and a node of a cluster, are noticed by every link.
//!
//! The first attempt at a new connection is immediate; the next ones wait, twice as long each time, up to two seconds. With
//! `redis.connect_timeout` for an attempt that hangs, a link is up within five seconds of the moment when a fresh
//! connection would work.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Client, Cmd, Pipeline, RedisError, RedisFuture, RedisResult, Value};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

mod dial;
mod flight;
mod keeper;
pub mod machine;
pub mod remedy;
mod stream;
mod trouble;

use dial::{Driver, Greeting};
pub use dial::{named, unanswered};
pub use keeper::Keeper;
use keeper::Reports;
use trouble::Verdict;

/// What a link needs to know.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// What it is for: `commands`, `lease`, … Redis 7.2 and newer show it in `CLIENT LIST` as `lib-name=hallway-<name>`.
    pub name: &'static str,
    /// For making a connection, its first answer included: `redis.connect_timeout`.
    pub connect_timeout: Duration,
    /// For an answer: `redis.response_timeout`, and as long as a command of this link may block.
    pub response_timeout: Duration,
    /// How long commands of this link may block in Redis, so that this is not taken for silence.
    pub block: Duration,
}

/// Redis, or whatever else is in its place, is out of reach.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the broker is out of reach: {0}")]
pub struct Unavailable(pub String);

/// What is said before the first attempt has ended.
pub const UNANSWERED: &str = "Redis has not answered yet; see whether Redis runs, and redis.url";

/// See the module. Clones share the connection.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

struct Shared {
    settings: LinkSettings,
    state: watch::Sender<State>,
    reports: Reports,
    /// What carries the bytes of each connection. It outlives the keeper: what is said when a node stops must get out.
    drivers: TaskTracker,
}

/// Whether commands can be sent.
#[derive(Clone)]
enum State {
    /// There is no connection, and the first attempt at one is under way: it is a matter of a moment.
    Connecting(Arc<str>),
    /// The last attempt failed, or the server that was reached serves nobody.
    Down(Arc<str>),
    /// There is one.
    Up(Line),
}

/// A connection that is in use.
#[derive(Clone)]
struct Line {
    connection: MultiplexedConnection,
    /// Counts the connections of this link.
    generation: u64,
    /// What its server said of itself.
    greeting: Greeting,
    /// See [`Link::breaks`].
    breaks: u64,
    /// What was asked on it and not answered.
    flight: Arc<flight::Flight>,
    /// Ends what carries its bytes, with the last who holds it.
    #[expect(dead_code, reason = "it is held")]
    driver: Arc<DropGuard>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({}, {:?})", self.0.settings.name, self.problem())
    }
}

impl Link {
    /// A link by this client, and the task that keeps it, which its owner has to run.
    ///
    /// # Errors
    /// When the client's address is none.
    pub fn new(client: &Client, settings: LinkSettings) -> RedisResult<(Self, Keeper)> {
        let client = named(client, settings.name)?;
        let (reports, inbox) = Reports::new();
        let state = watch::Sender::new(State::Connecting(UNANSWERED.into()));
        let shared = Shared { settings, state, reports, drivers: TaskTracker::new() };
        let link = Self(Arc::new(shared));
        let keeper = Keeper::new(link.clone(), client, inbox);
        Ok((link, keeper))
    }

    /// What is wrong with it; none while commands can be sent.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match &*self.0.state.borrow() {
            State::Up(_) => None,
            State::Connecting(problem) | State::Down(problem) => Some(problem.to_string()),
        }
    }

    /// Whether it leads to a node of a Redis Cluster, which refuses most rooms of a client that does not know its slots.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(&*self.0.state.borrow(), State::Up(line) if line.greeting.cluster)
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
            State::Up(line) => line.breaks,
            State::Connecting(_) | State::Down(_) => 0,
        }
    }

    /// Waits until the connection with this number is no longer in use.
    pub async fn replaced(&self, generation: u64) {
        let mut state = self.0.state.subscribe();
        state.wait_for(|state| state.generation().unwrap_or_default() != generation).await.ok();
    }

    /// Waits until it has a connection, and says which: another number means that there was a break.
    pub async fn connected(&self) -> u64 {
        self.connected_after(0).await
    }

    /// Waits for a connection later than the one with this number.
    pub async fn connected_after(&self, known: u64) -> u64 {
        let mut state = self.0.state.subscribe();
        let found = state.wait_for(|state| matches!(state, State::Up(line) if line.generation > known)).await;
        // The sender lives as long as this link.
        found.ok().and_then(|state| state.generation()).unwrap_or(known)
    }

    /// Has the connection looked at soon, because another link has just lost its own.
    pub fn check(&self) {
        self.0.reports.check();
    }

    /// The connection. While there is none, only the first attempt is waited for.
    async fn line(&self, until: Instant) -> RedisResult<Line> {
        let mut state = self.0.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting(_)));
        let Ok(Ok(settled)) = timeout_at(until, settled).await else { return Err(unreached("no connection")) };
        match &*settled {
            State::Up(line) => Ok(line.clone()),
            State::Connecting(problem) | State::Down(problem) => Err(unreached(problem)),
        }
    }

    /// Has the bytes of a connection carried for as long as it is held by anything.
    fn carry(&self, driver: Option<Driver>) -> DropGuard {
        let end = CancellationToken::new();
        if let Some(driver) = driver {
            self.0.drivers.spawn(end.clone().run_until_cancelled_owned(driver));
        }
        end.drop_guard()
    }

    /// Sends something and waits for its answer, for as long as its connection stands and brings something.
    async fn ask<T>(&self, send: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>) -> RedisResult<T>
    where
        T: trouble::Answer,
    {
        let patience = self.0.settings.response_timeout;
        let due = Instant::now() + patience;
        let line = self.line(due).await?;
        let asked = line.flight.ask();
        let answer = tokio::select! {
            answer = send(line.connection.clone()) => answer,
            () = line.flight.overdue(due, patience) => {
                self.0.reports.late(line.generation);
                return Err(unreached("Redis did not answer in redis.response_timeout"));
            }
            () = line.flight.given_up() => return Err(unreached("the connection was given up")),
        };
        asked.answered();
        let verdict = trouble::judge(&answer);
        if verdict != Verdict::Fine {
            self.0.reports.tell(line.generation, verdict);
        }
        answer
    }
}

fn unreached(why: &str) -> RedisError {
    RedisError::from((redis::ErrorKind::Io, "the link to Redis is down", why.to_owned()))
}

impl State {
    fn generation(&self) -> Option<u64> {
        match self {
            Self::Up(line) => Some(line.generation),
            Self::Connecting(_) | Self::Down(_) => None,
        }
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.ask(async move |mut connection| connection.send_packed_command(cmd).await))
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
        Box::pin(self.ask(send))
    }

    fn get_db(&self) -> i64 {
        match &*self.0.state.borrow() {
            State::Up(line) => line.connection.get_db(),
            State::Connecting(_) | State::Down(_) => 0,
        }
    }
}
