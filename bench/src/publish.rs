//! The publisher: so many events a second into one room, each with the time it was published.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::Outcome;
use crate::crowd::Clock;

const KIND: &str = "order.status_changed";

/// How an event gets to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `FCALL hallway_publish`: stored, and sent to the sockets that are there.
    Function,
    /// `PUBLISH` of a ready envelope: sent to the sockets that are there.
    Channel(&'static str),
}

/// A publisher of one room.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) redis: MultiplexedConnection,
    pub(crate) way: Way,
    pub(crate) room: &'static str,
    /// Bytes of payload beside the time.
    pub(crate) fill: usize,
    pub(crate) clock: Clock,
}

impl Publisher {
    /// Publishes `count` events, `rate` a second.
    pub(crate) async fn publish(&mut self, rate: u32, count: u32) -> Outcome<()> {
        let mut pace = interval(Duration::from_secs(1) / rate);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in 0..count {
            // The time at which it should have gone out: a publisher that is late counts too.
            let command = self.command(number, self.clock.at(pace.tick().await.into_std()));
            command.query_async::<redis::Value>(&mut self.redis).await?;
        }
        Ok(())
    }

    fn command(&self, number: u32, at: u64) -> redis::Cmd {
        let payload = json!({"at": at, "fill": "x".repeat(self.fill), "number": number});
        match self.way {
            Way::Function => {
                let event = json!({"type": KIND, "payload": payload});
                call(&[self.room], &event.to_string())
            }
            Way::Channel(channel) => {
                let mut command = redis::cmd("PUBLISH");
                command.arg(channel).arg(self.envelope(number, &payload).to_string());
                command
            }
        }
    }

    /// What Hallway would make of it, so that both servers send the same.
    fn envelope(&self, number: u32, payload: &serde_json::Value) -> serde_json::Value {
        let (id, offset) = (format!("01890000-0000-7000-8000-{number:012}"), format!("{}-0", 1_700_000_000_000_u64));
        let event = json!({
            "id": id, "type": KIND, "priority": "NORMAL", "timestamp": 1_700_000_000_000_u64, "payload": payload,
            "meta": {"room": self.room, "offset": offset},
        });
        json!({"room": self.room, "argument": {"event": event, "requiresAck": false}})
    }
}

/// A call of the function.
pub(crate) fn call(rooms: &[&str], event: &str) -> redis::Cmd {
    let mut command = redis::cmd("FCALL");
    command.arg("hallway_publish").arg(rooms.len());
    for room in rooms {
        command.arg(format!("hallway:{{{room}}}"));
    }
    command.arg(event);
    command
}
