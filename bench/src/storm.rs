//! Thousands who come at once, and thousands who come back at once to five rooms each with `after` while events flow. What others
//! notice of it, and whether each has every event of its rooms, once, in order, across both of its transports.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

use crate::crowd::Clock;
use crate::feed::Feed;
use crate::peers::Peer;
use crate::process::step_aside;
use crate::raw::Raw;
use crate::results::{Figures, Keeping};
use crate::server::{self, Redis};
use crate::swarm::{Plan, Swarm};
use crate::verdict::{Strictness, Verdict};
use crate::{Outcome, thread};

const CONNECT_CPU: &str = "CPU per connect and join, µs";
const CONNECT: &str = "until all are in, s";
const RESUMED: &str = "until all have resumed, s";
const LIVE: &str = "live p99 of others ÷ quiet";
/// Rooms of each, and of all.
const EACH: usize = 5;
const ROOMS: usize = 50;
/// Rooms of others, with a member each, and events a second in them.
const OTHERS: usize = 50;
const OTHERS_RATE: u32 = 200;
const QUIET_S: u32 = 5;
/// How long all are away.
const AWAY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(90);

/// How many of them.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 5000)]
    sockets: usize,
    /// Events a second in the rooms of those who come back.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Seconds in which events flow, from before they go to after they are back.
    #[arg(long, default_value_t = 16)]
    seconds: u32,
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only these; Hallway alone comes back with `after`.
    #[arg(long, value_delimiter = ',', default_value = "hallway,ws,uws,socketioxide")]
    peers: Vec<Peer>,
    #[command(flatten)]
    keeping: Keeping,
    #[command(flatten)]
    strictness: Strictness,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    let mut figures = Figures::new("storm");
    for run in 0..arguments.runs {
        let mut peers = arguments.peers.clone();
        peers.rotate_left(run % arguments.peers.len().max(1));
        for peer in peers {
            LocalSet::new().run_until(connect_all(&arguments, peer, &binary, &mut figures)).await?;
            if peer == Peer::Hallway {
                LocalSet::new().run_until(come_back(&arguments, &binary, &mut figures)).await?;
            }
        }
    }
    figures.keep(&arguments.keeping, &format!("{} sockets, {EACH} rooms each", arguments.sockets))?;
    let (ours, mut verdict) = (Peer::Hallway.name(), Verdict::default());
    if figures.has(ours) {
        verdict.at_most(RESUMED, figures.median_of(ours, RESUMED), 10.0);
        verdict.at_most(LIVE, figures.median_of(ours, LIVE), 3.0);
    }
    verdict.end(arguments.strictness)
}

fn other_room(number: usize) -> String {
    format!("order:other{}", number % OTHERS)
}

fn storm_room(number: usize) -> String {
    format!("order:storm{}", number % ROOMS)
}

async fn connect_all(arguments: &Arguments, peer: Peer, binary: &Path, figures: &mut Figures) -> Outcome<()> {
    let redis = Redis::start().await?;
    let server = peer.start(binary, &redis, &[]).await?;
    let clock = Clock::start();
    let plan = Plan { sockets: arguments.sockets, room: storm_room, at_once: arguments.sockets, claims: 100 };
    let before = server.process.cpu()?;
    let swarm = Swarm::gather(server.clients, &plan, clock).await?;
    let used = server.process.cpu()?.saturating_sub(before);
    figures.add(peer.name(), CONNECT_CPU, used.as_secs_f64() * 1e6 / arguments.sockets as f64);
    figures.add(peer.name(), CONNECT, clock.now() as f64 / 1e6);
    // Each of them is a member, or it is not counted as in.
    let mut feed = Feed::start(&redis, peer, clock, 100).await?;
    let rooms: Vec<String> = (0..ROOMS.min(arguments.sockets)).map(storm_room).collect();
    feed.publish_at(clock.now(), &rooms).await?;
    swarm.has_heard(arguments.sockets as u64).await
}

