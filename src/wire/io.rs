//! The IO object that hyper reads and writes. Its errors and its end are how the layers above learn of a closed wire.

use std::any::Any;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::{fmt, io};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::Wire;
use super::incoming::Incoming;
use super::outbox::LibraryWrite;
use super::shared::{ListenerContext, Outgoing, WireShared, send_slices};
use crate::metrics::limit::Limit;
use crate::rate::TokenBucket;

/// Bytes read and thrown away per call while a closed wire waits for the peer to close.
const SCRAP: usize = 1024;

/// One connection, as hyper sees it.
///
/// Reads and writes fail with `ConnectionAborted` once the wire is killed. Vectored writes are not offered: hyper then
/// flattens what it writes, and the bytes can be followed in one piece.
#[derive(Debug)]
pub struct WireIo {
    wire: Wire,
    /// The socket of `Outgoing` again, so that reads need no lock of the outgoing side.
    stream: Arc<TcpStream>,
    /// Before the upgrade only: when the connection is closed for having no response.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Parser of the peer's frames; fed from the upgrade on.
    incoming: Incoming,
    /// What is left of the peer's rate of frames.
    frames: TokenBucket,
    /// While announced attachments are missing: when the wire is closed for it.
    attachments: Option<Pin<Box<Sleep>>>,
    /// A slot of the listener, for instance, given back together with the descriptor.
    kept: Option<ClosedWithSocket>,
}

