//! Sockets that ask for long histories again and again and never read: what the node keeps for them, whether it lives, and what
//! others notice.
//!
//! A node that comes over the memory it is given counts as dead, as it would be in a container of that size.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Args;
use redis::aio::MultiplexedConnection;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::bystanders::Bystanders;
use crate::client::Client;
use crate::crowd::Clock;
use crate::process::step_aside;
use crate::publish::call;
use crate::report::say;
use crate::server::{self, Redis, Server};
use crate::verdict::{Strictness, Verdict};
use crate::{Outcome, thread};

const QUIET: Duration = Duration::from_secs(5);
/// Between two questions of a socket: below the rate that closes it.
const PERIOD: Duration = Duration::from_millis(200);
/// Before a socket that was closed comes back.
const AGAIN: Duration = Duration::from_millis(500);
/// A command that the kernel does not take is not sent.
const SEND_WAIT: Duration = Duration::from_millis(100);
const RECEIVE_BUFFER: usize = 4096;
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Looks between two figures that are said.
const SAID_EVERY: usize = 50;
/// Of the latency of others: the contract's.
const LATER: f64 = 3.0;
/// Events in one pipeline while histories are made.
const PIPELINE: u32 = 50;
const BODY: usize = 60_000;

/// How many of them.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 300)]
    sockets: usize,
    /// Users that share the sockets, each with a history to ask for.
    #[arg(long, default_value_t = 3)]
    users: usize,
    /// They read, and ask again when they have their answer. Then the load is on the core of those who measure, and their
    /// latency tells little.
    #[arg(long)]
    reading: bool,
    /// Events of 60 KB in each of the histories.
    #[arg(long, default_value_t = 1000)]
    events: u32,
    /// MiB that the node has.
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    #[arg(long, default_value_t = 45)]
    seconds: u64,
    #[command(flatten)]
    strictness: Strictness,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    let redis = Redis::start().await?;
    let server = Server::hallway_with(&binary, &redis, &settings(&binary, &arguments)?).await?;
    fill(&mut redis.client().await?, &arguments).await?;
    let clock = Clock::start();
    let bystanders = Bystanders::gather(&redis, &server, clock)?;
    let quiet = bystanders.look(QUIET).await?;
    let (at_first, from) = (server.process.memory_mib()?, clock.now());
    let crowd = Crowd {
        address: server.clients,
        users: arguments.users,
        sockets: arguments.sockets,
        reading: arguments.reading,
    };
    let (over, is_over) = oneshot::channel();
    let asked = thread::run("askers", move || async move {
        thread::give_way()?;
        crowd.ask(is_over).await
    })?;
    let watched = watch(&server, &arguments).await;
    over.send(()).ok();
    let (asked, (alive, peak)) = (asked.await??, watched);
    let during = bystanders.between(from, clock.now()).await?;
    say(&format!(
        "{} sockets of {} users sent {} commands, got {} answers, {} of them refusals, and were closed {} times",
        arguments.sockets, arguments.users, asked.sent, asked.answered, asked.refused, asked.closed
    ));
    say(&format!("memory at first {at_first:.0} MiB, at the most {peak:.0} MiB"));
    quiet.show("quiet");
    during.show("beside");
    let mut verdict = Verdict::default();
    verdict.at_most("memory of the node, MiB", peak, f64::from(arguments.memory));
    verdict.at_most("nodes that died", f64::from(u32::from(!alive)), 0.0);
    if !arguments.reading {
        verdict.at_most("live p99 of others ÷ quiet", during.latency.p99_ms / quiet.latency.p99_ms, LATER);
    }
    let lost = during.missing + during.untrue;
    verdict.at_most("live events of others that never came, came twice or out of order", lost as f64, 0.0);
    verdict.at_most("publishes by HTTP refused", during.posts_refused as f64, 0.0);
    verdict.at_most("answers of /readyz that were not 200", during.not_ready as f64, 0.0);
    verdict.end(arguments.strictness)
}

/// With `limits.memory`, where the gateway knows it.
fn settings(binary: &Path, arguments: &Arguments) -> Outcome<Vec<(&'static str, String)>> {
    let mut settings = vec![("HALLWAY_HISTORY__MAX_EVENTS", arguments.events.to_string())];
    let example = Command::new(binary).arg("example-config").output()?;
    let example = String::from_utf8_lossy(&example.stdout);
    let limits = example.split_once("\n[limits]\n").and_then(|(_, rest)| rest.split("\n[").next());
    if limits.is_some_and(|limits| limits.contains("HALLWAY_LIMITS__MEMORY") || limits.contains("\n# memory = ")) {
        settings.push(("HALLWAY_LIMITS__MEMORY", format!("{}MiB", arguments.memory)));
    } else {
        say("this gateway has no limits.memory, so it is not told what it has");
    }
    Ok(settings)
}

