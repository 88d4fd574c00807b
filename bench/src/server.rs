//! The servers: a Redis of one's own, Hallway on it, and a plain Socket.IO server on Node.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use jsonwebtoken::{EncodingKey, Header, encode};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::Outcome;
use crate::process::{LOAD_CORE, Process, SERVER_CORE};

const SECRET: &str = "a-secret-for-benchmarks-of-more-than-32-bytes";
pub(crate) const API_KEY: &str = "an-api-key-for-benchmarks-of-more-than-32-bytes";
/// Longer than any start takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `redis-server` that writes nothing to disk.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

/// A server with clients.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) clients: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) process: Process,
}

/// Ports below those that the kernel gives to outgoing connections, of which an offender takes many.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

fn free_address() -> Outcome<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let from = u16::try_from(std::process::id() % 100).unwrap_or_default() * 100;
    let candidates =
        std::iter::repeat_with(|| (from + NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start));
    let mut addresses = candidates.map(|port| SocketAddr::from(([127, 0, 0, 1], PORTS.start + port))).take(1000);
    addresses.find(|address| TcpListener::bind(address).is_ok()).ok_or_else(|| "no free port".into())
}

/// Waits until something listens there.
async fn listens(what: &str, address: SocketAddr, process: &mut Process) -> Outcome<()> {
    let began = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        if process.has_ended() || began.elapsed() > PATIENCE {
            return Err(format!("{what} did not start").into());
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

impl Redis {
    pub(crate) async fn start() -> Outcome<Self> {
        let (address, folder) = (free_address()?, tempfile::tempdir()?);
        let port = address.port().to_string();
        let mut process = Process::start(LOAD_CORE, "redis-server", |command| {
            command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
            command.arg(folder.path());
        })?;
        listens("redis-server", address, &mut process).await?;
        Ok(Self { address, _process: process, _folder: folder })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) async fn client(&self) -> Outcome<MultiplexedConnection> {
        let patient = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        Ok(redis::Client::open(self.url())?.get_multiplexed_async_connection_with_config(&patient).await?)
    }
}

/// The gateway beside this program, unless another is named.
pub(crate) fn hallway(named: Option<PathBuf>) -> Outcome<PathBuf> {
    let path = named.map_or_else(|| std::env::current_exe().map(|own| own.with_file_name("hallway")), Ok)?;
    if !path.exists() {
        return Err(format!("{} is not there: cargo build --release", path.display()).into());
    }
    Ok(path)
}

impl Server {
    /// Hallway on one core; ready when this returns. Clients reach it on every address.
    pub(crate) async fn hallway(binary: &Path, redis: &Redis) -> Outcome<Self> {
        Self::hallway_with(binary, redis, &[]).await
    }

    /// As [`hallway`](Self::hallway), with further settings.
    pub(crate) async fn hallway_with(binary: &Path, redis: &Redis, settings: &[(&str, String)]) -> Outcome<Self> {
        let mut server = Self::launch(binary, redis, settings)?;
        listens("hallway", server.clients, &mut server.process).await?;
        let began = Instant::now();
        while !is_ready(server.admin).await {
            if began.elapsed() > PATIENCE {
                return Err("hallway is not ready".into());
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(server)
    }

    /// Hallway as it starts.
    pub(crate) fn launch_hallway(binary: &Path, redis: &Redis) -> Outcome<Self> {
        Self::launch(binary, redis, &[])
    }

    fn launch(binary: &Path, redis: &Redis, settings: &[(&str, String)]) -> Outcome<Self> {
        let (clients, admin) = (free_address()?, free_address()?);
        let program = binary.to_str().ok_or("the path of hallway is text")?;
        let process = Process::start(SERVER_CORE, program, |command| {
            command.arg("serve").env("TOKIO_WORKER_THREADS", "1");
            command.env("HALLWAY_SERVER__LISTEN", format!("0.0.0.0:{}", clients.port()));
            command.env("HALLWAY_ADMIN__LISTEN", admin.to_string()).env("HALLWAY_REDIS__URL", redis.url());
            command.env("HALLWAY_AUTH__HS256_SECRET", SECRET).env("HALLWAY_API__KEY", API_KEY);
            command.envs(settings.iter().map(|(key, value)| (key, value)));
        })?;
        Ok(Self { clients, admin, process })
    }

    /// The server of `bench/node` on one core, installed if need be: its engine, and its adapter.
    pub(crate) async fn node(redis: &Redis, channel: &str, kind: [&str; 2]) -> Outcome<Self> {
        let folder = node_folder()?;
        let clients = free_address()?;
        let mut process = Process::start(SERVER_CORE, "node", |command| {
            command.env("NODE_ENV", "production").arg(folder.join("server.mjs"));
            command.args([&clients.port().to_string(), &redis.url(), channel]).args(kind);
        })?;
        listens("the server on Node", clients, &mut process).await?;
        Ok(Self { clients, admin: clients, process })
    }

    /// A server that is a command of this program, on one core.
    pub(crate) async fn own(redis: &Redis, channel: &str, command: &str) -> Outcome<Self> {
        let (clients, program) = (free_address()?, std::env::current_exe()?);
        let program = program.to_str().ok_or("the path of this program is text")?;
        let mut process = Process::start(SERVER_CORE, program, |start| {
            start.args([command, &clients.to_string(), &redis.url(), channel]);
        })?;
        listens(command, clients, &mut process).await?;
        Ok(Self { clients, admin: clients, process })
    }

    /// `data` of a `GET` from the API, if it answers with 200.
    async fn get(&self, path: &str) -> Option<Value> {
        let request = reqwest::Client::new().get(format!("http://{}{path}", self.clients)).bearer_auth(API_KEY);
        let response = request.send().await.ok().filter(|response| response.status().as_u16() == 200)?;
        response.json().await.ok()
    }

    /// A `POST` to the API, which must answer with 200.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Outcome<()> {
        let request = reqwest::Client::new().post(format!("http://{}{path}", self.clients)).bearer_auth(API_KEY);
        let status = request.body(body.to_string()).send().await?.status();
        if status.as_u16() == 200 { Ok(()) } else { Err(format!("POST {path} was answered with {status}").into()) }
    }

    /// How often Hallway's limits have held a client back.
    pub(crate) async fn over_limit(&self) -> Outcome<f64> {
        let text = reqwest::get(format!("http://{}/metrics", self.admin)).await?.text().await?;
        let counts = ["hallway_over_limit_total{", "hallway_publishes_turned_away_total{"];
        let lines = text.lines().filter(|line| counts.iter().any(|count| line.starts_with(count)));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// How many sockets Hallway has in a room.
    pub(crate) async fn room_size(&self, room: &str) -> Outcome<u64> {
        let body = self.get(&format!("/v1/rooms/{room}")).await.ok_or("the API does not answer")?;
        body["size"].as_u64().ok_or_else(|| "a room has a size".into())
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    let answer = reqwest::get(format!("http://{admin}/readyz")).await;
    answer.is_ok_and(|response| response.status().as_u16() == 200)
}

/// Where the programs for Node are, installed as their lock file says.
pub(crate) fn node_folder() -> Outcome<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    install(&folder)?;
    Ok(folder)
}

fn install(folder: &Path) -> Outcome<()> {
    let (lock, installed) = (folder.join("package-lock.json"), folder.join("node_modules/.installed-lock.json"));
    let wanted = std::fs::read(&lock)?;
    // Packages of an older lock file are not those that the servers import.
    if std::fs::read(&installed).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    let mut npm = std::process::Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
    if !npm.status().map_err(|error| format!("npm is needed for the servers on Node: {error}"))?.success() {
        return Err(format!("npm ci failed in {}", folder.display()).into());
    }
    Ok(std::fs::write(installed, wanted)?)
}

/// A token that Hallway believes.
pub(crate) fn token(user: &str) -> Outcome<String> {
    token_of(user, "customer")
}

/// As [`token`], with a role.
pub(crate) fn token_of(user: &str, role: &str) -> Outcome<String> {
    token_with(json!({"sub": user, "role": role}))
}

/// As [`token`], with claims of so many bytes.
pub(crate) fn token_padded(user: &str, bytes: usize) -> Outcome<String> {
    let mut claims = json!({"sub": user, "role": "customer", "pad": ""});
    // The end of the token comes on top: `,"exp":` and ten digits.
    let pad = bytes.saturating_sub(claims.to_string().len() + 17);
    claims["pad"] = "x".repeat(pad).into();
    token_with(claims)
}

fn token_with(mut claims: Value) -> Outcome<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    claims["exp"] = (now + 3600).into();
    Ok(encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))?)
}
