//! Troubles, drawn at random: of single rooms, whose keys or lines are spoilt, and of links, which are cut or fall silent.

use std::collections::HashSet;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use super::Dice;
use crate::harness::proxy::Proxy;
use crate::harness::publisher::Receipt;
use crate::harness::redis::Redis;

/// What the ids of events begin with that no service published.
pub(super) const FORGED: &str = "forged-";
/// A value that no key of a room has.
const RUBBISH: &str = "rubbish";
/// Of a room, as services and gateways have them.
const KEYS: [&str; 2] = ["history", "last"];

/// Puts back what was there, unless the node has mended it since.
const MEND: &str = "
  local kind = redis.call('TYPE', KEYS[1]).ok
  local spoilt = kind == 'string' and redis.call('GET', KEYS[1]) == ARGV[1]
    or kind == 'list' and redis.call('LINDEX', KEYS[1], 0) == ARGV[1]
  if not spoilt then return redis.call('DEL', KEYS[2]) end
  redis.call('DEL', KEYS[1])
  if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end";

/// Those that a rig has at hand.
pub(super) struct Troubles<'a> {
    pub(super) redis: &'a Redis,
    /// Of each node.
    pub(super) ways: &'a [Proxy],
    /// Rooms that have troubles, and rooms that have none.
    pub(super) troubled: &'a [String],
    pub(super) sound: &'a [String],
    libraries: Libraries,
    made: usize,
    spoilt: Vec<String>,
    /// Rooms and ids of entries that were deleted.
    pub(super) deleted: HashSet<(String, String)>,
    /// What a node of tomorrow published.
    pub(super) receipts: Vec<Receipt>,
}

/// The function with the classes that the nodes know, and with one more.
struct Libraries {
    today: String,
    tomorrow: String,
}

impl Libraries {
    fn render(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { today: library(settings, &folder, ""), tomorrow: library(settings, &folder, "[rooms.\"thing:{id}\"]\n") }
    }
}

