//! What the handle, the IO object and the flusher of one connection share, and the locks around it.
//!
//! Three locks, never held together: `out` (what is written), `reading` (pause and waker of the reading side) and
//! `hooks`. Each operation changes the state under `out` and lets [`Shared::settle`] do the waking after it is released.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::charge::{Arriving, Charge};
use super::express::{Express, Limits};
use super::{PEER_GONE, WireConfig, flusher};

/// How long a wire that was closed after its flush waits for the peer to close its side. Closing with unread bytes of
/// the peer in the kernel resets the connection and can destroy what was just sent.
const LINGER: Duration = Duration::from_secs(2);

type Hook = Box<dyn FnOnce(&'static str) + Send>;

/// What all wires of a listener have in common.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) config: WireConfig,
    pub(super) tasks: TaskTracker,
    /// Flushers start here, because a push may come from a thread that is not of the runtime.
    pub(super) runtime: Handle,
}

/// One connection.
pub(super) struct Shared {
    pub(super) peer: SocketAddr,
    /// Where the client is, once a transport was made of the connection.
    pub(super) client: OnceLock<IpAddr>,
    pub(super) ground: Arc<Ground>,
    pub(super) out: Mutex<Out>,
    pub(super) reading: Mutex<Reading>,
    hooks: Mutex<Hooks>,
    reason: OnceLock<&'static str>,
    /// Set under `out`: the socket is shut down in both directions.
    dead: AtomicBool,
    /// News for the flusher that the socket does not tell it.
    pub(super) changed: Notify,
}

/// The outgoing side.
#[derive(Debug)]
pub(super) struct Out {
    /// Taken when hyper drops the IO object, so that a handle cannot keep the descriptor.
    pub(super) stream: Option<Arc<TcpStream>>,
    pub(super) express: Express,
    /// Hyper's task, while a write or shutdown of theirs is refused.
    pub(super) writer: Option<Waker>,
    /// The writer waits for its turn, not for the kernel, so it must be woken here.
    pub(super) writer_waits: bool,
    pub(super) flushing: bool,
    /// To be closed when everything has gone.
    pub(super) closing: bool,
    /// When a wire that was closed after its flush gives up on the peer.
    pub(super) lingers_until: Option<Instant>,
    /// When the kernel last accepted a byte; meaningful while `flushing`.
    pub(super) progressed: Instant,
    /// What it costs while it is behind.
    pub(super) charge: Charge,
    /// As `dead` of the connection, for who holds this anyway.
    dead: bool,
}

/// The incoming side.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// How many have asked for a pause: there is none once each of them has resumed.
    pub(super) pauses: u32,
    /// What arrives is thrown away until the peer closes.
    pub(super) discards: bool,
    /// A long message that is under way.
    pub(super) arriving: Option<Arriving>,
    pub(super) waker: Option<Waker>,
}

#[derive(Default)]
struct Hooks {
    called: bool,
    waiting: Vec<Hook>,
}

impl Out {
    /// Runs `act` with the outgoing state and the socket, and notes the progress it made.
    ///
    /// # Errors
    /// What `act` returned; `NotConnected` when hyper has dropped the socket.
    pub(super) fn with_stream<T>(
        &mut self,
        act: impl FnOnce(&mut Express, &TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(stream) = &self.stream else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let before = self.express.accepted();
        let result = act(&mut self.express, stream);
        if self.flushing && self.express.accepted() != before {
            self.progressed = Instant::now();
        }
        result
    }

    /// Counts what waits.
    pub(super) fn follow(&mut self) {
        self.charge.follow(self.express.pending());
    }
}

/// Gives the kernel what it takes. A single slice goes by `send`, which is cheaper than `writev`.
///
/// # Errors
/// As `send`; `WouldBlock` when the kernel takes nothing.
pub(super) fn send(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match slices {
        [only] => stream.try_write(only),
        _ => stream.try_write_vectored(slices),
    }
}

/// Like [`send`], past tokio: its note of whether the socket takes more is one more place in memory to look at, and the
/// kernel knows better. That note stays as it is, so whoever goes on to wait for the socket must [`send`] first.
///
/// # Errors
/// As `send`.
pub(super) fn send_now(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let socket = SockRef::from(stream);
    match slices {
        [only] => socket.send(only),
        _ => socket.send_vectored(slices),
    }
}

impl Shared {
    pub(super) fn new(stream: Arc<TcpStream>, peer: SocketAddr, ground: Arc<Ground>) -> Self {
        let charge = Charge::new(ground.config.backlogs.memory());
        let limits = Limits {
            bytes: ground.config.queue_bytes,
            frames: ground.config.queue_frames,
            ephemeral_bytes: ground.config.ephemeral_bytes,
        };
        Self {
            peer,
            client: OnceLock::new(),
            ground,
            out: Mutex::new(Out {
                stream: Some(stream),
                express: Express::new(limits),
                writer: None,
                writer_waits: false,
                flushing: false,
                closing: false,
                lingers_until: None,
                progressed: Instant::now(),
                charge,
                dead: false,
            }),
            reading: Mutex::new(Reading::default()),
            hooks: Mutex::new(Hooks::default()),
            reason: OnceLock::new(),
            dead: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// The first reason given, or that the peer is gone.
    pub(super) fn reason(&self) -> &'static str {
        self.blamed().unwrap_or(PEER_GONE)
    }

    pub(super) fn blamed(&self) -> Option<&'static str> {
        self.reason.get().copied()
    }

