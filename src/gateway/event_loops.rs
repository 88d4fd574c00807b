//! The event loops: a thread each, with the clients that live in it, their sessions, and a hub that delivers to them. Loops
//! share no lock on the way of an event.
//!
//! **The problem.** A thousand clients that reconnect at once are some hundred milliseconds of work: commands to parse, large
//! answers to write. Connected clients must not wait until that is done, and a runtime runs its tasks in turn.
//!
//! **The rule.** A loop is a runtime with one thread. The dispatch of its hub is no task among the others but the future that
//! the thread itself waits for: the runtime looks at it after every [`TASKS_BETWEEN`] tasks, however many are ready. So an
//! event waits for a few short steps of other clients and never for all of them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use futures_util::future::BoxFuture;
use metrics::{Gauge, gauge};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::essential::run_essential;
use crate::metrics::LOOP_CONNECTIONS;

/// Tasks that a loop runs before it looks at its dispatch and at its sockets again: a step of one is ten microseconds, or a
/// millisecond where it composes a large answer.
/// Each look costs a system call, so a smaller number would cost more than it gives.
const TASKS_BETWEEN: u32 = 4;

/// The loops of a node. Dropping them ends their threads.
#[derive(Debug)]
pub(super) struct EventLoops(Vec<EventLoop>);

/// One loop.
pub(super) struct EventLoop {
    runtime: Handle,
    load: LoopLoad,
    /// The way to the thread, for the dispatch; `None` once it has it, or without a thread.
    dispatch: Mutex<Option<oneshot::Sender<BoxFuture<'static, ()>>>>,
    /// The thread ends when this is dropped.
    _ends: Option<oneshot::Sender<()>>,
}

/// How many connections a loop has. Clones share the number.
#[derive(Clone, Debug)]
pub(super) struct LoopLoad {
    connections: Arc<AtomicUsize>,
    shown: Gauge,
}

/// A connection of a loop, counted until it is dropped.
#[derive(Debug)]
pub(super) struct LoopShare(LoopLoad);

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventLoop({:?})", self.load)
    }
}

impl LoopLoad {
    fn new(event_loop: usize) -> Self {
        Self { connections: Arc::default(), shown: gauge!(LOOP_CONNECTIONS, "loop" => event_loop.to_string()) }
    }

    /// How many connections the loop has.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts one more connection.
    pub(super) fn add_connection(&self) -> LoopShare {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.shown.increment(1.0);
        LoopShare(self.clone())
    }
}

impl Drop for LoopShare {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.shown.decrement(1.0);
    }
}

impl EventLoops {
    /// Starts a thread for each loop.
    pub(super) fn start_threads(count: usize) -> io::Result<Self> {
        Ok(Self((0..count).map(EventLoop::start_thread).collect::<io::Result<_>>()?))
    }

    /// Without threads, for a gateway that is built but not run.
    pub(super) fn without_threads(count: usize) -> Self {
        let idle = |event_loop| EventLoop {
            runtime: Handle::current(),
            load: LoopLoad::new(event_loop),
            dispatch: Mutex::default(),
            _ends: None,
        };
        Self((0..count).map(idle).collect())
    }

    /// The loops, by their index.
    pub(super) fn all(&self) -> &[EventLoop] {
        &self.0
    }
}

impl EventLoop {
    fn start_thread(event_loop: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().event_interval(TASKS_BETWEEN).build()?;
        let (dispatch, of_thread) = oneshot::channel::<BoxFuture<'static, ()>>();
        let (ends, ended) = oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        thread::Builder::new().name(format!("loop-{event_loop}")).spawn(move || {
            runtime.block_on(async {
                // Without a dispatch the gateway could not be built, and the thread has nothing to do.
                if let Ok(dispatch) = of_thread.await {
                    dispatch.await;
                }
                // Behind the dispatch, because the last transports close after it.
                ended.await.ok();
            });
            runtime.shutdown_background();
        })?;
        let (load, dispatch) = (LoopLoad::new(event_loop), Mutex::new(Some(dispatch)));
        Ok(Self { runtime: handle, load, dispatch, _ends: Some(ends) })
    }

    /// The runtime of the loop.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// How many connections it has.
    pub(super) fn load(&self) -> &LoopLoad {
        &self.load
    }

    /// Runs the dispatch of the loop's hub, before all tasks. `tasks` owns it.
    pub(super) fn run_dispatch(&self, dispatch: impl Future<Output = ()> + Send + 'static, tasks: &TaskTracker) {
        let owned = tasks.track_future(run_essential("dispatch", dispatch));
        if let Some(thread) = self.dispatch.lock().take() {
            // The thread waits for it, and ends only with the loop.
            thread.send(Box::pin(owned)).ok();
        }
    }
}
