//! The state that the handle, the IO object and the flusher of one connection share, and its locks.
//!
//! Three locks, never held together: `out` (the outgoing side), `reading` (pause and waker of the reading side) and
//! `hooks`. Each operation changes the state under `out` and leaves the waking to [`WireShared::release_and_wake`], which does it
//! after it has released the lock.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::backlogs::Sheddable;
use super::charge::{IncomingMessage, MessageCharge};
use super::outbox::{Outbox, OutboxLimits};
use super::ready::{Readiness, ReadyList};
use super::{Heir, MEMORY_FULL, PEER_GONE, WireConfig};

mod flusher;

/// How long a wire that was closed after its flush waits for the peer to close its side. A close with unread bytes of
/// the peer in the kernel resets the connection and can destroy the bytes that were just sent.
const LINGER: Duration = Duration::from_secs(2);

type Hook = Box<dyn FnOnce(&'static str) + Send>;

/// What all wires of a listener have in common.
#[derive(Debug)]
pub(super) struct ListenerContext {
    /// Bounds and deadlines of each wire.
    pub(super) config: WireConfig,
    /// Where flushers are spawned; a shutdown waits for them.
    pub(super) tasks: TaskTracker,
    /// The list of the reader of wires that are handed over; none where none is.
    pub(super) ready: Option<Arc<ReadyList>>,
    /// Where flushers run: a push may come from a thread outside of the runtime, on which `spawn` would panic.
    pub(super) runtime: Handle,
    /// The event loop that the wires live in, an index among those of the node.
    pub(super) event_loop: usize,
}

/// One connection.
pub(super) struct WireShared {
    /// The address of the socket's other end, which may be a proxy.
    pub(super) peer: SocketAddr,
    /// The address of the client behind proxies; set once the connection was upgraded.
    pub(super) client: OnceLock<IpAddr>,
    pub(super) ground: Arc<ListenerContext>,
    /// The outgoing side; each push takes this lock, so it is held for moments only.
    pub(super) out: Mutex<Outgoing>,
    /// The incoming side.
    pub(super) reading: Mutex<IncomingState>,
    /// Callbacks for the end of the connection.
    hooks: Mutex<Hooks>,
    /// The close reason; the first one wins.
    reason: OnceLock<&'static str>,
    /// Set under `out` once the socket is shut down in both directions; readable without that lock.
    dead: AtomicBool,
    /// Wakes the flusher for a change that the socket does not report, such as a kill.
    pub(super) changed: Notify,
    /// Where it stands with the compact reader.
    pub(super) readiness: Readiness,
}

/// The outgoing side.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Taken when hyper drops the IO object, so that a handle cannot keep the descriptor.
    pub(super) stream: Option<Arc<TcpStream>>,
    /// Decides which bytes go next.
    pub(super) express: Outbox,
    /// Hyper's task, while its write or shutdown waits.
    pub(super) writer: Option<Waker>,
    /// True while the writer waits for its turn in the queue and not for the kernel: then tokio does not wake it, and
    /// `settle` has to.
    pub(super) writer_waits: bool,
    /// Whether a flusher runs; at most one does.
    pub(super) flushing: bool,
    /// Whether the wire closes once its queue is empty.
    pub(super) closing: bool,
    /// After the flush of a closing wire: until when it waits for the peer to close.
    pub(super) lingers_until: Option<Instant>,
    /// Whether the socket was taken from the library, whose writes are swallowed then.
    pub(super) handed_over: bool,
    /// When the kernel last accepted a byte; meaningful while `flushing`.
    pub(super) progressed: Instant,
    /// What the backlog costs the node.
    pub(super) charge: MessageCharge,
    /// A copy of the connection's `dead` for holders of this lock: it spares them a load from another cache line.
    dead: bool,
}

/// The incoming side.
#[derive(Debug, Default)]
pub(super) struct IncomingState {
    /// Number of pauses in force; the peer is read from again when each has been resumed.
    pub(super) pauses: u32,
    /// Whether incoming bytes are thrown away until the peer closes.
    pub(super) discards: bool,
    /// The memory of a long message that is under way.
    pub(super) arriving: Option<IncomingMessage>,
    /// Hyper's reading task, woken by a kill or a resume.
    pub(super) waker: Option<Waker>,
}

#[derive(Default)]
struct Hooks {
    /// Whether the end was reported; a later hook is then called at once.
    called: bool,
    /// Hooks to call at the end.
    waiting: Vec<Hook>,
    /// What reads for the door from a hand-over on; dropped at the end, since its sessions hold the wire.
    heir: Option<Arc<dyn Heir>>,
}

/// Whether the peer may be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MayRead {
    Yes,
    Paused,
    Discard,
    Dead,
}

impl IncomingState {
    pub(super) fn may_read(&self, dead: bool) -> MayRead {
        // The order matters: a dead wire reports its error even while paused, and a closing wire discards even while
        // paused, because otherwise it would never see the peer close.
        match self {
            _ if dead => MayRead::Dead,
            Self { discards: true, .. } => MayRead::Discard,
            Self { pauses: 1.., .. } => MayRead::Paused,
            Self { .. } => MayRead::Yes,
        }
    }
}