/// A value that is dropped once the descriptor is closed.
struct ClosedWithSocket(#[expect(dead_code, reason = "it is there to be dropped")] Box<dyn Any + Send>);

impl WireIo {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, ground: Arc<ListenerContext>) -> Self {
        let stream = Arc::new(stream);
        let deadline = Some(Box::pin(sleep(ground.config.request_deadline)));
        let incoming = Incoming::new(ground.config.announces);
        let shared = WireShared::new(Arc::clone(&stream), peer, ground);
        Self {
            wire: Wire(Arc::new(shared)),
            stream,
            deadline,
            incoming,
            frames: TokenBucket::default(),
            attachments: None,
            kept: None,
        }
    }

    /// The handle of this connection.
    #[must_use]
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Keeps `kept` until the descriptor is closed, even if this object has been moved (an upgrade hands it on).
    pub fn keep_until_closed(&mut self, kept: impl Send + 'static) {
        self.kept = Some(ClosedWithSocket(Box::new(kept)));
    }

    fn shared(&self) -> &Arc<WireShared> {
        &self.wire.0
    }

    /// Stores the waker and decides how to read. The waker is stored first, so that a kill or resume from another
    /// thread that comes in between still wakes this task.
    fn may_read(&self, cx: &Context<'_>) -> MayRead {
        let mut reading = self.shared().reading.lock();
        let replaced = store_waker(&mut reading.waker, cx.waker());
        // The order matters: a dead wire reports its error even while paused, and a closing wire discards even while
        // paused, because otherwise it would never see the peer close.
        let may = if self.shared().is_dead() {
            MayRead::Dead
        } else if reading.discards {
            MayRead::Discard
        } else if reading.pauses > 0 {
            MayRead::Paused
        } else {
            MayRead::Yes
        };
        // A waker runs foreign code when it is dropped, so that happens outside the lock.
        drop(reading);
        drop(replaced);
        may
    }

    fn poll_bytes(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        loop {
            let may = self.may_read(cx);
            match may {
                MayRead::Dead => return Poll::Ready(Err(self.shared().closed_error())),
                MayRead::Paused => return Poll::Pending,
                MayRead::Yes | MayRead::Discard => {}
            }
            ready!(self.stream.poll_read_ready(cx))?;
            // Hyper has no use for these bytes: they go into a scratch buffer and not into `buf`.
            let read = if may == MayRead::Discard {
                self.stream.try_read(&mut [0; SCRAP])
            } else {
                self.stream.try_read_buf(buf)
            };
            match read {
                // Loop until the kernel has nothing left; `Ok(0)`, the peer's end, is reported in any case.
                Ok(count) if count > 0 && may == MayRead::Discard => {}
                Ok(count) => return Poll::Ready(Ok(count)),
                // Readiness was stale. The loop asks again, which registers the waker.
                Err(error) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Gives the close reason if a deadline has passed: the connection was not upgraded in time, or the peer did not
    /// send the attachments that it announced.
    fn overdue_reason(&mut self, cx: &mut Context<'_>) -> Option<&'static str> {
        if self.attachments.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready()) {
            return Some(super::INCOMPLETE);
        }
        let deadline = self.deadline.as_mut()?;
        // From here on heartbeats watch over the peer; the deadline for plain HTTP would close a healthy transport.
        if self.wire.0.out.lock().express.is_upgraded() {
            self.deadline = None;
            return None;
        }
        deadline.as_mut().poll(cx).is_ready().then_some(super::PEER_GONE)
    }

    /// Parses what was read. Gives the offset in it at which a message begins that is too long.
    fn follow_read(&mut self, read: &[u8]) -> Option<usize> {
        // Before the upgrade the bytes are HTTP and no frames.
        if self.deadline.is_some() {
            return None;
        }
        let before = self.incoming.begun_bytes();
        let too_long = self.incoming.follow_bytes(read, self.wire.0.ground.config.frame_bytes as u64);
        let begun = self.incoming.begun_bytes();
        // Memory for a long message counts from its header on, not only when the library has received all of it.
        if begun != before {
            self.shared().count_incoming(begun);
        }
        self.bound_frames();
        self.bound_attachments();
        too_long
    }

    fn bound_frames(&mut self) {
        let (count, rate) = (self.incoming.take_frames(), self.wire.0.ground.config.frames);
        if count == 0 {
            return;
        }
        let now = std::time::Instant::now();
        // `all` stops at the first frame that is over the rate: one is enough to close the wire.
        let all = (0..count).all(|_| self.frames.take_token(rate, now));
        if !all && !self.shared().is_dead() {
            Limit::CommandsPerMinute.note_reached();
            self.shared().close_at_once(super::TOO_MANY_FRAMES);
        }
    }

    fn bound_attachments(&mut self) {
        // The timer starts with the announcement and is not restarted by single attachments, so a peer cannot stretch
        // it.
        if !self.incoming.awaits_attachments() {
            self.attachments = None;
        } else if self.attachments.is_none() {
            self.attachments = Some(Box::pin(sleep(self.shared().ground.config.attachment_deadline)));
        }
    }

    /// Restarts the request deadline when a response is written: the peer has as long again for its next request.
    fn grant_another(&mut self) {
        let until = Instant::now() + self.shared().ground.config.request_deadline;
        if let Some(deadline) = &mut self.deadline {
            deadline.as_mut().reset(until);
        }
    }

    /// Closes the outgoing side when the reading side has ended: Hallway's frames have no reader any more.
    fn note_read_end(&self) {
        let reader = self.shared().reading.lock().waker.take();
        drop(reader);
        self.shared().note_close_reason(super::PEER_GONE);
        self.shared().count_incoming(0);
        let mut out = self.shared().out.lock();
        // The peer has closed its half after ours: there is nothing left to wait for.
        if out.lingers_until.is_some() {
            self.shared().cut_off(&mut out, super::PEER_GONE);
        }
        out.express.drop_unbegun();
        self.shared().release_and_wake(out, true);
        self.shared().call_hooks();
    }

    fn write_once(&self, out: &mut Outgoing, buf: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            let wrote = out
                .with_stream(|express, stream| express.write_theirs(buf, &mut |slices| send_slices(stream, slices)))?;
            // Tells `settle` which of the two wakes hyper: the flusher when the queue has moved, or tokio when the
            // socket is writable.
            out.writer_waits = wrote == LibraryWrite::Waits;
            match wrote {
                LibraryWrite::Wrote(count) => return Poll::Ready(Ok(count)),
                LibraryWrite::Waits => return Poll::Pending,
                LibraryWrite::Blocked => ready!(self.stream.poll_write_ready(cx))?,
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MayRead {
    Yes,
    Paused,
    Discard,
    Dead,
}

impl AsyncRead for WireIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // A read into no space gives 0 bytes, which would look like the peer's end below.
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = self.overdue_reason(cx) {
            self.shared().close_at_once(reason);
        }
        let before = buf.filled().len();
        let mut read = ready!(self.poll_bytes(cx, buf));
        if let Some(end) = self.follow_read(&buf.filled()[before..]) {
            // The messages before it are complete and are handed on; of the long one the library sees nothing.
            buf.set_filled(before + end);
            self.wire.refuse_message();
            // An empty read would tell hyper that the peer has closed. The wire discards from here on, so this read
            // waits for the real end.
            if end == 0 {
                read = ready!(self.poll_bytes(cx, buf));
            }
        }
        // An error or the peer's end: both are final for hyper.
        if !matches!(read, Ok(count) if count > 0) {
            self.note_read_end();
        }
        Poll::Ready(read.map(drop))
    }
}

impl AsyncWrite for WireIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // Any write counts, also a part of a slow response: a peer that downloads is not idle.
        self.grant_another();
        let mut out = self.shared().out.lock();
        if self.shared().is_dead() {
            return Poll::Ready(Err(self.shared().closed_error()));
        }
        let wrote = self.write_once(&mut out, buf, cx);
        // A write that succeeded needs no waker; a stale one would wake a task that waits for something else.
        let replaced = if wrote.is_pending() { store_waker(&mut out.writer, cx.waker()) } else { out.writer.take() };
        self.shared().release_and_wake(out, wrote.is_ready());
        drop(replaced);
        wrote
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends both streams: drops Hallway's queued frames, but finishes one that has begun, so that the peer reads whole
    /// frames.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.shared().out.lock();
        if self.shared().is_dead() {
            return Poll::Ready(Err(self.shared().closed_error()));
        }
        let finished =
            out.with_stream(|express, stream| express.finish_frame(&mut |slices| send_slices(stream, slices)));
        // `false` means that the rest of a begun frame waits for the socket; the flusher writes it and wakes hyper.
        let done = match finished {
            Ok(false) => Poll::Pending,
            Ok(true) => Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write)),
            Err(error) => Poll::Ready(Err(error)),
        };
        out.writer_waits = done.is_pending();
        let replaced = if done.is_pending() { store_waker(&mut out.writer, cx.waker()) } else { out.writer.take() };
        self.shared().release_and_wake(out, done.is_ready());
        drop(replaced);
        done
    }
}

impl fmt::Debug for ClosedWithSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

impl Drop for WireIo {
    fn drop(&mut self) {
        let mut out = self.shared().out.lock();
        // Hyper gives up the connection, so nothing else may write to it. An earlier close reason is kept.
        self.shared().cut_off(&mut out, super::PEER_GONE);
        let stream = out.stream.take();
        self.shared().release_and_wake(out, true);
        drop(stream);
        // Handles of the wire may live on, but a half received message is gone with hyper's buffers.
        self.shared().count_incoming(0);
        self.shared().call_hooks();
    }
}

/// Stores `waker` in `slot` unless it would wake the same task. Gives the replaced one, to be dropped outside the lock.
fn store_waker(slot: &mut Option<Waker>, waker: &Waker) -> Option<Waker> {
    match slot {
        Some(kept) if kept.will_wake(waker) => None,
        Some(_) | None => slot.replace(waker.clone()),
    }
}

// `Interrupted` is a signal during the call; like `WouldBlock` it says nothing about the connection.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
