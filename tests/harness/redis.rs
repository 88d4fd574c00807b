//! A Redis of one's own: on a free port, in a folder of its own, writing every command to disk before it answers.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use super::{eventually, free_address};

/// A running `redis-server`.
pub struct Redis {
    address: SocketAddr,
    folder: TempDir,
    process: Option<Child>,
    durable: bool,
    cluster: bool,
}

impl Redis {
    /// One that survives `kill -9` (AOF, `appendfsync always`).
    pub async fn start() -> Self {
        Self::launch(true, false).await
    }

    /// One that forgets everything when it dies.
    pub async fn start_forgetful() -> Self {
        Self::launch(false, false).await
    }

    /// One in cluster mode, with every slot.
    pub async fn start_in_cluster_mode() -> Self {
        let redis = Self::launch(true, true).await;
        let mut slots = redis::cmd("CLUSTER");
        slots.arg("ADDSLOTSRANGE").arg(0).arg(16383).exec_async(&mut redis.client().await).await.expect("redis is up");
        redis
    }

    async fn launch(durable: bool, cluster: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder for redis");
        let mut redis = Self { address: free_address(), folder, process: None, durable, cluster };
        redis.restart().await;
        redis
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("redis can be killed");
            process.wait().expect("redis ends");
        }
    }

    /// Starts it on the port and with the data it had; returns when it answers.
    pub async fn restart(&mut self) {
        let port = self.address.port().to_string();
        let append = if self.durable { "yes" } else { "no" };
        let process = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", append])
            .args(["--appendfsync", "always", "--dir"])
            .arg(self.folder.path())
            .args(self.cluster_options())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed (./check installs it)");
        self.process = Some(process);
        eventually("redis answers", || async {
            let mut redis = self.try_client().await?;
            redis::cmd("PING").query_async::<String>(&mut redis).await.ok()
        })
        .await;
    }

    /// Its second port would be 10,000 above the first, where another test may be.
    fn cluster_options(&self) -> Vec<String> {
        if !self.cluster {
            return Vec::new();
        }
        ["--cluster-enabled", "yes", "--cluster-port"]
            .map(str::to_owned)
            .into_iter()
            .chain([free_address().port().to_string()])
            .collect()
    }

    /// Stops it in the middle of whatever it does; its connections stay open.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().expect("redis runs").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
    }

    /// Makes it a replica that has everything of this primary, or a primary.
    pub async fn follow(&self, primary: Option<&Self>) {
        let mut follow = redis::cmd("REPLICAOF");
        match primary {
            Some(primary) => follow.arg("127.0.0.1").arg(primary.address.port()),
            None => follow.arg("NO").arg("ONE"),
        };
        let mut client = self.client().await;
        follow.exec_async(&mut client).await.expect("redis is up");
        if primary.is_some() {
            eventually("the replica is in step", || async {
                let about: String =
                    redis::cmd("INFO").arg("replication").query_async(&mut client.clone()).await.ok()?;
                about.contains("master_link_status:up").then_some(())
            })
            .await;
        }
    }

    /// Waits until its file holds everything: one that was a replica writes it anew, and has none until then.
    pub async fn is_written(&self) {
        eventually("the file is written", || async {
            let about: String =
                redis::cmd("INFO").arg("persistence").query_async(&mut self.try_client().await?).await.ok()?;
            let is_over = ["in_progress", "scheduled"].map(|state| about.contains(&format!("aof_rewrite_{state}:0")));
            (is_over == [true, true]).then_some(())
        })
        .await;
    }

    /// Whether it is no replica.
    pub async fn is_primary(&self) -> bool {
        let about: String =
            redis::cmd("INFO").arg("replication").query_async(&mut self.client().await).await.expect("redis is up");
        about.contains("role:master")
    }

    /// For `HALLWAY_REDIS__URL`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A plain client, if Redis takes one right now.
    pub async fn try_client(&self) -> Option<MultiplexedConnection> {
        let client = redis::Client::open(self.url()).expect("a valid url");
        client.get_multiplexed_async_connection().await.ok()
    }

    /// A plain client, as a service would have.
    pub async fn client(&self) -> MultiplexedConnection {
        self.try_client().await.expect("redis is up")
    }

    /// `FCALL hallway_publish` with the short form of keys; returns the id and, per room, its offset.
    pub async fn fcall(&self, rooms: &[&str], event: &str, options: &[&str]) -> redis::RedisResult<Published> {
        let mut call = redis::cmd("FCALL");
        call.arg("hallway_publish").arg(rooms.len());
        for room in rooms {
            call.arg(format!("hallway:{{{room}}}"));
        }
        call.arg(event);
        for option in options {
            call.arg(option);
        }
        let reply: Vec<redis::Value> = call.query_async(&mut self.client().await).await?;
        let mut reply = reply.into_iter();
        let id = redis::from_redis_value(reply.next().expect("an id"))?;
        let placed = reply.map(|place| Ok(redis::from_redis_value(place)?)).collect::<redis::RedisResult<_>>()?;
        Ok(Published { id, placed })
    }

    /// `FCALL hallway_publish` with these keys and arguments as they stand.
    pub async fn fcall_raw(&self, keys: &[String], arguments: &[&[u8]]) -> redis::RedisResult<redis::Value> {
        let mut call = redis::cmd("FCALL");
        call.arg("hallway_publish").arg(keys.len()).arg(keys).arg(arguments);
        call.query_async(&mut self.client().await).await
    }

    /// How often a command was carried out.
    pub async fn calls(&self, command: &str) -> u64 {
        let mut stats = redis::cmd("INFO");
        let stats: String = stats.arg("commandstats").query_async(&mut self.client().await).await.expect("redis is up");
        let lead = format!("cmdstat_{command}:calls=");
        let calls = stats.lines().find_map(|line| line.strip_prefix(&lead)?.split(',').next());
        calls.map_or(0, |calls| calls.parse().expect("a number"))
    }

    /// Notes every command from now on, and forgets those before.
    pub async fn note_commands(&self) {
        let mut note = redis::pipe();
        note.cmd("CONFIG").arg("SET").arg("slowlog-max-len").arg(10_000);
        note.cmd("CONFIG").arg("SET").arg("slowlog-log-slower-than").arg(0).cmd("SLOWLOG").arg("RESET");
        note.exec_async(&mut self.client().await).await.expect("redis is up");
    }

    /// Whether a room's history was read since [`note_commands`](Self::note_commands).
    pub async fn has_read(&self, room: &str) -> bool {
        let mut noted = redis::cmd("SLOWLOG");
        let noted: Vec<redis::Value> =
            noted.arg("GET").arg(-1).query_async(&mut self.client().await).await.expect("redis is up");
        let history = format!("hallway:{{{room}}}:history");
        let mut words = noted.into_iter().filter_map(|one| {
            let fields = redis::from_redis_value::<Vec<redis::Value>>(one).ok()?;
            redis::from_redis_value::<Vec<String>>(fields.into_iter().nth(3)?).ok()
        });
        words.any(|words| words.get(1).is_some_and(|name| name == "hallway_read") && words.contains(&history))
    }

    /// A plain `PUBLISH` to a room; returns how many nodes heard it.
    pub async fn publish(&self, room: &str, message: &[u8]) -> i64 {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(format!("hallway:{{{room}}}")).arg(message);
        publish.query_async(&mut self.client().await).await.expect("redis is up")
    }
}

/// What the function replied.
#[derive(Debug)]
pub struct Published {
    /// The event's id.
    pub id: String,
    /// Room, offset, whether it was a duplicate.
    pub placed: Vec<(String, String, i64)>,
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
