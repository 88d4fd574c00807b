//! The task of a compact reader.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use super::adopted::TurnEnd;
use super::schedule::{Schedule, SchedulePlace};
use super::{Adopted, Arrivals};
use crate::essential::run_essential;
use crate::wire::HandOver;
use crate::wire::ready::ReadyList;

/// Bytes of the scratch buffer. A door that pauses a peer still gets the commands of one read, so it is not large.
const SCRATCH: usize = 4096;
/// Wires served before other tasks have their turn: the dispatch of the loop must not wait for many of them.
const AT_ONCE: usize = 8;
/// How long a reader sleeps that has no wire.
const LONGEST: Duration = Duration::from_hours(1);

/// Ends a reader when it is dropped, behind its last wire.
#[derive(Debug)]
struct ReaderGuard(Arc<Arrivals>);

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A reader, as a listener knows it.
#[derive(Debug)]
pub(in crate::wire) struct StartedReader {
    /// Where wires are handed over.
    pub(in crate::wire) arrivals: Arc<Arrivals>,
    /// Where they are listed when they have something to be read.
    pub(in crate::wire) ready: Arc<ReadyList>,
    /// Ends it.
    _guard: ReaderGuard,
}

/// Starts a reader.
pub(in crate::wire) fn start_reader(settings: &HandOver, tasks: &TaskTracker, runtime: &Handle) -> StartedReader {
    let ready = Arc::new(ReadyList::default());
    let arrivals = Arc::new(Arrivals::new(ready.clone()));
    let shortest = settings.ping_interval.min(settings.ping_timeout);
    let schedule = Schedule::new(Instant::now(), shortest);
    let reader = CompactReader { arrivals: arrivals.clone(), wires: Slab::new(), schedule, settings: *settings };
    tasks.spawn_on(run_essential("compact reader", reader.serve_wires()), runtime);
    StartedReader { arrivals: arrivals.clone(), ready, _guard: ReaderGuard(arrivals) }
}

/// One reader; see the module above.
struct CompactReader {
    arrivals: Arc<Arrivals>,
    /// Boxed, because a slab that grows is copied, and has room for as many again.
    wires: Slab<Box<Adopted>>,
    schedule: Schedule,
    settings: HandOver,
}

impl CompactReader {
    async fn serve_wires(mut self) {
        let (mut scratch, mut emptied) = (vec![0; SCRATCH], Vec::new());
        loop {
            let (arrived, none_comes) = self.arrivals.take_arrived();
            if none_comes && arrived.is_empty() && self.wires.is_empty() {
                return;
            }
            for adopted in arrived {
                let key = self.adopt(adopted);
                self.serve_wire(key, &mut scratch);
            }
            let mut woken = self.arrivals.ready.take_woken(emptied);
            for batch in woken.chunks(AT_ONCE) {
                batch.iter().for_each(|key| self.serve_wire(*key, &mut scratch));
                // The kernel is asked for news in between, and other tasks of the loop run.
                yield_now().await;
            }
            while self.meet_due(&mut scratch) {
                yield_now().await;
            }
            woken.clear();
            emptied = woken;
            // The last wire may have ended just now, and nothing more would wake the reader.
            if none_comes && self.wires.is_empty() {
                continue;
            }
            let next = self.schedule.next_time().unwrap_or_else(|| Instant::now() + LONGEST);
            // A timeout is no error: something is due then.
            timeout_at(next, self.arrivals.ready.news.notified()).await.ok();
        }
    }

    fn adopt(&mut self, adopted: Adopted) -> usize {
        let key = self.wires.insert(Box::new(adopted));
        self.wires[key].readiness().begin(key);
        key
    }

    /// Does what is due, of some wires; true if more may be.
    fn meet_due(&mut self, scratch: &mut [u8]) -> bool {
        let now = Instant::now();
        for _ in 0..AT_ONCE {
            let Some(key) = self.schedule.take_due(now) else { return false };
            let Some(adopted) = self.wires.get_mut(key) else { continue };
            adopted.place = SchedulePlace::default();
            adopted.meet_time(now, &self.settings);
            // It may be closed by what was due, which a look finds out.
            self.serve_wire(key, scratch);
        }
        true
    }

    fn serve_wire(&mut self, key: usize, scratch: &mut [u8]) {
        // The wire was closed behind the news that listed it.
        let Some(adopted) = self.wires.get_mut(key) else { return };
        adopted.readiness().unlist();
        // A panic over what one peer sent costs that peer its transport, as where each has a task of its own.
        let read = AssertUnwindSafe(|| adopted.read_peer(scratch));
        let end = catch_unwind(read).unwrap_or(TurnEnd::Over);
        let due = adopted.due().filter(|_| end != TurnEnd::Over);
        self.schedule.set_time(key, &mut adopted.place, due);
        match end {
            TurnEnd::Waits => {}
            TurnEnd::Again => adopted.list_again(),
            TurnEnd::Over => drop(self.wires.remove(key)),
        }
    }
}
