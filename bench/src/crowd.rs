//! Many sockets in one room, and how long each event takes to each of them.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Outcome;
use crate::client::Client;
use crate::report::Latency;

/// Handshakes that are under way at a time.
const AT_ONCE: usize = 20;
/// Longer than the last event of a run is on its way.
const PATIENCE: Duration = Duration::from_secs(30);

/// The sockets; they read until this is dropped.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) size: usize,
    heard: Rc<Heard>,
    _readers: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Heard {
    deliveries: Cell<u32>,
    micros: RefCell<Vec<u32>>,
    gone: Cell<usize>,
    /// Events twice, out of order, or behind a gap.
    untrue: Cell<usize>,
}

/// The clock of publisher and readers, microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> u64 {
        self.at(Instant::now())
    }

    pub(crate) fn at(self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.0).as_micros()).unwrap_or(u64::MAX)
    }
}

impl Crowd {
    /// So many sockets, each of a user of its own.
    pub(crate) async fn gather(address: SocketAddr, room: &str, size: usize, clock: Clock) -> Outcome<Self> {
        let heard = Rc::new(Heard::default());
        let (mut readers, mut arriving) = (JoinSet::new(), JoinSet::new());
        for number in 0..size {
            let room = room.to_owned();
            arriving.spawn_local(async move {
                let mut client = Client::connect(address, &format!("u{number}"), None).await?;
                client.join(&room).await.map(|()| client)
            });
            if arriving.len() == AT_ONCE
                && let Some(arrived) = arriving.join_next().await
            {
                readers.spawn_local(read(arrived??, heard.clone(), clock));
            }
        }
        while let Some(arrived) = arriving.join_next().await {
            readers.spawn_local(read(arrived??, heard.clone(), clock));
        }
        Ok(Self { size, heard, _readers: readers })
    }

    /// Forgets what was heard so far.
    pub(crate) fn forget(&self) {
        self.heard.deliveries.set(0);
        self.heard.micros.borrow_mut().clear();
    }

    /// Waits until everybody has had so many events since the last [`forget`](Self::forget).
    pub(crate) async fn has_heard(&self, events: u32) -> Outcome<()> {
        let expected = events * u32::try_from(self.size)?;
        let began = Instant::now();
        while self.heard.deliveries.get() < expected {
            if self.heard.gone.get() > 0 {
                return Err(format!("{} sockets were closed", self.heard.gone.get()).into());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("{} of {expected} deliveries came", self.heard.deliveries.get()).into());
            }
            sleep(Duration::from_millis(5)).await;
        }
        match self.heard.untrue.get() {
            0 => Ok(()),
            count => Err(format!("{count} events came twice, out of order, or behind a gap").into()),
        }
    }

    pub(crate) fn latency(&self) -> Latency {
        Latency::of(self.heard.micros.borrow().clone())
    }
}

async fn read(mut client: Client, heard: Rc<Heard>, clock: Clock) {
    let mut last = None;
    while let Some(frame) = client.next().await {
        let Some(at) = number_after(&frame, r#""at":"#) else { continue };
        let number = number_after(&frame, r#""number":"#);
        // Each publish counts from zero.
        if number != Some(0) && number != last.map(|last: u64| last + 1) {
            heard.untrue.set(heard.untrue.get() + 1);
        }
        last = number;
        heard.deliveries.set(heard.deliveries.get() + 1);
        heard.micros.borrow_mut().push(u32::try_from(clock.now().saturating_sub(at)).unwrap_or(u32::MAX));
    }
    heard.gone.set(heard.gone.get() + 1);
}

/// What the publisher wrote into the payload.
fn number_after(frame: &str, name: &str) -> Option<u64> {
    let (_, rest) = frame.split_once(name)?;
    rest.split([',', '}']).next()?.parse().ok()
}
