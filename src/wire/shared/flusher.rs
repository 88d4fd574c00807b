//! The flusher: a task that exists only while a wire has a backlog. It writes the backlog and enforces the write
//! deadline.
//!
//! It waits with `writable()`, never with `poll_write_ready`: tokio keeps one waker there, and that is hyper's.

use std::io;
use std::sync::Arc;

use parking_lot::MutexGuard;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::{Outgoing, WireShared, send_slices};
use crate::logs;
use crate::wire::{PEER_GONE, WRITE_STALLED};

/// What the flusher waits for next, and until when at most.
enum FlushWait {
    /// For the kernel to take more of Hallway's frames.
    Socket(Arc<TcpStream>, Instant),
    /// For hyper to finish a frame of theirs, or for the peer to close.
    News(Instant),
    /// For nothing: the backlog is written, or the wire is closed.
    Done,
}

/// Runs until the backlog is written or the wire is closed.
pub(super) async fn run_flusher(shared: Arc<WireShared>) {
    // Listed for as long as the task runs: only a wire with a backlog can be closed to free memory.
    let _listed = shared.ground.config.backlogs.register_wire(shared.listable());
    loop {
        match flush_once(&shared) {
            FlushWait::Socket(stream, until) => {
                // `changed` too: a kill, or a write of hyper's that emptied the queue, does not make the socket
                // writable.
                let moved = async {
                    tokio::select! {
                        writable = stream.writable() => writable,
                        () = shared.changed.notified() => Ok(()),
                    }
                };
                // A timeout is no error here: `step` compares the deadline with the progress made since, and decides.
                if let Ok(Err(_)) = timeout_at(until, moved).await {
                    shared.close_at_once(PEER_GONE);
                }
            }
            FlushWait::News(until) => {
                timeout_at(until, shared.changed.notified()).await.ok();
            }
            FlushWait::Done => return,
        }
    }
}

/// Writes as much as the kernel takes and decides what to wait for.
fn flush_once(shared: &Arc<WireShared>) -> FlushWait {
    let mut out = shared.out.lock();
    let wait = if shared.is_dead() { FlushWait::Done } else { write_or_wait(shared, &mut out) };
    let lingers = out.lingers_until.is_some();
    // Set under the lock: the next push either sees this flusher run or starts another one, so no backlog is left
    // alone.
    out.flushing = !matches!(wait, FlushWait::Done);
    shared.release_and_wake(out, false);
    // Only once the last byte is written: until then the peer's commands are still read.
    if lingers {
        let mut reading = shared.reading.lock();
        if !reading.discards {
            reading.discards = true;
            drop(reading);
            shared.wake_reader();
        }
    }
    wait
}

fn write_or_wait(shared: &WireShared, out: &mut MutexGuard<'_, Outgoing>) -> FlushWait {
    let now = Instant::now();
    // Everything is written; only the peer's close is missing.
    if let Some(until) = out.lingers_until {
        return cut_off_at(shared, out, until, now);
    }
    if let Err(error) = write_pending(out) {
        tracing::debug!(event = logs::BACKLOG_UNWRITTEN, peer = %shared.peer, %error, "a backlog could not be written");
        shared.cut_off(out, PEER_GONE);
        return FlushWait::Done;
    }
    // Half-close instead of close, so that the last bytes arrive.
    if out.closing && out.express.is_drained() {
        shared.half_close(out);
        return out.lingers_until.map_or(FlushWait::Done, FlushWait::News);
    }
    // A closing wire stays even without a backlog: held frames may still be released, and the deadline must end it.
    if !out.closing && !out.express.is_behind() {
        return FlushWait::Done;
    }
    let until = out.progressed + shared.ground.config.write_deadline;
    match &out.stream {
        // Behind a frame of theirs that is not finished the socket's readiness is of no use: hyper has to move first,
        // and waiting for the socket would spin.
        Some(stream) if until > now && out.express.ours_next() => FlushWait::Socket(Arc::clone(stream), until),
        _ => cut_off_at(shared, out, until, now),
    }
}

fn write_pending(out: &mut Outgoing) -> io::Result<()> {
    out.with_stream(|express, stream| express.write_pending(&mut |slices| send_slices(stream, slices)))
}

fn cut_off_at(shared: &WireShared, out: &mut Outgoing, until: Instant, now: Instant) -> FlushWait {
    if until > now {
        return FlushWait::News(until);
    }
    shared.cut_off(out, WRITE_STALLED);
    FlushWait::Done
}
