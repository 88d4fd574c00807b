//! The canary: every few seconds a message takes the path of every event, from this node through Redis and back.
//!
//! Redis replies to `PUBLISH` when the message is on its way to the subscribers, so the wait after the reply measures
//! that path alone. A connection that brings other messages meanwhile is slow and still receiving, and gets more
//! time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::AsyncCommands;
use metrics::histogram;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::RedisBroker;
use crate::metrics::CANARY;

/// A connection that brings nothing for this long after the reply to a `PUBLISH` is not receiving.
const DEAF: Duration = Duration::from_millis(1500);
/// The bound for a connection that brings other messages first: they are less than the output buffer that Redis
/// allows a subscriber.
const LATE: Duration = Duration::from_secs(8);

/// The canaries of a node.
#[derive(Debug)]
pub(super) struct Canary {
    /// This node's own channel.
    channel: String,
    /// Number of the last canary.
    sent: AtomicU64,
    /// Messages of any kind received through pub/sub.
    received: AtomicU64,
    /// Highest number that came back.
    back: watch::Sender<u64>,
}

impl Canary {
    pub(super) fn new(channel: String) -> Self {
        Self { channel, sent: AtomicU64::new(0), received: AtomicU64::new(0), back: watch::Sender::new(0) }
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// Records a received message.
    pub(super) fn note_traffic(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that a canary came back.
    pub(super) fn note_return(&self, number: u64) {
        self.back.send_modify(|back| *back = number.max(*back));
    }

    /// Waits for a canary that Redis has sent. False when the connection is not receiving.
    async fn is_back(&self, number: u64) -> bool {
        let sent = Instant::now();
        let mut back = self.back.subscribe();
        loop {
            let received = self.received.load(Ordering::Relaxed);
            if timeout(DEAF, back.wait_for(|back| *back >= number)).await.is_ok() {
                histogram!(CANARY).record(sent.elapsed().as_secs_f64());
                return true;
            }
            // Other messages arrived since the last check: the canary may be queued behind them.
            if self.received.load(Ordering::Relaxed) == received || sent.elapsed() >= LATE {
                return false;
            }
        }
    }
}

/// Sends canaries as long as they come back, then returns the failure of the pub/sub connection. A failure of the
/// probe link is waited out: it is reported by the probe.
pub(super) async fn watch_connection(broker: &RedisBroker, every: Duration) -> String {
    let canary = &broker.canary;
    let mut turns = interval(every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns.tick().await;
    loop {
        let generation = broker.links.probe.wait_until_connected().await;
        let number = canary.sent.fetch_add(1, Ordering::Relaxed) + 1;
        let told = broker.links.probe.clone().publish::<_, _, usize>(&canary.channel, number.to_string()).await;
        match told {
            // The server that answered has no subscriber of this channel, although the subscription was confirmed.
            Ok(0) => {
                return "commands and pub/sub lead to different servers, or Redis dropped the subscriptions".to_owned();
            }
            Ok(_) if canary.is_back(number).await => {}
            Ok(_) => return "canaries do not come back through pub/sub".to_owned(),
            // The probe link failed and not the pub/sub connection, which goes on being trusted.
            Err(_) => {}
        }
        // A fresh probe connection may lead to another server, which shows at once whether pub/sub is on the same
        // one.
        tokio::select! {
            _ = turns.tick() => {}
            _ = broker.links.probe.connected_after(generation) => turns.reset(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_deaf_when_it_brings_nothing_and_slow_when_it_brings_something_else() {
        let canary = Canary::new("own".to_owned());
        let before = Instant::now();
        assert!(!canary.is_back(1).await);
        assert_eq!(before.elapsed(), DEAF);
        canary.note_return(1);
        assert!(canary.is_back(1).await);

        let before = Instant::now();
        let chatter = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                canary.note_traffic();
            }
        };
        let back = tokio::select! { back = canary.is_back(2) => back, () = chatter => unreachable!() };
        assert!(!back && before.elapsed() >= LATE, "other messages are no canary for ever");
    }
}
