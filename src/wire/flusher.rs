//! The task that exists only while a wire is behind: it writes the backlog and enforces the write deadline.
//!
//! It waits with `writable()`, never with `poll_write_ready`: tokio keeps one waker there, and that is hyper's.

use std::io;
use std::sync::Arc;

use parking_lot::MutexGuard;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::shared::{Out, Shared, send};
use super::{PEER_GONE, WRITE_STALLED};
use crate::logs;

/// What the flusher waits for next.
enum Wait {
    /// The kernel to take more of ours.
    Socket(Arc<TcpStream>, Instant),
    /// Hyper to go on, or the peer to close.
    News(Instant),
    /// Nothing: the wire is no longer behind, or closed.
    Done,
}

/// Runs until the wire has caught up or is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let _listed = shared.ground.config.backlogs.list(&shared);
    loop {
        match step(&shared) {
            Wait::Socket(stream, until) => {
                let moved = async {
                    tokio::select! {
                        writable = stream.writable() => writable,
                        () = shared.changed.notified() => Ok(()),
                    }
                };
                if let Ok(Err(_)) = timeout_at(until, moved).await {
                    shared.kill(PEER_GONE);
                }
            }
            Wait::News(until) => {
                timeout_at(until, shared.changed.notified()).await.ok();
            }
            Wait::Done => return,
        }
    }
}

/// Writes what can be written and finds out what to wait for.
fn step(shared: &Arc<Shared>) -> Wait {
    let mut out = shared.out.lock();
    let wait = if shared.is_dead() { Wait::Done } else { advance(shared, &mut out) };
    let lingers = out.lingers_until.is_some();
    out.flushing = !matches!(wait, Wait::Done);
    shared.settle(out, false);
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

fn advance(shared: &Shared, out: &mut MutexGuard<'_, Out>) -> Wait {
    let now = Instant::now();
    if let Some(until) = out.lingers_until {
        return cut_off_at(shared, out, until, now);
    }
    if let Err(error) = pump(out) {
        tracing::debug!(event = logs::BACKLOG_UNWRITTEN, peer = %shared.peer, %error, "a backlog could not be written");
        shared.cut_off(out, PEER_GONE);
        return Wait::Done;
    }
    if out.closing && out.express.is_drained() {
        shared.linger(out);
        return out.lingers_until.map_or(Wait::Done, Wait::News);
    }
    if !out.closing && !out.express.is_behind() {
        return Wait::Done;
    }
    let until = out.progressed + shared.ground.config.write_deadline;
    match &out.stream {
        Some(stream) if until > now && out.express.ours_next() => Wait::Socket(Arc::clone(stream), until),
        _ => cut_off_at(shared, out, until, now),
    }
}

fn pump(out: &mut Out) -> io::Result<()> {
    out.with_stream(|express, stream| express.pump(&mut |slices| send(stream, slices)))
}

fn cut_off_at(shared: &Shared, out: &mut Out, until: Instant, now: Instant) -> Wait {
    if until > now {
        return Wait::News(until);
    }
    shared.cut_off(out, WRITE_STALLED);
    Wait::Done
}