async fn fill(redis: &mut MultiplexedConnection, arguments: &Arguments) -> Outcome<()> {
    let event = format!(r#"{{"type":"order.status_changed","payload":"{}"}}"#, "x".repeat(BODY));
    for user in 0..arguments.users {
        for _ in 0..arguments.events.div_ceil(PIPELINE) {
            let mut pipe = redis::pipe();
            (0..PIPELINE).for_each(|_| _ = pipe.add_command(call(&[&room(user)], &event)).ignore());
            pipe.query_async::<()>(redis).await?;
        }
    }
    Ok(())
}

fn room(user: usize) -> String {
    format!("order:long{user}")
}

/// Looks at the node's memory until the time is over or the node. Whether it lives, and the most that it had.
async fn watch(server: &Server, arguments: &Arguments) -> (bool, f64) {
    let (began, mut peak, mut looks) = (Instant::now(), 0.0_f64, 0);
    while began.elapsed() < Duration::from_secs(arguments.seconds) {
        let Ok(now) = server.process.memory_mib() else { return (false, peak) };
        peak = peak.max(now);
        let after = began.elapsed().as_secs_f64();
        if looks % SAID_EVERY == 0 {
            say(&format!("after {after:>4.1} s the node has {now:.0} MiB"));
        }
        looks += 1;
        if now > f64::from(arguments.memory) {
            say(&format!(
                "after {after:.1} s the node has {now:.0} MiB: dead in a container of {} MiB",
                arguments.memory
            ));
            return (false, peak);
        }
        sleep(LOOK_AGAIN).await;
    }
    (true, peak)
}

/// What all of them did.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    sent: usize,
    answered: usize,
    refused: usize,
    closed: usize,
}

/// All of them.
#[derive(Clone, Copy, Debug)]
struct Crowd {
    address: SocketAddr,
    users: usize,
    sockets: usize,
    reading: bool,
}

impl Crowd {
    /// All ask, until it is over. Who is closed comes back.
    async fn ask(self, is_over: oneshot::Receiver<()>) -> Outcome<Asked> {
        let (asked, mut busy) = (Rc::new(RefCell::new(Asked::default())), JoinSet::new());
        for number in 0..self.sockets {
            let asked = asked.clone();
            busy.spawn_local(async move {
                loop {
                    let user = number % self.users;
                    let buffer = if self.reading { None } else { Some(RECEIVE_BUFFER) };
                    if let Ok(mut client) = Client::connect(self.address, &format!("asker{user}"), buffer).await {
                        if self.reading {
                            ask_and_read(&mut client, user, &asked).await;
                        } else {
                            ask_only(&mut client, user, &asked).await;
                        }
                        asked.borrow_mut().closed += 1;
                    }
                    sleep(AGAIN).await;
                }
            });
        }
        is_over.await.ok();
        busy.shutdown().await;
        Ok(asked.take())
    }
}

fn question(number: usize, user: usize) -> String {
    match number % 2 {
        0 => format!(r#"42/realtime,{number}["get_missed_events",{{"room":"{}","since":0,"limit":1000}}]"#, room(user)),
        _ => format!(r#"42/realtime,{number}["join_room",{{"room":"{}","since":0}}]"#, room(user)),
    }
}

/// Sends commands until the transport is closed.
async fn ask_only(client: &mut Client, user: usize, asked: &RefCell<Asked>) {
    let mut pace = interval(PERIOD);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        pace.tick().await;
        // A command that does not go out in time stays in the buffer: the node does not read either.
        match timeout(SEND_WAIT, client.send(&question(number, user))).await {
            Ok(Ok(())) => asked.borrow_mut().sent += 1,
            Ok(Err(_)) => return,
            Err(_) => {}
        }
    }
}

/// Asks for the whole history, and again when it has an answer, until the transport is closed.
async fn ask_and_read(client: &mut Client, user: usize, asked: &RefCell<Asked>) {
    loop {
        if client.send(&question(0, user)).await.is_err() {
            return;
        }
        asked.borrow_mut().sent += 1;
        let answer = loop {
            let Some(frame) = client.next().await else { return };
            if frame.starts_with("43") {
                break frame;
            }
        };
        let mut asked = asked.borrow_mut();
        asked.answered += 1;
        asked.refused += usize::from(answer.contains(r#"{"ok":false"#));
    }
}
