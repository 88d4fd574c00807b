//! The task behind a link: makes connections when the machine says so, asks an idle one for a sign of life, and hears what
//! its users met with.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::{counter, gauge};
use redis::{Client, RedisResult};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::dial::{self, Dialled, Driver, Greeting, greet};
use super::flight::Flight;
use super::machine::{Machine, Phase};
use super::trouble::{Verdict, judge};
use super::{Line, Link, State, remedy};
use crate::logs;
use crate::metrics::{LINK_CONNECTS, LINK_UP};

/// Between two looks at the connection.
const LOOK: Duration = Duration::from_millis(250);
/// A connection that brought nothing for so long is asked for a sign of life.
const IDLE: Duration = Duration::from_secs(1);
/// A connection that leaves every question open for so long is in doubt.
const SILENCE: Duration = Duration::from_secs(2);
/// A connection that was replaced and leaves every question open for so long answers none of them. Longer than
/// `redis.answer_wait`, so that no answer that is waited for is lost.
const GIVEN_UP: Duration = Duration::from_millis(3200);
/// The same doubt is told again after so long.
const TELL_AGAIN: Duration = Duration::from_mins(1);
/// Reports that may wait: the first of them is enough, so what does not fit is dropped.
const REPORTS: usize = 16;

/// What users of a link tell its keeper.
pub(super) struct Reports(mpsc::Sender<Report>);

pub(super) enum Report {
    /// What an answer said of the connection of this generation.
    Met(u64, Verdict),
    /// An answer did not come in time.
    Late(u64),
    /// There is reason to look.
    Check,
}

impl Reports {
    pub(super) fn new() -> (Self, mpsc::Receiver<Report>) {
        let (to, from) = mpsc::channel(REPORTS);
        (Self(to), from)
    }

    pub(super) fn tell(&self, generation: u64, verdict: Verdict) {
        self.0.try_send(Report::Met(generation, verdict)).ok();
    }

    pub(super) fn late(&self, generation: u64) {
        self.0.try_send(Report::Late(generation)).ok();
    }

    pub(super) fn check(&self) {
        self.0.try_send(Report::Check).ok();
    }
}

type Outcome = Result<Dialled, String>;

/// See the module.
pub struct Keeper {
    link: Link,
    client: Client,
    inbox: mpsc::Receiver<Report>,
    machine: Machine,
    line: Option<Line>,
    generation: u64,
    breaks: u64,
    /// Whether the connection was silent at the last look.
    silent: bool,
    /// Connections that were replaced, with questions that may be open. Few: each is gone within some seconds.
    retired: Vec<Arc<Flight>>,
    /// What carries the bytes of the connection, and of those that were replaced.
    drivers: JoinSet<Option<Infallible>>,
    /// The doubt that was told last, and when: a right that is missing raises the same one every two seconds.
    told: Option<(String, Instant)>,
    /// Whether the next connection is news.
    news: bool,
    /// The attempt under way.
    attempt: Option<BoxFuture<'static, Outcome>>,
    /// The sign of life under way.
    sign: Option<BoxFuture<'static, RedisResult<Greeting>>>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keeper({:?}, {:?})", self.link, self.machine)
    }
}