impl Outgoing {
    /// Runs `act` with the outgoing state and the socket, and notes the progress it made.
    ///
    /// # Errors
    /// What `act` returned; `NotConnected` when hyper has dropped the socket.
    #[inline]
    pub(super) fn with_stream<T>(
        &mut self,
        act: impl FnOnce(&mut Outbox, &TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(stream) = &self.stream else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let before = self.express.accepted_bytes();
        let result = act(&mut self.express, stream);
        // The clock is read only while a flusher watches the write deadline: a push on a wire that keeps up stays
        // cheap.
        if self.flushing && self.express.accepted_bytes() != before {
            self.progressed = Instant::now();
        }
        result
    }

    /// Updates the cost of the backlog.
    pub(super) fn update_charge(&mut self) {
        self.charge.note_pending(self.express.pending());
    }
}

/// Writes as much as the kernel takes. A single slice goes by `send`, which is cheaper than `writev`.
pub(super) fn send_slices(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match slices {
        [only] => stream.try_write(only),
        _ => stream.try_write_vectored(slices),
    }
}

/// Like [`send_slices`], but without tokio's readiness check: that is one more cache line to load, and the kernel knows
/// better. Tokio's readiness stays as it was, so a caller that goes on to wait for the socket must call [`send_slices`] first.
pub(super) fn send_now(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let socket = SockRef::from(stream);
    match slices {
        [only] => socket.send(only),
        _ => socket.send_vectored(slices),
    }
}

// `Interrupted` is a signal during the call; like `WouldBlock` it says nothing about the connection.
pub(super) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The kernel's news of a wire without the library.
impl Wake for WireShared {
    fn wake(self: Arc<Self>) {
        self.mark_ready();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.mark_ready();
    }
}

impl Sheddable for WireShared {
    fn cost(&self, now: Instant) -> u128 {
        let out = self.out.lock();
        let behind = if out.dead { return 0 } else { out.charge.cost(now) };
        // The two locks are never held together.
        drop(out);
        behind + self.reading.lock().arriving.as_ref().map_or(0, |arriving| arriving.cost(now))
    }

    fn shed(self: Arc<Self>) {
        self.close_at_once(MEMORY_FULL);
        // Half received messages are dropped with the connection, a moment later. They are released here already:
        // otherwise the list would close another wire for memory that is about to be free.
        self.count_incoming(0);
    }
}

impl WireShared {
    pub(super) fn new(stream: Arc<TcpStream>, peer: SocketAddr, ground: Arc<ListenerContext>) -> Self {
        let charge = MessageCharge::new(ground.config.backlogs.memory());
        // Copied out: `express` is a calculator that knows no configuration.
        let limits = OutboxLimits {
            bytes: ground.config.queue_bytes,
            frames: ground.config.queue_frames,
            ephemeral_bytes: ground.config.ephemeral_bytes,
        };
        let mut express = Outbox::new(limits);
        if let Some(settings) = &ground.config.hand_over {
            express.watch_texts(settings);
        }
        Self {
            peer,
            client: OnceLock::new(),
            ground,
            out: Mutex::new(Outgoing {
                stream: Some(stream),
                express,
                writer: None,
                writer_waits: false,
                flushing: false,
                closing: false,
                lingers_until: None,
                handed_over: false,
                progressed: Instant::now(),
                charge,
                dead: false,
            }),
            reading: Mutex::new(IncomingState::default()),
            hooks: Mutex::new(Hooks::default()),
            reason: OnceLock::new(),
            dead: AtomicBool::new(false),
            changed: Notify::new(),
            readiness: Readiness::default(),
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// The close reason: the first one given, or that the peer is gone.
    pub(super) fn close_reason_or_gone(&self) -> &'static str {
        self.close_reason().unwrap_or(PEER_GONE)
    }

    pub(super) fn close_reason(&self) -> Option<&'static str> {
        self.reason.get().copied()
    }

    /// Sets the close reason, unless one is set.
    pub(super) fn note_close_reason(&self, reason: &'static str) {
        self.reason.set(reason).ok();
    }

