//! A gateway in a process of its own, on the embedded broker, with one thread beside that of live delivery.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::Outcome;
use crate::client::Client;
use crate::token::SECRET;

const API_KEY: &str = "an-api-key-for-guards-of-more-than-32-bytes";

/// Longer than a start takes under valgrind.
const PATIENCE: Duration = Duration::from_secs(60);

/// A class of rooms whose rule reads a claim, as rules of operators do.
const CONFIG: &str = r#"[rooms."desk:{deskId}"]
join = "has(claims.desks) && claims.desks.exists(desk, room.deskId.startsWith(desk))"
"#;

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    http: reqwest::Client,
    log: PathBuf,
    _folder: TempDir,
}

impl Server {
    /// Starts what `command` runs; it takes clients when this returns, and writes what it logs to `log`.
    pub(crate) async fn start(mut command: Command, log: &Path) -> Outcome<Self> {
        let (address, admin, folder) = (free_address()?, free_address()?, tempfile::tempdir()?);
        let config = folder.path().join("hallway.toml");
        std::fs::write(&config, CONFIG)?;
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HALLWAY_")) {
            command.env_remove(name);
        }
        command
            .arg("--config")
            .arg(&config)
            .env("HALLWAY_SERVER__LISTEN", address.to_string())
            .env("HALLWAY_ADMIN__LISTEN", admin.to_string())
            .env("HALLWAY_AUTH__HS256_SECRET", SECRET)
            .env("HALLWAY_API__KEY", API_KEY)
            // No ping falls into a measurement.
            .env("HALLWAY_SOCKETIO__PING_INTERVAL", "1h")
            .env("HALLWAY_SOCKETIO__PING_TIMEOUT", "1h")
            // Threads that steal work from each other would make the counts differ.
            .env("TOKIO_WORKER_THREADS", "1")
            .env("HALLWAY_SERVER__CORES", "1");
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log)?).spawn()?;
        let questions = process.stdin.take().ok_or("it has an input")?;
        let answers = BufReader::new(process.stdout.take().ok_or("it has an output")?);
        let log = log.to_owned();
        let http = reqwest::Client::builder().build()?;
        let mut server = Self { address, process, questions, answers, http, log, _folder: folder };
        server.wait_until_ready(admin).await?;
        Ok(server)
    }

    /// Few questions, since each costs instructions.
    async fn wait_until_ready(&mut self, admin: SocketAddr) -> Outcome<()> {
        let (began, url) = (Instant::now(), format!("http://{admin}/readyz"));
        while !self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            if self.process.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                return Err(format!("the gateway did not start: see {}", self.log.display()).into());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Connects users `from..to`, one behind the other, and lets each join the room of all.
    pub(crate) async fn connect_users(&self, from: usize, to: usize) -> Outcome<Vec<Client>> {
        let mut clients = Vec::new();
        for n in from..to {
            let mut client = Client::connect(self.address, &format!("user-{n:05}")).await?;
            client.join("desk:all").await?;
            clients.push(client);
        }
        Ok(clients)
    }

    /// Publishes an event to the room of all and waits for the answer.
    pub(crate) async fn publish(&self, n: u32) -> Outcome<()> {
        let event = json!({"room": "desk:all", "type": "order.created", "payload": {"n": n, "text": "x".repeat(200)}});
        let request = self.http.post(format!("http://{}/v1/publish", self.address)).bearer_auth(API_KEY).json(&event);
        let response = request.send().await?;
        if !response.status().is_success() {
            return Err(format!("the gateway refused an event: {}", response.text().await?).into());
        }
        Ok(())
    }

    /// Asks the host a question that it answers with a number.
    pub(crate) fn ask(&mut self, question: &str) -> Outcome<i64> {
        self.tell(question)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim().parse()?)
    }

    /// Gives the host a word that it does not answer.
    pub(crate) fn tell(&mut self, word: &str) -> Outcome<()> {
        Ok(writeln!(self.questions, "{word}")?)
    }

    /// Asks it to stop, as Kubernetes does, and waits.
    pub(crate) async fn stop(mut self) -> Outcome<()> {
        Command::new("kill").arg(self.process.id().to_string()).status()?;
        self.wait_for_end().await
    }

    /// Waits until it has ended.
    pub(crate) async fn wait_for_end(&mut self) -> Outcome<()> {
        let began = Instant::now();
        while self.process.try_wait()?.is_none() {
            if began.elapsed() > PATIENCE {
                return Err(format!("the gateway did not stop: see {}", self.log.display()).into());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The program `name` beside this one.
pub(crate) fn program_beside(name: &str) -> Outcome<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() { Ok(path) } else { Err(format!("{} is not there: run cargo build", path.display()).into()) }
}

/// Ports below those that the kernel gives to outgoing connections: such a port might be taken before the gateway listens there.
const PORTS: std::ops::Range<u16> = 10_000..20_000;

/// An address that is free and was not given out before.
fn free_address() -> Outcome<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 500).unwrap_or_default() * 20;
    let ports = std::iter::repeat_with(|| (first + NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start));
    let mut addresses = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], PORTS.start + port))).take(1000);
    addresses.find(|address| TcpListener::bind(address).is_ok()).ok_or_else(|| "no free port".into())
}
