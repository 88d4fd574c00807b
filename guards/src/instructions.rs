//! Instructions per connection, join, publish and delivery, counted by callgrind.
//!
//! **The problem.** A run counts everything: the start, the end, and each part of the work. **The rule.** Runs of two lengths
//! that differ in one part are subtracted. What both do alike falls out. Five runs give the four parts; each is a difference over
//! many, so that a wake-up more or less of a thread does not show. One client acts at a time, and an event is published when the
//! one before has come to all: so the gateway finds the same work in the same order each time.
//!
//! | run | sockets | joins of each | events |
//! | --- | --- | --- | --- |
//! | `few` | 16 | 1 | 0 |
//! | `many` | 96 | 1 | 0 |
//! | `joins` | 16 | 41 | 0 |
//! | `few_events` | 16 | 1 | 200 |
//! | `many_events` | 96 | 1 | 200 |

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::server::{Server, program_beside};

const FEW: u32 = 16;
const MANY: u32 = 96;
const JOINS: u32 = 40;
const EVENTS: u32 = 200;

/// Not counted: the clock of the metrics is calibrated at the start, for as long as that takes.
const CALIBRATION: &str = "--toggle-collect=quanta::Calibration::calibrate*";

/// What a run does.
#[derive(Clone, Copy, Debug)]
struct Load {
    name: &'static str,
    sockets: u32,
    further_joins: u32,
    events: u32,
}

/// Instructions of each part of the work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instructions {
    /// A connection with its handshake, CONNECT, first join and end.
    pub(crate) connection: u64,
    /// A further room, with a rule that reads a claim, and its end.
    pub(crate) join: u64,
    /// An event by HTTP, until it is stored and answered.
    pub(crate) publish: u64,
    /// An event to one socket.
    pub(crate) delivery: u64,
}

/// Whether valgrind is installed.
pub(crate) fn can_count() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Counts all of it. The profiles stay in `folder`, for `callgrind_annotate`.
pub(crate) async fn count_all(folder: &Path) -> Outcome<Instructions> {
    std::fs::create_dir_all(folder)?;
    let base = Load { name: "few", sockets: FEW, further_joins: 0, events: 0 };
    let run = |load| count_run(folder, load);
    let (many, many_events) = tokio::try_join!(
        run(Load { name: "many", sockets: MANY, ..base }),
        run(Load { name: "many_events", sockets: MANY, events: EVENTS, ..base }),
    )?;
    let (few, few_events) = tokio::try_join!(run(base), run(Load { name: "few_events", events: EVENTS, ..base }))?;
    let joins = run(Load { name: "joins", further_joins: JOINS, ..base }).await?;
    let delivery = per(many_events.saturating_sub(many), few_events.saturating_sub(few), EVENTS * (MANY - FEW));
    Ok(Instructions {
        connection: per(many, few, MANY - FEW),
        join: per(joins, few, FEW * JOINS),
        publish: per(few_events, few, EVENTS).saturating_sub(delivery * u64::from(FEW)),
        delivery,
    })
}

fn per(more: u64, less: u64, count: u32) -> u64 {
    more.saturating_sub(less) / u64::from(count)
}

async fn count_run(folder: &Path, load: Load) -> Outcome<u64> {
    let profile = folder.join(format!("{}.callgrind", load.name));
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet", CALIBRATION, "--collect-atstart=yes"])
        .arg(format!("--callgrind-out-file={}", profile.display()));
    command.arg(program_beside("hallway")?).arg("serve");
    let server = Server::start(command, &profile.with_extension("log")).await?;
    perform(&server, load).await?;
    server.stop().await?;
    total_of(&profile)
}

async fn perform(server: &Server, load: Load) -> Outcome<()> {
    let mut clients = server.connect_users(0, load.sockets as usize).await?;
    for client in &mut clients {
        for n in 0..load.further_joins {
            client.join(&format!("desk:a{n}")).await?;
        }
    }
    for n in 0..load.events {
        server.publish(n).await?;
        for client in &mut clients {
            client.wait_for_event().await?;
        }
    }
    for client in clients {
        client.close().await?;
    }
    Ok(())
}

fn total_of(profile: &PathBuf) -> Outcome<u64> {
    let text = std::fs::read_to_string(profile)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).ok_or("callgrind wrote no total")?;
    Ok(total.trim().parse()?)
}
