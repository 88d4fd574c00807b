//! The connection loop of a link: it connects when the machine says so, probes an idle connection, and receives the
//! reports of the link's users.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::{counter, gauge};
use redis::{Client, RedisResult};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::dial::{self, DialedConnection, ServerHello, say_hello};
use super::failure::{LinkVerdict, judge_answer};
use super::flight::InFlight;
use super::machine::{LinkMachine, LinkPhase};
use super::{ActiveConnection, Link, LinkState, remedy};
use crate::logs;
use crate::metrics::{LINK_CONNECTS, LINK_UP};

/// Interval of the checks of the connection.
const LOOK: Duration = Duration::from_millis(250);
/// A connection that brought nothing for this long is probed.
const IDLE: Duration = Duration::from_secs(1);
/// A connection that leaves every command open for this long is suspect.
const SILENCE: Duration = Duration::from_secs(2);
/// A replaced connection that leaves every command open for this long is given up. Longer than `redis.answer_wait`,
/// so that no reply that a command waits for is lost.
const GIVEN_UP: Duration = Duration::from_millis(3200);
/// Time between two log lines about the same suspicion.
const TELL_AGAIN: Duration = Duration::from_mins(1);
/// Bound of the queued reports. The first one is enough, so reports that do not fit are dropped.
const REPORTS: usize = 16;

/// The reports of a link's users to its connection loop.
pub(super) struct LinkReports(mpsc::Sender<LinkReport>);

pub(super) enum LinkReport {
    /// A reply's verdict on the connection of this generation.
    Met(u64, LinkVerdict),
    /// A reply did not come in time.
    Late(u64),
    /// There is a reason to check.
    Check,
}

impl LinkReports {
    pub(super) fn new() -> (Self, mpsc::Receiver<LinkReport>) {
        let (to, from) = mpsc::channel(REPORTS);
        (Self(to), from)
    }

    pub(super) fn report_verdict(&self, generation: u64, verdict: LinkVerdict) {
        self.0.try_send(LinkReport::Met(generation, verdict)).ok();
    }

    pub(super) fn report_late(&self, generation: u64) {
        self.0.try_send(LinkReport::Late(generation)).ok();
    }

    pub(super) fn request_check(&self) {
        self.0.try_send(LinkReport::Check).ok();
    }
}

type ServeResult = Result<DialedConnection, String>;

/// The connection loop of a link.
pub struct ConnectionLoop {
    link: Link,
    client: Client,
    inbox: mpsc::Receiver<LinkReport>,
    machine: LinkMachine,
    /// The connection in use, which stays in use while it is only suspect.
    line: Option<ActiveConnection>,
    generation: u64,
    breaks: u64,
    /// Whether the connection was silent at the last check.
    silent: bool,
    /// Replaced connections that may have open commands. Few: each is gone within seconds.
    retired: Vec<Arc<InFlight>>,
    /// The suspicion that was logged last, and when: a missing right raises the same one every two seconds.
    told: Option<(String, Instant)>,
    /// Whether the next connection is logged.
    news: bool,
    /// The attempt under way.
    attempt: Option<BoxFuture<'static, ServeResult>>,
    /// The probe under way.
    sign: Option<BoxFuture<'static, RedisResult<ServerHello>>>,
}

impl std::fmt::Debug for ConnectionLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keeper({:?}, {:?})", self.link, self.machine)
    }
}

/// Waits for a future and clears its slot. An empty slot waits for ever.
async fn wait_for_optional<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(future) = slot else { return std::future::pending().await };
    let outcome = future.await;
    *slot = None;
    outcome
}

