//! How soon a revocation ends what it must: from the request to the last `41`, with a user's sockets on several nodes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tokio::time::timeout;

use crate::Outcome;
use crate::client::Client;
use crate::process::step_aside;
use crate::report::say;
use crate::server::{self, Redis, Server};

/// Longer than any kick takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many nodes and sockets, and how often.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// The user's sockets on each node.
    #[arg(long, default_value_t = 3)]
    sockets: usize,
    /// Sockets of other users on each node.
    #[arg(long, default_value_t = 500)]
    others: usize,
    /// Revocations.
    #[arg(long, default_value_t = 50)]
    runs: usize,
    /// The gateway; the one beside this program, unless it is named.
    #[arg(long)]
    hallway: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    step_aside()?;
    let binary = server::hallway(arguments.hallway.clone())?;
    let redis = Redis::start().await?;
    let (mut nodes, mut others) = (Vec::new(), Vec::new());
    for _ in 0..arguments.nodes {
        let node = Server::hallway(&binary, &redis).await?;
        for at in 0..arguments.others {
            others.push(Client::connect(node.clients, &format!("other-{at}"), None).await?);
        }
        nodes.push(node);
    }
    let mut took = Vec::new();
    for run in 0..arguments.runs {
        took.push(one(&arguments, &nodes, run).await?);
    }
    took.sort();
    let at = |percent: usize| took.get((took.len() * percent / 100).min(took.len() - 1)).copied().unwrap_or_default();
    say(&format!(
        "{} revocations, {} nodes with {} sockets of the user and {} of others each; from the request to the last 41",
        arguments.runs, arguments.nodes, arguments.sockets, arguments.others
    ));
    say(&format!("p50 {:.2?}  p99 {:.2?}  max {:.2?}", at(50), at(99), at(100)));
    Ok(())
}

async fn one(arguments: &Arguments, nodes: &[Server], run: usize) -> Outcome<Duration> {
    let user = format!("user-{run}");
    let mut theirs = Vec::new();
    for node in nodes {
        for _ in 0..arguments.sockets {
            theirs.push(Client::connect(node.clients, &user, None).await?);
        }
    }
    let began = Instant::now();
    let asked = nodes[run % nodes.len()].post("/v1/revoke", json!({ "sub": user }));
    let kicked = async {
        for client in &mut theirs {
            kicked(client).await?;
        }
        Ok(began.elapsed())
    };
    let (asked, took) = tokio::join!(asked, timeout(PATIENCE, kicked));
    asked?;
    took?
}

async fn kicked(client: &mut Client) -> Outcome<()> {
    while let Some(frame) = client.next().await {
        if frame.starts_with("41") {
            return Ok(());
        }
    }
    Err("a transport ended without 41".into())
}