fn library(settings: &[(&str, &str)], folder: &TempDir, classes: &str) -> String {
    let file = folder.path().join("hallway.toml");
    std::fs::write(&file, classes).expect("it is written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
    let printed = command.arg("redis-function").arg("--config").arg(file).envs(settings.iter().copied()).output();
    let printed = printed.expect("it runs");
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    String::from_utf8(printed.stdout).expect("text")
}

impl<'a> Troubles<'a> {
    /// None so far; the nodes have these settings.
    pub(super) fn of(
        redis: &'a Redis,
        ways: &'a [Proxy],
        (troubled, sound): (&'a [String], &'a [String]),
        settings: &[(&str, &str)],
    ) -> Self {
        Self {
            redis,
            ways,
            troubled,
            sound,
            libraries: Libraries::render(settings),
            made: 0,
            spoilt: Vec::new(),
            deleted: HashSet::new(),
            receipts: Vec::new(),
        }
    }

    /// One more; says which.
    pub(super) async fn strike(&mut self, dice: &mut Dice) -> String {
        self.made += 1;
        let room = self.troubled[dice.roll(self.troubled.len())].clone();
        let told = match dice.roll(10) {
            0 | 1 => self.spoil(dice, &room).await,
            2..=4 => self.forge(dice, &room).await,
            5 | 6 => self.delete(dice, &room).await,
            7 => self.publish_of_tomorrow(dice).await,
            8 => return self.trouble_a_link(dice),
            _ => self.spoil_key("hallway:nodes", dice).await,
        };
        if dice.roll(3) == 0 {
            return told;
        }
        self.cut_pubsub().await;
        format!("{told}; pub/sub cut")
    }

    /// Undoes what lasts.
    pub(super) async fn mend(&mut self) {
        let mut redis = self.redis.client().await;
        for key in std::mem::take(&mut self.spoilt) {
            let mut mend = redis::cmd("EVAL");
            mend.arg(MEND).arg(2).arg(&key).arg(stash(&key)).arg(RUBBISH);
            mend.exec_async(&mut redis).await.expect("redis is up");
        }
    }

    async fn spoil(&mut self, dice: &mut Dice, room: &str) -> String {
        let key = format!("hallway:{{{room}}}:{}", KEYS[dice.roll(KEYS.len())]);
        self.spoil_key(&key, dice).await
    }

    /// Puts a value of another type, or one that says nothing, where something else was.
    async fn spoil_key(&mut self, key: &str, dice: &mut Dice) -> String {
        let mut spoil = redis::pipe();
        spoil.atomic();
        let mut redis = self.redis.client().await;
        if redis::cmd("EXISTS").arg(key).query_async::<bool>(&mut redis).await.expect("redis is up") {
            spoil.cmd("RENAME").arg(key).arg(stash(key)).ignore();
        }
        let command = if dice.roll(2) == 0 { "SET" } else { "RPUSH" };
        spoil.cmd(command).arg(key).arg(RUBBISH).ignore();
        spoil.query_async::<()>(&mut redis).await.expect("redis is up");
        self.spoilt.push(key.to_owned());
        format!("{command} {key}")
    }

    /// Sends what looks like the function's lines, or like nothing at all, on a room's channel.
    async fn forge(&mut self, dice: &mut Dice, room: &str) -> String {
        let id = format!("{FORGED}{}", self.made);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
        let mut redis = self.redis.client().await;
        let last = redis::cmd("GET").arg(format!("hallway:{{{room}}}:last")).query_async::<String>(&mut redis).await;
        let last =
            last.ok().and_then(|last| Some(last.split(' ').next()?.to_owned())).unwrap_or_else(|| "5-0".to_owned());
        let (far, farther) = (format!("{}-0", now + 3_600_000), format!("{}-0", now + 7_200_000));
        let line = match dice.roll(9) {
            0 => "1".to_owned(),
            1 => format!("1 {id} soon 0 {room} 5-0 4-0"),
            2 => format!("2 {id} {now} 0 {room} {far} {last} and more"),
            3 => format!("1 {id} {now} 0 {room} {far} {last}"),
            4 => format!("1 {id} {now} 0 {room} {farther} {far}"),
            5 => format!("1 {id} {now} 0 {room} {0}-{0} {last}", u64::MAX),
            6 => format!("1 {id} {now} 0 {room} {far} {last} thing:7 {far} {last}"),
            7 => format!("1 {id} {now} 0 {room} 7-0 6-0"),
            _ => return self.replay(dice, room, &mut redis).await,
        };
        let text = format!("{line}\n{{\"type\":\"order.status_changed\",\"payload\":{{}}}}");
        self.redis.publish(room, text.as_bytes()).await;
        format!("PUBLISH {line}")
    }

    /// Sends once more what was sent a moment ago.
    async fn replay(&self, dice: &mut Dice, room: &str, redis: &mut MultiplexedConnection) -> String {
        let mut newest = redis::cmd("XREVRANGE");
        newest.arg(format!("hallway:{{{room}}}:history")).arg("+").arg("-").arg("COUNT").arg(1 + dice.roll(5));
        let newest = newest.query_async::<Vec<(String, Vec<Vec<u8>>)>>(redis).await.unwrap_or_default();
        if let Some((at, fields)) = newest.last() {
            self.redis.publish(room, &fields[1]).await;
            return format!("{at} of {room} again");
        }
        format!("nothing of {room} to send again")
    }

    /// Deletes an entry: the newest ones, that a node may not have yet, as often as all others.
    async fn delete(&mut self, dice: &mut Dice, room: &str) -> String {
        let (mut redis, key) = (self.redis.client().await, format!("hallway:{{{room}}}:history"));
        let mut newest = redis::cmd("XREVRANGE");
        newest.arg(&key).arg("+").arg("-").arg("COUNT").arg([4, 200][dice.roll(2)]);
        let newest = newest.query_async::<Vec<(String, Vec<Vec<u8>>)>>(&mut redis).await.unwrap_or_default();
        if newest.is_empty() {
            return format!("nothing of {room} to delete");
        }
        let (at, fields) = &newest[dice.roll(newest.len())];
        let id = String::from_utf8_lossy(&fields[1]).split(' ').nth(1).expect("an id").to_owned();
        redis::cmd("XDEL").arg(&key).arg(at).exec_async(&mut redis).await.expect("redis is up");
        let told = format!("XDEL {id} at {at} of {room}");
        self.deleted.insert((room.to_owned(), id));
        told
    }

    /// An event in a room that the nodes know, and in one of a class that they do not: those who publish are ahead of them.
    async fn publish_of_tomorrow(&mut self, dice: &mut Dice) -> String {
        let known = [self.troubled, self.sound][dice.roll(2)];
        let known = known[dice.roll(known.len())].clone();
        let (id, other) = (format!("tomorrow-{}", self.made), format!("thing:{}", dice.roll(3)));
        let rooms = if dice.roll(2) == 0 { [&known, &other] } else { [&other, &known] };
        let mut publish = redis::pipe();
        publish.atomic().cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(&self.libraries.tomorrow).ignore();
        publish.cmd("FCALL").arg("hallway_publish").arg(2);
        rooms.iter().for_each(|room| _ = publish.arg(format!("hallway:{{{room}}}")));
        publish.arg(r#"{"type":"order.status_changed","payload":{}}"#).arg("ID").arg(&id);
        publish.cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(&self.libraries.today).ignore();
        // A room whose keys are spoilt takes no event.
        let told = publish.query_async::<(Vec<redis::Value>,)>(&mut self.redis.client().await).await;
        let Ok((reply,)) = told else { return format!("{known} took nothing of tomorrow") };
        let offsets = reply.into_iter().skip(1).map(|place| {
            let (room, offset, _): (String, String, i64) = redis::from_redis_value(place).expect("a place");
            (room, offset)
        });
        let told = format!("{id} in {rooms:?}");
        self.receipts.push(Receipt { id, offsets: offsets.collect() });
        told
    }

    async fn cut_pubsub(&self) {
        let kill = ["KILL", "TYPE", "pubsub"];
        redis::cmd("CLIENT").arg(&kill).exec_async(&mut self.redis.client().await).await.expect("redis is up");
    }

    /// Cuts or silences a link of a node.
    fn trouble_a_link(&self, dice: &mut Dice) -> String {
        let node = dice.roll(self.ways.len());
        let links = self.ways[node].links();
        if links.is_empty() {
            return format!("node {node} has no links");
        }
        let link = &links[dice.roll(links.len())];
        if dice.roll(2) == 0 {
            self.ways[node].cut(link);
            return format!("{link} of node {node} cut");
        }
        self.ways[node].silence(link);
        format!("{link} of node {node} silent")
    }
}

fn stash(key: &str) -> String {
    format!("stash:{key}")
}