    /// The error that hyper gets once the wire is dead.
    pub(super) fn closed_error(&self) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionAborted, self.close_reason_or_gone())
    }

    /// Cuts the connection off in both directions. The caller must [`WireShared::release_and_wake`] afterwards.
    pub(super) fn cut_off(&self, out: &mut Outgoing, reason: &'static str) {
        if self.is_dead() {
            return;
        }
        // The reason is set before `dead`: a thread that sees the wire dead also sees why.
        self.note_close_reason(reason);
        out.express.drop_all();
        if let Some(stream) = &out.stream {
            // This fails when the peer has reset the connection, and then there is nothing to shut down.
            SockRef::from(&**stream).shutdown(std::net::Shutdown::Both).ok();
        }
        out.dead = true;
        self.dead.store(true, Ordering::Release);
    }

    /// This wire as the list of backlogs keeps it.
    fn listable(self: &Arc<Self>) -> Weak<dyn Sheddable> {
        let weak: Weak<Self> = Arc::downgrade(self);
        weak
    }

    /// Reserves memory for a message of the peer that has begun with `bytes`, or releases it when `bytes` is small or
    /// 0.
    pub(super) fn count_incoming(self: &Arc<Self>, bytes: u64) {
        let backlogs = &self.ground.config.backlogs;
        let counts = IncomingMessage::is_long_enough(bytes);
        if let (true, Some(arriving)) = (counts, &mut self.reading.lock().arriving) {
            return arriving.set_length(bytes);
        }
        let begun =
            counts.then(|| IncomingMessage::new(backlogs.memory(), bytes, backlogs.register_wire(self.listable())));
        // Dropped outside the lock: it unlists the wire, which takes the lock of the list.
        let before = std::mem::replace(&mut self.reading.lock().arriving, begun);
        drop(before);
    }

    /// Cuts the connection off and wakes hyper and the flusher.
    pub(super) fn close_at_once(self: &Arc<Self>, reason: &'static str) {
        let mut out = self.out.lock();
        self.cut_off(&mut out, reason);
        self.release_and_wake(out, true);
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
    pub(super) fn release_and_wake(self: &Arc<Self>, mut out: MutexGuard<'_, Outgoing>, news: bool) {
        out.update_charge();
        let dead = out.dead;
        // A dead wire wakes hyper too, so that its pending write fails instead of waiting for ever.
        let writer = if dead || (out.writer_waits && out.express.their_turn()) { out.writer.take() } else { None };
        let running = out.flushing;
        let starts = !running && !dead && (out.closing || out.express.is_behind());
        // Claimed under the lock: two pushes at once must not start two flushers. The write deadline counts from here.
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
            let flusher = flusher::run_flusher(Arc::clone(self));
            self.ground.tasks.spawn_on(flusher, &self.ground.runtime);
        }
    }

    /// Has the peer's bytes looked at again, by hyper or by the compact reader.
    pub(super) fn wake_reader(&self) {
        let reader = self.reading.lock().waker.take();
        if let Some(reader) = reader {
            reader.wake();
        }
        self.mark_ready();
    }

    /// Has the compact reader look at the wire, if it was handed over.
    pub(super) fn mark_ready(&self) {
        if let Some(ready) = &self.ground.ready {
            ready.list_wire(&self.readiness);
        }
    }

    pub(super) fn may_read(&self) -> MayRead {
        self.reading.lock().may_read(self.is_dead())
    }

    /// Half-closes the connection; the reading side then discards incoming bytes until the peer closes too.
    pub(super) fn half_close(&self, out: &mut Outgoing) {
        out.express.drop_unbegun();
        if let Some(stream) = &out.stream {
            SockRef::from(&**stream).shutdown(std::net::Shutdown::Write).ok();
        }
        // Never longer than the operator allows a stalled peer.
        out.lingers_until = Some(Instant::now() + LINGER.min(self.ground.config.write_deadline));
    }

    pub(super) fn add_hook(&self, hook: Hook) {
        let mut hooks = self.hooks.lock();
        if !hooks.called {
            // One place each: a connection has two or three, and a vector would begin with four.
            hooks.waiting.reserve_exact(1);
            hooks.waiting.push(hook);
            return;
        }
        // A hook is foreign code that may take any lock.
        drop(hooks);
        hook(self.close_reason_or_gone());
    }

    /// What reads for the door from a hand-over on, if the door has a session and the connection has not ended.
    pub(super) fn heir(&self) -> Option<Arc<dyn Heir>> {
        self.hooks.lock().heir.clone()
    }

    /// Sets what reads for the door, unless that is set or the connection has ended.
    pub(super) fn appoint_heir(&self, heir: Arc<dyn Heir>) {
        let mut hooks = self.hooks.lock();
        if !hooks.called && hooks.heir.is_none() {
            hooks.heir = Some(heir);
        }
    }

    /// Gives the socket up, for the side that reads: nothing else may write to it. An earlier close reason is kept.
    pub(super) fn let_go(self: &Arc<Self>) {
        let mut out = self.out.lock();
        self.cut_off(&mut out, PEER_GONE);
        let stream = out.stream.take();
        self.release_and_wake(out, true);
        drop(stream);
        // Handles of the wire may live on, but a half received message is gone with the reader's buffers.
        self.count_incoming(0);
        self.call_hooks();
    }

    /// Calls the hooks, once. Only the side that reads calls this, so a hook never runs inside a push or kill.
    pub(super) fn call_hooks(&self) {
        let mut hooks = self.hooks.lock();
        hooks.called = true;
        let (waiting, heir) = (std::mem::take(&mut hooks.waiting), hooks.heir.take());
        drop(hooks);
        drop(heir);
        for hook in waiting {
            hook(self.close_reason_or_gone());
        }
    }
}