async fn come_back(arguments: &Arguments, binary: &Path, figures: &mut Figures) -> Outcome<()> {
    let (redis, name) = (Redis::start().await?, Peer::Hallway.name());
    let server = Peer::Hallway.start(binary, &redis, &[]).await?;
    let clock = Clock::start();
    let plan = Plan { sockets: OTHERS, room: other_room, at_once: 50, claims: 100 };
    let others = Swarm::gather(server.clients, &plan, clock).await?;
    let other_rooms: Vec<String> = (0..OTHERS).map(other_room).collect();
    let mut other_feed = Feed::start(&redis, Peer::Hallway, clock, 100).await?;
    // Rounds over all rooms, so that each room has the same number of events at the end.
    let rounds = (arguments.rate * arguments.seconds).div_ceil(u32::try_from(ROOMS)?);
    let (gathered, is_gathered) = oneshot::channel();
    let (start, starts) = oneshot::channel();
    let (address, sockets) = (server.clients, arguments.sockets);
    let storm = thread::run("storm", move || async move {
        thread::give_way()?;
        let resumers = gather(address, sockets).await?;
        gathered.send(()).ok();
        starts.await?;
        resume_all(address, resumers, u64::from(rounds)).await
    })?;
    is_gathered.await?;
    other_feed.publish_paced(OTHERS_RATE, OTHERS_RATE * QUIET_S, &other_rooms).await?;
    others.has_heard(u64::from(OTHERS_RATE * QUIET_S)).await?;
    let quiet = others.take_latency();
    start.send(()).ok();
    let mut feed = Feed::start(&redis, Peer::Hallway, clock, 100).await?;
    let rooms: Vec<String> = (0..ROOMS).map(storm_room).collect();
    let count = OTHERS_RATE * arguments.seconds;
    let flows = feed.publish_paced(arguments.rate, rounds * u32::try_from(ROOMS)?, &rooms);
    let (flowed, beside) = tokio::join!(flows, other_feed.publish_paced(OTHERS_RATE, count, &other_rooms));
    flowed.and(beside)?;
    others.has_heard(u64::from(OTHERS_RATE * QUIET_S + count)).await?;
    figures.add(name, LIVE, others.take_latency().p99_ms / quiet.p99_ms);
    figures.add(name, RESUMED, storm.await??.as_secs_f64());
    Ok(())
}

/// A client's place in one of its rooms.
#[derive(Debug)]
struct Place {
    room: String,
    offset: String,
    next: u64,
}

/// One client, across its transports.
#[derive(Debug)]
struct Resumer {
    token: String,
    places: Vec<Place>,
}

async fn gather(address: SocketAddr, sockets: usize) -> Outcome<Vec<(Resumer, Raw)>> {
    let (mut arriving, mut all) = (JoinSet::new(), Vec::new());
    for number in 0..sockets {
        let places = (0..EACH).map(|each| Place {
            // Five different rooms: the step is no divisor of their number.
            room: storm_room(number + each * 7),
            offset: String::new(),
            next: 0,
        });
        let mut resumer =
            Resumer { token: server::token_padded(&format!("u{number}"), 100)?, places: places.collect() };
        arriving.spawn_local(async move { resumer.enter(address).await.map(|raw| (resumer, raw)) });
        if arriving.len() >= 64
            && let Some(arrived) = arriving.join_next().await
        {
            all.push(arrived??);
        }
    }
    while let Some(arrived) = arriving.join_next().await {
        all.push(arrived??);
    }
    Ok(all)
}