/// Waits for a future that may not be there, in which case it waits for ever; it is gone once it is done.
async fn done<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(future) = slot else { return std::future::pending().await };
    let outcome = future.await;
    *slot = None;
    outcome
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Keeper {
    pub(super) fn new(link: Link, client: Client, inbox: mpsc::Receiver<Report>) -> Self {
        let machine = Machine::new(Instant::now());
        Self {
            link,
            client,
            inbox,
            machine,
            line: None,
            generation: 0,
            breaks: 0,
            silent: false,
            retired: Vec::new(),
            drivers: JoinSet::new(),
            told: None,
            news: true,
            attempt: None,
            sign: None,
        }
    }

    /// Keeps the link, for ever.
    pub async fn run(mut self) {
        self.show_up(false);
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.machine.due().filter(|_| self.attempt.is_none());
            tokio::select! {
                dialled = done(&mut self.attempt) => self.dialled(dialled),
                () = at(due) => self.attempt = Some(self.dial()),
                Some(report) = self.inbox.recv() => self.hear(report),
                greeted = done(&mut self.sign) => self.greeted(greeted),
                _ = looks.tick() => self.look(),
            }
        }
    }

    fn name(&self) -> &'static str {
        self.link.0.settings.name
    }

    fn dial(&self) -> BoxFuture<'static, Outcome> {
        let (client, settings) = (self.client.clone(), self.link.0.settings.clone());
        Box::pin(async move { dial::dial(&client, &settings).await })
    }

    fn dialled(&mut self, outcome: Outcome) {
        let now = Instant::now();
        match outcome {
            Ok(dialled) => {
                self.machine.connected(now);
                self.take_over(dialled);
            }
            Err(problem) => {
                self.machine.refused(now, rand::random());
                // A connection in doubt serves until there is a better one.
                if self.machine.phase() == Phase::Connecting {
                    self.link.0.state.send_replace(State::Down(problem.into()));
                }
            }
        }
    }

    /// Puts a new connection in the place of the old one. What is under way on the old one may still be answered there: it
    /// may carry a large answer over a slow network.
    fn take_over(&mut self, dialled: Dialled) {
        let Dialled { connection, greeting, flight, driver } = dialled;
        self.generation += 1;
        let old = self.line.take();
        // Of a server that does not say which it is, it is not known that it is the same.
        let same = old.as_ref().is_some_and(|old| greeting.run_id.is_some() && old.greeting.run_id == greeting.run_id);
        self.breaks += u64::from(!same);
        match old.map(|old| old.flight) {
            // A link that waits in Redis carries no answer that is worth a wait.
            Some(flight) if !self.link.0.settings.block.is_zero() => flight.give_up(),
            flight => self.retired.extend(flight),
        }
        let (generation, breaks) = (self.generation, self.breaks);
        let line = Line { connection, generation, greeting, breaks, flight, driver: Arc::new(self.carry(driver)) };
        self.line = Some(line.clone());
        (self.sign, self.silent) = (None, false);
        self.link.0.state.send_replace(State::Up(line));
        counter!(LINK_CONNECTS, "link" => self.name()).increment(1);
        self.show_up(true);
        if std::mem::take(&mut self.news) {
            tracing::info!(event = logs::LINK_UP, link = self.name(), "connected to Redis");
        }
    }

    /// Has the bytes of a connection carried for as long as it is held by anything.
    fn carry(&mut self, driver: Option<Driver>) -> DropGuard {
        let end = CancellationToken::new();
        if let Some(driver) = driver {
            self.drivers.spawn(end.clone().run_until_cancelled_owned(driver));
        }
        end.drop_guard()
    }

    fn hear(&mut self, report: Report) {
        match report {
            Report::Met(generation, verdict) if generation == self.generation => self.judge(verdict),
            // Others were answered meanwhile: Redis is slow, or this link has much to carry.
            Report::Late(generation) if generation == self.generation && !self.has_timed_out() => {}
            Report::Late(generation) if generation == self.generation => {
                self.lose("Redis did not answer in redis.response_timeout; see whether it is overloaded".to_owned());
            }
            Report::Check => {
                self.machine.hurry(Instant::now());
                self.ask_for_a_sign();
            }
            // It is about a connection that was replaced.
            Report::Met(..) | Report::Late(_) => {}
        }
    }

    fn has_timed_out(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.flight.idle() >= self.link.0.settings.response_timeout)
    }

    fn judge(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Fine => {}
            Verdict::Doubt(problem) => self.doubt(&problem),
            Verdict::End(problem) => self.lose(problem),
        }
    }

    fn greeted(&mut self, greeted: RedisResult<Greeting>) {
        match greeted {
            // What else a server says of itself does not change while a connection stands.
            Ok(_) => {}
            Err(error) => self.judge(judge::<redis::Value>(&Err(error))),
        }
    }

    /// Doubts a connection that is silent, trusts it again when it is not, and asks an idle one for a sign of life.
    fn look(&mut self) {
        while self.drivers.try_join_next().is_some() {}
        self.retired.retain(|flight| {
            let silent = flight.silence() >= GIVEN_UP;
            if silent {
                flight.give_up();
            }
            flight.is_open() && !silent
        });
        let Some(line) = &self.line else { return };
        let flight = line.flight.clone();
        match (self.is_silent(&flight), self.silent) {
            (true, false) => self.doubt("it does not answer"),
            // It was only slow.
            (false, true) => self.machine.cleared(),
            (true, true) | (false, false) => {}
        }
        self.silent = self.is_silent(&flight);
        if flight.idle() >= IDLE {
            self.ask_for_a_sign();
        }
    }

    fn is_silent(&self, flight: &Flight) -> bool {
        flight.silence() >= SILENCE + self.link.0.settings.block
    }

    fn ask_for_a_sign(&mut self) {
        let (Some(line), None) = (&self.line, &self.sign) else { return };
        let (mut line, asked) = (line.clone(), line.flight.ask());
        self.sign = Some(Box::pin(async move {
            let greeted = greet(&mut line.connection).await;
            asked.answered();
            greeted
        }));
    }

    fn doubt(&mut self, problem: &str) {
        let known = self.told.as_ref().is_some_and(|(told, at)| told == problem && at.elapsed() < TELL_AGAIN);
        if self.machine.phase() == Phase::Up && !known {
            self.told = Some((problem.to_owned(), Instant::now()));
            self.news = true;
            tracing::warn!(
                event = logs::LINK_SUSPECT,
                link = self.name(),
                problem,
                "a connection to Redis is in doubt; making another one beside it"
            );
        }
        self.machine.doubted(Instant::now(), rand::random());
    }

    fn lose(&mut self, problem: String) {
        let Some(line) = self.line.take() else { return };
        line.flight.give_up();
        (self.sign, self.silent, self.news) = (None, false, true);
        let now = Instant::now();
        self.machine.lost(now, rand::random());
        tracing::warn!(
            event = logs::LINK_LOST,
            link = self.name(),
            problem,
            "a connection to Redis is lost; making another one"
        );
        // Users wait for an attempt that is made at once, and are told at once of one that is not.
        let at_once = self.machine.due().is_none_or(|due| due <= now);
        let problem = Arc::from(remedy::said(self.name(), &problem));
        self.link.0.state.send_replace(if at_once { State::Connecting(problem) } else { State::Down(problem) });
        self.show_up(false);
    }

    fn show_up(&self, up: bool) {
        gauge!(LINK_UP, "link" => self.name()).set(if up { 1.0 } else { 0.0 });
    }
}
