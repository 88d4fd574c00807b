//! The IO object hyper reads and writes. Its errors and its end are what everyone above learns of a closed wire.

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
use super::express::Theirs;
use super::incoming::Incoming;
use super::shared::{Ground, Out, Shared, send};
use crate::metrics::limit::Limit;
use crate::rate::Bucket;

/// Bytes thrown away at once while a closed wire waits for the peer.
const SCRAP: usize = 1024;

/// One connection, as hyper sees it.
///
/// Reads and writes fail with `ConnectionAborted` once the wire is killed. Vectored writes are not offered: hyper then
/// flattens what it writes, and the bytes can be followed in one piece.
#[derive(Debug)]
pub struct WireIo {
    wire: Wire,
    stream: Arc<TcpStream>,
    /// Until the upgrade: when the peer has been waited for long enough.
    deadline: Option<Pin<Box<Sleep>>>,
    /// From the upgrade on.
    incoming: Incoming,
    frames: Bucket,
    /// While attachments are owed: when they have been waited for long enough.
    attachments: Option<Pin<Box<Sleep>>>,
    kept: Option<Kept>,
}

/// What goes when the descriptor has gone.
struct Kept(#[expect(dead_code, reason = "it is there to be dropped")] Box<dyn Any + Send>);

impl WireIo {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, ground: Arc<Ground>) -> Self {
        let stream = Arc::new(stream);
        let deadline = Some(Box::pin(sleep(ground.config.request_deadline)));
        let shared = Shared::new(Arc::clone(&stream), peer, ground);
        Self {
            wire: Wire(Arc::new(shared)),
            stream,
            deadline,
            incoming: Incoming::default(),
            frames: Bucket::default(),
            attachments: None,
            kept: None,
        }
    }

    /// The handle of this connection.
    #[must_use]
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Keeps something until the descriptor has been given back, whoever holds this by then.
    pub fn keep(&mut self, kept: impl Send + 'static) {
        self.kept = Some(Kept(Box::new(kept)));
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.wire.0
    }

    /// Keeps the waker and tells what to do now. The waker is kept first, so that no kill or resume is missed.
    fn may_read(&self, cx: &Context<'_>) -> MayRead {
        let mut reading = self.shared().reading.lock();
        let replaced = keep(&mut reading.waker, cx.waker());
        let may = if self.shared().is_dead() {
            MayRead::Dead
        } else if reading.discards {
            MayRead::Discard
        } else if reading.pauses > 0 {
            MayRead::Paused
        } else {
            MayRead::Yes
        };
        drop(reading);
        drop(replaced);
        may
    }

    fn poll_bytes(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        loop {
            let may = self.may_read(cx);
            match may {
                MayRead::Dead => return Poll::Ready(Err(self.shared().error())),
                MayRead::Paused => return Poll::Pending,
                MayRead::Yes | MayRead::Discard => {}
            }
            ready!(self.stream.poll_read_ready(cx))?;
            let read = if may == MayRead::Discard {
                self.stream.try_read(&mut [0; SCRAP])
            } else {
                self.stream.try_read_buf(buf)
            };
            match read {
                Ok(count) if count > 0 && may == MayRead::Discard => {}
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Why the peer has been waited for long enough, if so: it made no transport of its connection, or did not send what it
    /// announced.
    fn overdue(&mut self, cx: &mut Context<'_>) -> Option<&'static str> {
        if self.attachments.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready()) {
            return Some(super::INCOMPLETE);
        }
        let deadline = self.deadline.as_mut()?;
        if self.wire.0.out.lock().express.is_upgraded() {
            self.deadline = None;
            return None;
        }
        deadline.as_mut().poll(cx).is_ready().then_some(super::PEER_GONE)
    }

    /// Follows what was read. Gives the place in it where a message begins that is too long.
    fn follow(&mut self, read: &[u8]) -> Option<usize> {
        if self.deadline.is_some() {
            return None;
        }
        let before = self.incoming.begun();
        let too_long = self.incoming.follow(read, self.wire.0.ground.config.frame_bytes as u64);
        let begun = self.incoming.begun();
        if begun != before {
            self.shared().arrives(begun);
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
        let all = (0..count).all(|_| self.frames.take(rate, now));
        if !all && !self.shared().is_dead() {
            Limit::CommandsPerMinute.reached();
            self.shared().kill(super::TOO_MANY_FRAMES);
        }
    }

    fn bound_attachments(&mut self) {
        if !self.incoming.is_owed() {
            self.attachments = None;
        } else if self.attachments.is_none() {
            self.attachments = Some(Box::pin(sleep(self.shared().ground.config.attachment_deadline)));
        }
    }

    /// A response was written: the peer has as long again for its next request.
    fn grant_another(&mut self) {
        let until = Instant::now() + self.shared().ground.config.request_deadline;
        if let Some(deadline) = &mut self.deadline {
            deadline.as_mut().reset(until);
        }
    }

    /// The reading side has seen the end: nothing of ours has a reader any more.
    fn ended(&self) {
        let reader = self.shared().reading.lock().waker.take();
        drop(reader);
        self.shared().blame(super::PEER_GONE);
        self.shared().arrives(0);
        let mut out = self.shared().out.lock();
        if out.lingers_until.is_some() {
            self.shared().cut_off(&mut out, super::PEER_GONE);
        }
        out.express.end();
        self.shared().settle(out, true);
        self.shared().call_hooks();
    }

    fn write_once(&self, out: &mut Out, buf: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            let wrote =
                out.with_stream(|express, stream| express.write_theirs(buf, &mut |slices| send(stream, slices)))?;
            out.writer_waits = wrote == Theirs::Waits;
            match wrote {
                Theirs::Wrote(count) => return Poll::Ready(Ok(count)),
                Theirs::Waits => return Poll::Pending,
                Theirs::Blocked => ready!(self.stream.poll_write_ready(cx))?,
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
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = self.overdue(cx) {
            self.shared().kill(reason);
        }
        let before = buf.filled().len();
        let mut read = ready!(self.poll_bytes(cx, buf));
        if let Some(end) = self.follow(&buf.filled()[before..]) {
            // What came before it is fine.
            buf.set_filled(before + end);
            self.wire.refuse_message();
            if end == 0 {
                read = ready!(self.poll_bytes(cx, buf));
            }
        }
        if !matches!(read, Ok(count) if count > 0) {
            self.ended();
        }
        Poll::Ready(read.map(drop))
    }
}

impl AsyncWrite for WireIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.grant_another();
        let mut out = self.shared().out.lock();
        if self.shared().is_dead() {
            return Poll::Ready(Err(self.shared().error()));
        }
        let wrote = self.write_once(&mut out, buf, cx);
        let replaced = if wrote.is_pending() { keep(&mut out.writer, cx.waker()) } else { out.writer.take() };
        self.shared().settle(out, wrote.is_ready());
        drop(replaced);
        wrote
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends our frames with theirs, but finishes one that has begun: the peer gets whole frames.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.shared().out.lock();
        if self.shared().is_dead() {
            return Poll::Ready(Err(self.shared().error()));
        }
        let finished = out.with_stream(|express, stream| express.finish(&mut |slices| send(stream, slices)));
        let done = match finished {
            Ok(false) => Poll::Pending,
            Ok(true) => Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write)),
            Err(error) => Poll::Ready(Err(error)),
        };
        out.writer_waits = done.is_pending();
        let replaced = if done.is_pending() { keep(&mut out.writer, cx.waker()) } else { out.writer.take() };
        self.shared().settle(out, done.is_ready());
        drop(replaced);
        done
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

impl Drop for WireIo {
    fn drop(&mut self) {
        let mut out = self.shared().out.lock();
        self.shared().cut_off(&mut out, super::PEER_GONE);
        let stream = out.stream.take();
        self.shared().settle(out, true);
        drop(stream);
        // Handles may live on; what has arrived does not.
        self.shared().arrives(0);
        self.shared().call_hooks();
    }
}

/// Stores `waker` in `slot` unless it is there; what it replaces is to be dropped outside the lock.
fn keep(slot: &mut Option<Waker>, waker: &Waker) -> Option<Waker> {
    match slot {
        Some(kept) if kept.will_wake(waker) => None,
        Some(_) | None => slot.replace(waker.clone()),
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
