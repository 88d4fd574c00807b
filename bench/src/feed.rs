//! Events for any of the peers: numbered in each room, with the time at which each should have gone out.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time::{MissedTickBehavior, interval};

use crate::Outcome;
use crate::crowd::Clock;
use crate::peers::{CHANNEL, Peer};
use crate::publish::call;
use crate::server::Redis;

const KIND: &str = "order.status_changed";

/// A publisher of many rooms.
#[derive(Debug)]
pub(crate) struct Feed {
    redis: MultiplexedConnection,
    peer: Peer,
    clock: Clock,
    fill: String,
    next: HashMap<String, u64>,
}

impl Feed {
    /// Of events with so many bytes of filling.
    pub(crate) async fn start(redis: &Redis, peer: Peer, clock: Clock, fill: usize) -> Outcome<Self> {
        Ok(Self { redis: redis.client().await?, peer, clock, fill: "x".repeat(fill), next: HashMap::new() })
    }

    /// Publishes one event in each of the rooms, in one pipeline. Their time is `at`.
    pub(crate) async fn publish_at(&mut self, at: u64, rooms: &[String]) -> Outcome<()> {
        let mut pipe = redis::pipe();
        for room in rooms {
            let command = self.command(room, at);
            pipe.add_command(command).ignore();
        }
        Ok(pipe.query_async::<()>(&mut self.redis).await?)
    }

    /// Publishes `count` events, `rate` a second, in the rooms in turns.
    pub(crate) async fn publish_paced(&mut self, rate: u32, count: u32, rooms: &[String]) -> Outcome<()> {
        let mut pace = interval(Duration::from_secs(1) / rate);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for room in rooms.iter().cycle().take(usize::try_from(count)?) {
            // The time at which it should have gone out: a publisher that is late counts too.
            let at = self.clock.at(pace.tick().await.into_std());
            self.publish_at(at, std::slice::from_ref(room)).await?;
        }
        Ok(())
    }

    fn command(&mut self, room: &str, at: u64) -> redis::Cmd {
        let next = self.next.entry(room.to_owned()).or_default();
        let number = *next;
        *next += 1;
        // In the order of the alphabet, in which some servers write it: what is looked for stands before the filling.
        let payload = format!(r#"{{"at":{at},"number":{number},"text":"{}"}}"#, self.fill);
        if self.peer == Peer::Hallway {
            return call(&[room], &format!(r#"{{"type":"{KIND}","payload":{payload}}}"#));
        }
        // What Hallway would make of it, so that all send the same.
        let argument = format!(
            r#"{{"event":{{"id":"01890000-0000-7000-8000-{number:012}","type":"{KIND}","priority":"NORMAL","timestamp":1700000000000,"payload":{payload},"meta":{{"room":"{room}","offset":"1700000000000-0"}}}},"requiresAck":false}}"#
        );
        let mut command = redis::cmd("PUBLISH");
        command.arg(CHANNEL).arg(format!(r#"{{"room":"{room}","argument":{argument}}}"#));
        command
    }
}
