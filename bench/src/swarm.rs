//! Thousands of raw sockets in rooms: each holds its events against their numbers, and notes how late they are.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::crowd::Clock;
use crate::raw::Raw;
use crate::report::Latency;
use crate::{Outcome, server};

/// An event that has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(60);
/// A payload's time and number stand this near to the beginning of a frame.
const NEAR: usize = 512;

/// The sockets; they read until this is dropped.
#[derive(Debug)]
pub(crate) struct Swarm {
    heard: Rc<Heard>,
    _readers: JoinSet<()>,
}

/// Who is to be there.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) sockets: usize,
    /// The room of each, by its number.
    pub(crate) room: fn(usize) -> String,
    /// Handshakes under way at a time.
    pub(crate) at_once: usize,
    /// Bytes of claims in each token.
    pub(crate) claims: usize,
}

/// What all of them heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    deliveries: Cell<u64>,
    /// Events twice, out of order, or behind a gap.
    untrue: Cell<u64>,
    gone: Cell<u64>,
    micros: RefCell<Vec<u32>>,
}

impl Swarm {
    /// Brings them in.
    pub(crate) async fn gather(address: SocketAddr, plan: &Plan, clock: Clock) -> Outcome<Self> {
        let (heard, mut readers, mut arriving) = (Rc::new(Heard::default()), JoinSet::new(), JoinSet::new());
        for number in 0..plan.sockets {
            let token = server::token_padded(&format!("u{number}"), plan.claims)?;
            let room = (plan.room)(number);
            arriving.spawn_local(async move {
                let mut raw = Raw::connect(address, &token).await?;
                raw.join(&room).await.map(|()| raw)
            });
            if arriving.len() >= plan.at_once
                && let Some(arrived) = arriving.join_next().await
            {
                readers.spawn_local(heard.clone().listen(arrived??, clock));
            }
        }
        while let Some(arrived) = arriving.join_next().await {
            readers.spawn_local(heard.clone().listen(arrived??, clock));
        }
        Ok(Self { heard, _readers: readers })
    }

    /// Waits until so many deliveries have come in all; each must have been the next of its socket.
    pub(crate) async fn has_heard(&self, deliveries: u64) -> Outcome<()> {
        let began = Instant::now();
        while self.heard.deliveries.get() < deliveries && began.elapsed() < PATIENCE && self.heard.gone.get() == 0 {
            sleep(Duration::from_millis(2)).await;
        }
        let (came, untrue, gone) = (self.heard.deliveries.get(), self.heard.untrue.get(), self.heard.gone.get());
        if came != deliveries || untrue > 0 || gone > 0 {
            return Err(format!(
                "{came} of {deliveries} deliveries came, {untrue} of them twice, out of order, or behind a gap; {gone} sockets were closed"
            )
            .into());
        }
        Ok(())
    }

    /// How late events were since the last time this was asked.
    pub(crate) fn take_latency(&self) -> Latency {
        Latency::of(self.heard.micros.take())
    }
}

impl Heard {
    async fn listen(self: Rc<Self>, mut raw: Raw, clock: Clock) {
        let mut next = 0;
        let mut each = |text: &str| self.note_event(text, &mut next, clock);
        while raw.read_frames(&mut each).await {}
        self.gone.set(self.gone.get() + 1);
    }

    fn note_event(&self, text: &str, next: &mut u64, clock: Clock) {
        let Some((at, number)) = time_and_number(text) else { return };
        self.deliveries.set(self.deliveries.get() + 1);
        if number != *next {
            self.untrue.set(self.untrue.get() + 1);
        }
        *next = number + 1;
        self.micros.borrow_mut().push(u32::try_from(clock.now().saturating_sub(at)).unwrap_or(u32::MAX));
    }
}

/// What [`Feed`](crate::feed::Feed) wrote at the beginning of the payload.
pub(crate) fn time_and_number(text: &str) -> Option<(u64, u64)> {
    let near = text.get(..NEAR.min(text.len()))?;
    let (_, rest) = near.split_once(r#""at":"#)?;
    let (at, rest) = rest.split_once(r#","number":"#)?;
    Some((at.parse().ok()?, rest.split(',').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(numbers: &[u64], untrue: u64) {
        let (heard, mut next) = (Heard::default(), 0);
        for number in numbers {
            let text = format!(r#"42/realtime,["t",{{"event":{{"payload":{{"at":1,"number":{number},"text":""}}}}}}]"#);
            heard.note_event(&text, &mut next, Clock::start());
        }
        assert_eq!((heard.deliveries.get(), heard.untrue.get()), (numbers.len() as u64, untrue));
    }

    #[test]
    fn an_event_that_is_not_the_next_counts() {
        check(&[0, 1, 2], 0);
        check(&[0, 2], 1);
        check(&[0, 0], 1);
        check(&[0, 2, 1], 2);
        check(&[1], 1);
    }
}
