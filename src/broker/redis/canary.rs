//! The canary: every few seconds a message goes the way of every event, from this node through Redis and back.
//!
//! Redis' answer to `PUBLISH` says that the message is on its way to the subscribers, so what is waited for behind it
//! is the way alone. A connection that brings other messages meanwhile is slow and not deaf, and gets more time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::AsyncCommands;
use metrics::histogram;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::RedisBroker;
use crate::metrics::CANARY;

/// A connection that brings nothing for so long behind the answer to a `PUBLISH` is deaf.
const DEAF: Duration = Duration::from_millis(1500);
/// One that brings other messages has so long to bring the canary: what it has to carry before that is less than Redis
/// lets wait for a subscriber.
const LATE: Duration = Duration::from_secs(8);

/// See the module.
#[derive(Debug)]
pub(super) struct Canary {
    /// This node's own channel.
    channel: String,
    sent: AtomicU64,
    /// Messages of any kind that came through pub/sub.
    heard: AtomicU64,
    back: watch::Sender<u64>,
}

impl Canary {
    pub(super) fn new(channel: String) -> Self {
        Self { channel, sent: AtomicU64::new(0), heard: AtomicU64::new(0), back: watch::Sender::new(0) }
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// Notes that something came.
    pub(super) fn heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the canary of this number came back.
    pub(super) fn came(&self, number: u64) {
        self.back.send_modify(|back| *back = number.max(*back));
    }

    /// Waits for a canary that Redis has sent. False when the connection is deaf.
    async fn is_back(&self, number: u64) -> bool {
        let sent = Instant::now();
        let mut back = self.back.subscribe();
        loop {
            let heard = self.heard.load(Ordering::Relaxed);
            if timeout(DEAF, back.wait_for(|back| *back >= number)).await.is_ok() {
                histogram!(CANARY).record(sent.elapsed().as_secs_f64());
                return true;
            }
            if self.heard.load(Ordering::Relaxed) == heard || sent.elapsed() >= LATE {
                return false;
            }
        }
    }
}

/// Sends canaries for as long as they come back; then says what is wrong with the pub/sub connection. What is wrong with
/// the link for probes is not its matter: it waits for that.
pub(super) async fn watch(broker: &RedisBroker, every: Duration) -> String {
    let canary = &broker.canary;
    let mut turns = interval(every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns.tick().await;
    loop {
        let generation = broker.links.probe.connected().await;
        let number = canary.sent.fetch_add(1, Ordering::Relaxed) + 1;
        let told = broker.links.probe.clone().publish::<_, _, usize>(&canary.channel, number.to_string()).await;
        match told {
            // The server that answers probes has no subscriber of this channel, though one was confirmed.
            Ok(0) => {
                return "commands and pub/sub lead to different servers, or Redis dropped the subscriptions".to_owned();
            }
            Ok(_) if canary.is_back(number).await => {}
            Ok(_) => return "canaries do not come back through pub/sub".to_owned(),
            Err(_) => {}
        }
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
        canary.came(1);
        assert!(canary.is_back(1).await);

        let before = Instant::now();
        let chatter = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                canary.heard();
            }
        };
        let back = tokio::select! { back = canary.is_back(2) => back, () = chatter => unreachable!() };
        assert!(!back && before.elapsed() >= LATE, "other messages are no canary for ever");
    }
}