    /// Notes why the wire closes, unless that is known.
    pub(super) fn blame(&self, reason: &'static str) {
        self.reason.set(reason).ok();
    }

    /// What hyper gets to see once the wire is dead.
    pub(super) fn error(&self) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionAborted, self.reason())
    }

    /// Cuts the connection off in both directions. The caller must [`Shared::settle`] afterwards.
    pub(super) fn cut_off(&self, out: &mut Out, reason: &'static str) {
        if self.is_dead() {
            return;
        }
        self.blame(reason);
        out.express.abandon();
        if let Some(stream) = &out.stream {
            // It fails when the peer has reset the connection, which is as good.
            SockRef::from(&**stream).shutdown(std::net::Shutdown::Both).ok();
        }
        out.dead = true;
        self.dead.store(true, Ordering::Release);
    }

    /// What its slowness costs; nothing once it is dead.
    pub(super) fn cost(&self, now: Instant) -> u128 {
        let out = self.out.lock();
        let behind = if out.dead { return 0 } else { out.charge.cost(now) };
        drop(out);
        behind + self.reading.lock().arriving.as_ref().map_or(0, |arriving| arriving.cost(now))
    }

    /// Counts a long message of the peer that has begun, or does not count it any more.
    pub(super) fn arrives(self: &Arc<Self>, bytes: u64) {
        let backlogs = &self.ground.config.backlogs;
        let counts = Arriving::counts(bytes);
        if let (true, Some(arriving)) = (counts, &mut self.reading.lock().arriving) {
            return arriving.grow(bytes);
        }
        let begun = counts.then(|| Arriving::new(backlogs.memory(), bytes, backlogs.list(self)));
        let before = std::mem::replace(&mut self.reading.lock().arriving, begun);
        drop(before);
    }

    /// Cuts the connection off and wakes everyone who waits for it.
    pub(super) fn kill(self: &Arc<Self>, reason: &'static str) {
        let mut out = self.out.lock();
        self.cut_off(&mut out, reason);
        self.settle(out, true);
    }

    /// Ends every operation on the outgoing side: releases the lock, then wakes and starts what the change calls for.
    /// `news` tells that something happened which a running flusher cannot learn from the socket.
    ///
    /// **The problem.** A change of `out` may mean that hyper can write again, that a flusher is needed, or that the reading
    /// side must end. A waker may run anything, an operation on this wire included, so none is called under the lock. But
    /// between the change and the wake another thread may come, and no wake may be lost or flusher started twice.
    ///
    /// **The rule.** Decide under the lock, act after it. What was decided is taken out of `out` while the lock is held: the
    /// waker leaves its field, and `flushing` becomes true before the flusher exists.
    ///
    /// **Why it is right**, for two threads that settle one after the other:
    ///
    /// - *Both could wake hyper.* The first takes the waker. Hyper puts another one in only under the lock, after it tried
    ///   again and was refused, and then the next settle sees that one.
    /// - *Both could start a flusher.* The second sees `flushing`. The flusher clears it under the lock, in the step that
    ///   finds nothing left to do, and settles as well: what came since starts the next one.
    /// - *The flusher runs and waits for the socket.* A close or a kill does not show there, so `news` wakes it. `Notify`
    ///   keeps one permit, so a wake before it waits is not lost.
    ///
    /// **Example.** A push finds the kernel full and queues 3 frames: `is_behind`, a flusher starts. A second push queues a
    /// fourth: `flushing` is true, nothing to do. The flusher writes all four, the refused ping of hyper has its turn, and
    /// this settle wakes hyper. A dead wire wakes both sides and starts nothing.
    pub(super) fn settle(self: &Arc<Self>, mut out: MutexGuard<'_, Out>, news: bool) {
        out.follow();
        let dead = out.dead;
        let writer = if dead || (out.writer_waits && out.express.their_turn()) { out.writer.take() } else { None };
        let running = out.flushing;
        let starts = !running && !dead && (out.closing || out.express.is_behind());
        if starts {
            out.flushing = true;
            out.progressed = Instant::now();
        }
        drop(out);
        if let Some(writer) = writer {
            writer.wake();
        }
        if dead {
            self.wake_reader();
        }
        if running && news {
            self.changed.notify_one();
        }
        if starts {
            let flusher = flusher::run(Arc::clone(self));
            self.ground.tasks.spawn_on(flusher, &self.ground.runtime);
        }
    }

    pub(super) fn wake_reader(&self) {
        let reader = self.reading.lock().waker.take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Half-closes the connection, and lets the reading side discard what comes until the peer closes too.
    pub(super) fn linger(&self, out: &mut Out) {
        out.express.end();
        if let Some(stream) = &out.stream {
            SockRef::from(&**stream).shutdown(std::net::Shutdown::Write).ok();
        }
        out.lingers_until = Some(Instant::now() + LINGER.min(self.ground.config.write_deadline));
    }

    pub(super) fn add_hook(&self, hook: Hook) {
        let mut hooks = self.hooks.lock();
        if !hooks.called {
            hooks.waiting.push(hook);
            return;
        }
        drop(hooks);
        hook(self.reason());
    }

    /// Calls the hooks, the first time. Only hyper's side calls this, so never inside a push or kill.
    pub(super) fn call_hooks(&self) {
        let mut hooks = self.hooks.lock();
        hooks.called = true;
        let waiting = std::mem::take(&mut hooks.waiting);
        drop(hooks);
        for hook in waiting {
            hook(self.reason());
        }
    }
}