async fn sleep_until_optional(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl ConnectionLoop {
    pub(super) fn new(link: Link, client: Client, inbox: mpsc::Receiver<LinkReport>) -> Self {
        let machine = LinkMachine::new(Instant::now());
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
            told: None,
            news: true,
            attempt: None,
            sign: None,
        }
    }

    /// Runs the loop, for ever.
    pub async fn run_loop(mut self) {
        self.show_up(false);
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // One attempt at a time: its own timeout bounds it.
            let due = self.machine.attempt_due().filter(|_| self.attempt.is_none());
            tokio::select! {
                dialled = wait_for_optional(&mut self.attempt) => self.finish_attempt(dialled),
                () = sleep_until_optional(due) => self.attempt = Some(self.start_attempt()),
                Some(report) = self.inbox.recv() => self.handle_report(report),
                greeted = wait_for_optional(&mut self.sign) => self.handle_hello(greeted),
                _ = looks.tick() => self.check_silence(),
            }
        }
    }

    fn name(&self) -> &'static str {
        self.link.0.settings.name
    }

    fn start_attempt(&self) -> BoxFuture<'static, ServeResult> {
        let (client, settings) = (self.client.clone(), self.link.0.settings.clone());
        Box::pin(async move { dial::dial(&client, &settings).await })
    }

    fn finish_attempt(&mut self, outcome: ServeResult) {
        let now = Instant::now();
        match outcome {
            Ok(dialled) => {
                self.machine.note_connected(now);
                self.take_over(dialled);
            }
            Err(problem) => {
                self.machine.note_refused(now, rand::random());
                // A suspect connection serves until there is a better one.
                if self.machine.phase() == LinkPhase::Connecting {
                    self.link.0.state.send_replace(LinkState::Down(problem.into()));
                }
            }
        }
    }

    /// Replaces the connection. Open commands may still be answered on the old one, which may be carrying a large
    /// reply over a slow network.
    fn take_over(&mut self, dialled: DialedConnection) {
        let DialedConnection { connection, greeting, flight, driver } = dialled;
        self.generation += 1;
        let old = self.line.take();
        // A server without a known id may be another one.
        let same = old.as_ref().is_some_and(|old| greeting.run_id.is_some() && old.greeting.run_id == greeting.run_id);
        self.breaks += u64::from(!same);
        match old.map(|old| old.flight) {
            // The reply of a blocking command is not worth a wait.
            Some(flight) if !self.link.0.settings.block.is_zero() => flight.give_up(),
            flight => self.retired.extend(flight),
        }
        let (generation, breaks) = (self.generation, self.breaks);
        let line = ActiveConnection {
            connection,
            generation,
            greeting,
            breaks,
            flight,
            driver: Arc::new(self.link.drive_connection(driver)),
        };
        self.line = Some(line.clone());
        (self.sign, self.silent) = (None, false);
        self.link.0.state.send_replace(LinkState::Up(line));
        counter!(LINK_CONNECTS, "link" => self.name()).increment(1);
        self.show_up(true);
        if std::mem::take(&mut self.news) {
            tracing::info!(event = logs::LINK_UP, link = self.name(), "connected to Redis");
        }
    }

    fn handle_report(&mut self, report: LinkReport) {
        match report {
            LinkReport::Met(generation, verdict) if generation == self.generation => self.apply_verdict(verdict),
            // Others were answered meanwhile: Redis is slow, or this link carries much.
            LinkReport::Late(generation) if generation == self.generation && !self.has_timed_out() => {}
            LinkReport::Late(generation) if generation == self.generation => {
                self.drop_connection(
                    "Redis did not answer in redis.response_timeout; see whether it is overloaded".to_owned(),
                );
            }
            LinkReport::Check => {
                // Another link's loss may have the same cause, so an attempt that waits is made at once.
                self.machine.attempt_now(Instant::now());
                self.ask_for_a_sign();
            }
            // About a connection that was replaced.
            LinkReport::Met(..) | LinkReport::Late(_) => {}
        }
    }

    fn has_timed_out(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.flight.idle_for() >= self.link.0.settings.response_timeout)
    }

    fn apply_verdict(&mut self, verdict: LinkVerdict) {
        match verdict {
            LinkVerdict::Fine => {}
            LinkVerdict::Doubt(problem) => self.doubt_connection(&problem),
            LinkVerdict::End(problem) => self.drop_connection(problem),
        }
    }

    fn handle_hello(&mut self, greeted: RedisResult<ServerHello>) {
        match greeted {
            // The rest of a server's statement does not change during a connection.
            Ok(_) => {}
            Err(error) => self.apply_verdict(judge_answer::<redis::Value>(&Err(error))),
        }
    }

    /// Suspects a silent connection, clears it when it is not silent any more, and probes an idle one.
    fn check_silence(&mut self) {
        self.retired.retain(|flight| {
            let silent = flight.silent_for() >= GIVEN_UP;
            if silent {
                flight.give_up();
            }
            flight.is_open() && !silent
        });
        let Some(line) = &self.line else { return };
        let flight = line.flight.clone();
        match (self.is_silent(&flight), self.silent) {
            (true, false) => self.doubt_connection("it does not answer"),
            // It was only slow.
            (false, true) => self.machine.clear_doubt(),
            (true, true) | (false, false) => {}
        }
        self.silent = self.is_silent(&flight);
        // An idle link would otherwise notice a lost server only at its next command.
        if flight.idle_for() >= IDLE {
            self.ask_for_a_sign();
        }
    }

    fn is_silent(&self, flight: &InFlight) -> bool {
        flight.silent_for() >= SILENCE + self.link.0.settings.block
    }

    fn ask_for_a_sign(&mut self) {
        // One probe at a time: a second one says nothing more.
        let (Some(line), None) = (&self.line, &self.sign) else { return };
        let (mut line, asked) = (line.clone(), line.flight.begin_command());
        self.sign = Some(Box::pin(async move {
            let greeted = say_hello(&mut line.connection).await;
            asked.note_answer();
            greeted
        }));
    }

    fn doubt_connection(&mut self, problem: &str) {
        let known = self.told.as_ref().is_some_and(|(told, at)| told == problem && at.elapsed() < TELL_AGAIN);
        // A suspicion that repeats every two seconds would fill the log.
        if self.machine.phase() == LinkPhase::Up && !known {
            self.told = Some((problem.to_owned(), Instant::now()));
            self.news = true;
            tracing::warn!(
                event = logs::LINK_SUSPECT,
                link = self.name(),
                problem,
                "a connection to Redis is in doubt; making another one beside it"
            );
        }
        self.machine.note_doubt(Instant::now(), rand::random());
    }

    fn drop_connection(&mut self, problem: String) {
        let Some(line) = self.line.take() else { return };
        line.flight.give_up();
        (self.sign, self.silent, self.news) = (None, false, true);
        let now = Instant::now();
        self.machine.note_lost(now, rand::random());
        tracing::warn!(
            event = logs::LINK_LOST,
            link = self.name(),
            problem,
            "a connection to Redis is lost; making another one"
        );
        // Commands wait for an attempt that is made at once, and fail at once otherwise.
        let at_once = self.machine.attempt_due().is_none_or(|due| due <= now);
        let problem = Arc::from(remedy::describe_error_text(self.name(), &problem));
        self.link.0.state.send_replace(if at_once { LinkState::Connecting(problem) } else { LinkState::Down(problem) });
        self.show_up(false);
    }

    fn show_up(&self, up: bool) {
        gauge!(LINK_UP, "link" => self.name()).set(if up { 1.0 } else { 0.0 });
    }
}