/// All go, are away, and come back at once. How long it took until the last had its answer.
async fn resume_all(address: SocketAddr, resumers: Vec<(Resumer, Raw)>, last: u64) -> Outcome<Duration> {
    let mut reading = JoinSet::new();
    // Events arrive at the first transport too.
    for (mut resumer, mut raw) in resumers {
        reading.spawn_local(async move { resumer.read_for(&mut raw, Duration::from_secs(2)).await.map(|()| resumer) });
    }
    let resumers = reading.join_all().await.into_iter().collect::<Outcome<Vec<_>>>()?;
    sleep(AWAY).await;
    let (began, mut back) = (Instant::now(), JoinSet::new());
    for mut resumer in resumers {
        back.spawn_local(async move {
            let mut raw = resumer.enter(address).await?;
            let took = began.elapsed();
            resumer.read_until(&mut raw, last).await?;
            Outcome::Ok(took)
        });
    }
    let took = back.join_all().await.into_iter().collect::<Outcome<Vec<_>>>()?;
    Ok(took.into_iter().max().unwrap_or_default())
}

impl Resumer {
    /// Connects and joins all rooms, from the places where it is.
    async fn enter(&mut self, address: SocketAddr) -> Outcome<Raw> {
        let mut raw = Raw::connect(address, &self.token).await?;
        let rooms = self.places.iter().map(|place| match place.offset.as_str() {
            "" => format!(r#"{{"room":"{}"}}"#, place.room),
            after => format!(r#"{{"room":"{}","after":"{after}"}}"#, place.room),
        });
        let rooms = rooms.collect::<Vec<_>>().join(",");
        raw.send(&format!(r#"42/realtime,0["join_rooms",{{"rooms":[{rooms}]}}]"#)).await?;
        let answer = raw.until("43/realtime,0").await?;
        let answer: Value = serde_json::from_str(answer.trim_start_matches("43/realtime,0"))?;
        let data = &answer[0]["data"];
        for event in data["events"].as_array().into_iter().flatten() {
            self.note_event(event)?;
        }
        for (place, room) in self.places.iter_mut().zip(data["rooms"].as_array().into_iter().flatten()) {
            if room["complete"] == false {
                return Err(format!("{} is not complete", place.room).into());
            }
            room["offset"].as_str().ok_or("a room has an offset")?.clone_into(&mut place.offset);
        }
        Ok(raw)
    }

    /// Each event must be the next of its room.
    fn note_event(&mut self, event: &Value) -> Outcome<()> {
        let room = event["meta"]["room"].as_str().unwrap_or_default();
        let place = self.places.iter_mut().find(|place| place.room == room).ok_or("an event of another room")?;
        let number = event["payload"]["number"].as_u64().ok_or("an event has a number")?;
        if number != place.next {
            return Err(format!("event {number} of {room} came where {} was due", place.next).into());
        }
        place.next += 1;
        event["meta"]["offset"].as_str().ok_or("an event has an offset")?.clone_into(&mut place.offset);
        Ok(())
    }

    async fn read_once(&mut self, raw: &mut Raw) -> Outcome<()> {
        let mut outcome = Ok(());
        let mut each = |text: &str| {
            let Some(body) = text.strip_prefix("42/realtime,") else { return };
            let noted = serde_json::from_str::<Value>(body).map_err(Into::into);
            let noted = noted.and_then(|event| self.note_event(&event[1]["event"]));
            if outcome.is_ok() {
                outcome = noted;
            }
        };
        if !raw.read_frames(&mut each).await {
            return Err("a transport was closed".into());
        }
        outcome
    }

    async fn read_for(&mut self, raw: &mut Raw, time: Duration) -> Outcome<()> {
        let reading = async {
            loop {
                self.read_once(raw).await?;
            }
        };
        // The time is over: nothing was wrong until then.
        timeout(time, reading).await.unwrap_or(Ok(()))
    }

    /// Reads until it has all events of its rooms.
    async fn read_until(&mut self, raw: &mut Raw, last: u64) -> Outcome<()> {
        let reading = async {
            while self.places.iter().any(|place| place.next < last) {
                self.read_once(raw).await?;
            }
            Ok(())
        };
        let over = timeout(PATIENCE, reading).await;
        over.unwrap_or_else(|_| Err("a client has not got everything".into()))
    }
}
