//! `latest` events under load: many agents tell where they are, and every member of their room hears it. No value may go back in
//! time, and the last one of each agent must come to all.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::Outcome;
use crate::crowd::Clock;
use crate::peers::Peer;
use crate::process::step_aside;
use crate::publish::call;
use crate::raw::Raw;
use crate::report::Latency;
use crate::results::{Figures, Keeping};
use crate::server::{self, Redis};
use crate::verdict::{Strictness, Verdict};

const ROOM: &str = "order:latest";
const CPU: &str = "CPU per delivery, µs";
const P99: &str = "p99, ms";
const CAME: &str = "deliveries ÷ published × sockets";
const PATIENCE: Duration = Duration::from_secs(30);

/// How much of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 500)]
    sockets: usize,
    #[arg(long, default_value_t = 50)]
    agents: usize,
    /// Events a second, of all agents.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    #[arg(long, default_value_t = 12)]
    seconds: u32,
    #[arg(long, default_value_t = 3)]
    runs: usize,
    #[command(flatten)]
    keeping: Keeping,
    #[command(flatten)]
    strictness: Strictness,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

/// What all sockets heard.
#[derive(Debug, Default)]
struct Heard {
    /// Of each socket, the last number of each agent.
    last: Vec<Vec<Option<u64>>>,
    micros: Vec<u32>,
    untrue: usize,
    gone: usize,
}

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    let mut figures = Figures::new("latest");
    for _ in 0..arguments.runs {
        LocalSet::new().run_until(measure(&arguments, &binary, &mut figures)).await?;
    }
    let load = format!("{} agents, {} events/s, {} sockets", arguments.agents, arguments.rate, arguments.sockets);
    figures.keep(&arguments.keeping, &load)?;
    Verdict::default().end(arguments.strictness)
}

async fn measure(arguments: &Arguments, binary: &Path, figures: &mut Figures) -> Outcome<()> {
    let (redis, name) = (Redis::start().await?, Peer::Hallway.name());
    let server = Peer::Hallway.start(binary, &redis, &[]).await?;
    let clock = Clock::start();
    let heard = Rc::new(RefCell::new(Heard::default()));
    heard.borrow_mut().last = vec![vec![None; arguments.agents]; arguments.sockets];
    let _readers = gather(server.clients, arguments.sockets, &heard, clock).await?;
    let mut client = redis.client().await?;
    let before = server.process.cpu()?;
    let mut pace = interval(Duration::from_secs(1) / arguments.rate);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    // Whole rounds, so that the last number of all agents is the same.
    let rounds = u64::from(arguments.rate * arguments.seconds).div_ceil(arguments.agents as u64);
    for number in 0..rounds {
        for agent in 0..arguments.agents {
            let at = clock.at(pace.tick().await.into_std());
            let payload = format!(r#"{{"agentId":"a{agent}","at":{at},"number":{number},"text":"x"}}"#);
            let event = format!(r#"{{"type":"agent.location_updated","payload":{payload}}}"#);
            call(&[ROOM], &event).query_async::<redis::Value>(&mut client).await?;
        }
    }
    until_all_have(&heard, rounds - 1).await?;
    let used = server.process.cpu()?.saturating_sub(before);
    let micros = std::mem::take(&mut heard.borrow_mut().micros);
    let deliveries = micros.len() as f64;
    let published = rounds as f64 * (arguments.agents * arguments.sockets) as f64;
    figures.add(name, CPU, used.as_secs_f64() * 1e6 / deliveries);
    figures.add(name, CAME, deliveries / published);
    figures.add(name, P99, Latency::of(micros).p99_ms);
    Ok(())
}

async fn gather(address: SocketAddr, sockets: usize, heard: &Rc<RefCell<Heard>>, clock: Clock) -> Outcome<JoinSet<()>> {
    let mut readers = JoinSet::new();
    for socket in 0..sockets {
        let mut raw = Raw::connect(address, &server::token_padded(&format!("u{socket}"), 100)?).await?;
        raw.join(ROOM).await?;
        let heard = heard.clone();
        readers.spawn_local(async move {
            let mut each = |text: &str| heard.borrow_mut().note_event(socket, text, clock);
            while raw.read_frames(&mut each).await {}
            heard.borrow_mut().gone += 1;
        });
    }
    Ok(readers)
}

impl Heard {
    fn note_event(&mut self, socket: usize, text: &str, clock: Clock) {
        let Some((agent, at, number)) = place_of(text) else { return };
        let Some(last) = self.last.get_mut(socket).and_then(|agents| agents.get_mut(agent)) else { return };
        if last.is_some_and(|last| last >= number) {
            self.untrue += 1;
        }
        *last = Some(number);
        self.micros.push(u32::try_from(clock.now().saturating_sub(at)).unwrap_or(u32::MAX));
    }
}

/// Agent, time and number of an event.
fn place_of(text: &str) -> Option<(usize, u64, u64)> {
    let (_, rest) = text.split_once(r#""agentId":"a"#)?;
    let (agent, rest) = rest.split_once(r#"","at":"#)?;
    let (at, rest) = rest.split_once(r#","number":"#)?;
    Some((agent.parse().ok()?, at.parse().ok()?, rest.split(',').next()?.parse().ok()?))
}

async fn until_all_have(heard: &RefCell<Heard>, newest: u64) -> Outcome<()> {
    let began = Instant::now();
    loop {
        {
            let heard = heard.borrow();
            if heard.untrue > 0 || heard.gone > 0 {
                return Err(
                    format!("{} values went back in time, {} sockets were closed", heard.untrue, heard.gone).into()
                );
            }
            if heard.last.iter().flatten().all(|last| *last == Some(newest)) {
                return Ok(());
            }
        }
        if began.elapsed() > PATIENCE {
            return Err("the newest value of an agent has not come to a socket".into());
        }
        sleep(Duration::from_millis(5)).await;
    }
}
