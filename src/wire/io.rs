//! The IO object that hyper reads and writes. Its errors and its end are how the layers above learn of a closed wire.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::Wire;
use super::compact::Arrivals;
use super::inspection::Inspection;
use super::kept::ClosedWithSocket;
use super::outbox::LibraryWrite;
use super::shared::{ListenerContext, MayRead, Outgoing, WireShared, is_transient, send_slices};

mod hand_over;

use hand_over::Passage;

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
    /// The checks on the peer's frames, from the upgrade on.
    inspection: Inspection,
    /// While announced attachments are missing: when the wire is closed for it.
    attachments: Option<Pin<Box<Sleep>>>,
    /// What a hand-over has to know.
    passage: Passage,
    /// The reader to which it may be handed over.
    reader: Option<Arc<Arrivals>>,
    /// A slot of the listener, for instance, given back together with the descriptor.
    kept: Option<ClosedWithSocket>,
}

impl WireIo {
    /// `reader` is the one to which it may be handed over.
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        ground: Arc<ListenerContext>,
        reader: Option<Arc<Arrivals>>,
    ) -> Self {
        let stream = Arc::new(stream);
        let deadline = Some(Box::pin(sleep(ground.config.request_deadline)));
        let shared = WireShared::new(Arc::clone(&stream), peer, ground);
        let inspection = Inspection::new(&shared);
        Self {
            wire: Wire(Arc::new(shared)),
            stream,
            deadline,
            inspection,
            attachments: None,
            passage: Passage::new(),
            reader,
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
        self.kept = Some(ClosedWithSocket::new(kept));
    }

    fn shared(&self) -> &Arc<WireShared> {
        &self.wire.0
    }

    /// Stores the waker and decides how to read. The waker is stored first, so that a kill or resume from another
    /// thread that comes in between still wakes this task.
    fn may_read(&self, cx: &Context<'_>) -> MayRead {
        let mut reading = self.shared().reading.lock();
        let replaced = store_waker(&mut reading.waker, cx.waker());
        let may = reading.may_read(self.shared().is_dead());
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
            self.passage.note_request(read);
            return None;
        }
        let too_long = self.inspection.inspect_read(&self.wire.0, read);
        self.bound_attachments();
        if self.inspection.incoming.take_beats() > 0 {
            self.passage.note_answer();
        }
        too_long
    }

    fn bound_attachments(&mut self) {
        // The timer starts with the announcement and is not restarted by single attachments, so a peer cannot stretch
        // it.
        if !self.inspection.incoming.awaits_attachments() {
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

impl AsyncRead for WireIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // A read into no space gives 0 bytes, which would look like the peer's end below.
        // Behind the hand-over the library reads an end, and nothing else.
        if buf.remaining() == 0 || self.passage.is_done {
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = self.overdue_reason(cx) {
            self.shared().close_at_once(reason);
        }
        let before = buf.filled().len();
        let Poll::Ready(mut read) = self.poll_bytes(cx, buf) else {
            // The empty read tells the library that the peer has closed.
            return if self.hand_over_if_quiet() { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
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
        let shared = self.shared().clone();
        let mut out = shared.out.lock();
        // What the library writes to a transport that it has lost is of no use to the peer.
        if out.handed_over {
            return Poll::Ready(Ok(buf.len()));
        }
        if shared.is_dead() {
            return Poll::Ready(Err(shared.closed_error()));
        }
        let answered = out.express.answered();
        let wrote = self.write_once(&mut out, buf, cx);
        let has_answered = out.express.answered() != answered;
        if out.express.take_pings() > 0 {
            self.passage.note_ping();
        }
        // A write that succeeded needs no waker; a stale one would wake a task that waits for something else.
        let replaced = if wrote.is_pending() { store_waker(&mut out.writer, cx.waker()) } else { out.writer.take() };
        shared.release_and_wake(out, wrote.is_ready());
        drop(replaced);
        // The answer to a CONNECT may be the last thing that was under way: the next read looks.
        if has_answered {
            shared.wake_reader();
        }
        wrote
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends both streams: drops Hallway's queued frames, but finishes one that has begun, so that the peer reads whole
    /// frames.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.shared().out.lock();
        if out.handed_over {
            return Poll::Ready(Ok(()));
        }
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

impl Drop for WireIo {
    fn drop(&mut self) {
        // The socket has another owner.
        if !self.passage.is_done {
            self.shared().let_go();
        }
    }
}

/// Stores `waker` in `slot` unless it would wake the same task. Gives the replaced one, to be dropped outside the lock.
fn store_waker(slot: &mut Option<Waker>, waker: &Waker) -> Option<Waker> {
    match slot {
        Some(kept) if kept.will_wake(waker) => None,
        Some(_) | None => slot.replace(waker.clone()),
    }
}

#[cfg(test)]
mod tests;
