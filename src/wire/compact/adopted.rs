//! One wire that was handed over: what is read from its peer, and what becomes of it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use metrics::gauge;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Heartbeat;
use super::frames::{CLOSE, close_reply, pong_frame};
use super::heartbeat::BeatDue;
use super::messages::{PeerMessage, PeerMessages};
use super::schedule::SchedulePlace;
use crate::metrics::HANDED_OVER;
use crate::wire::inspection::Inspection;
use crate::wire::kept::ClosedWithSocket;
use crate::wire::ready::Readiness;
use crate::wire::shared::{MayRead, is_transient};
use crate::wire::{HandOver, Heir, HeirVerdict, LagPolicy, PEER_GONE, Wire, text_frame};

/// Bytes that one wire may read before the others have their turn.
const BUDGET: usize = 16 * 1024;
/// The key of pongs among `latest` frames: a peer gets the pong of its last ping only, as it does from the library. A
/// key of an event is a hash, which does not meet it in practice.
const PONGS: u64 = u64::MAX;

/// A wire without the library.
#[derive(Debug)]
pub(in crate::wire) struct Adopted {
    wire: Wire,
    stream: Arc<TcpStream>,
    inspection: Inspection,
    messages: PeerMessages,
    heartbeat: Heartbeat,
    heir: Arc<dyn Heir>,
    /// Until when attachments that were announced have to be there.
    attachments_until: Option<Instant>,
    /// Where it stands in the schedule of its reader.
    pub(super) place: SchedulePlace,
    /// Whether a close frame was sent: the peer is not listened to any more.
    ended: bool,
    /// Dropped last, with the descriptor.
    _kept: Option<ClosedWithSocket>,
}

/// What the IO object gives its successor.
#[derive(Debug)]
pub(in crate::wire) struct Estate {
    pub(in crate::wire) wire: Wire,
    pub(in crate::wire) stream: Arc<TcpStream>,
    pub(in crate::wire) inspection: Inspection,
    pub(in crate::wire) heartbeat: Heartbeat,
    pub(in crate::wire) heir: Arc<dyn Heir>,
    pub(in crate::wire) kept: Option<ClosedWithSocket>,
}

/// What a turn of a wire leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TurnEnd {
    /// It waits for news.
    Waits,
    /// It has more to read, and goes to the end of the list.
    Again,
    /// It is over.
    Over,
}

impl Adopted {
    pub(in crate::wire) fn new(estate: Estate) -> Self {
        gauge!(HANDED_OVER).increment(1.0);
        let Estate { wire, stream, inspection, heartbeat, heir, kept } = estate;
        Self {
            wire,
            stream,
            inspection,
            messages: PeerMessages::default(),
            heartbeat,
            heir,
            attachments_until: None,
            place: SchedulePlace::default(),
            ended: false,
            _kept: kept,
        }
    }

    pub(super) fn readiness(&self) -> &Readiness {
        &self.wire.0.readiness
    }

    /// Lists it again, behind the others.
    pub(super) fn list_again(&self) {
        self.wire.0.mark_ready();
    }

    /// When something is to be done though the peer sends nothing.
    pub(super) fn due(&self) -> Option<Instant> {
        let beat = self.heartbeat.due();
        // A wire that closes has its own deadline, and gets no ping any more.
        (!self.ended).then(|| self.attachments_until.map_or(beat, |until| until.min(beat)))
    }

    /// Does what is due at `now`.
    pub(super) fn meet_time(&mut self, now: Instant, settings: &HandOver) {
        if self.ended {
            return;
        }
        if self.attachments_until.is_some_and(|until| now >= until) {
            return self.wire.close_at_once(crate::wire::INCOMPLETE);
        }
        match self.heartbeat.judge_time(now, settings) {
            BeatDue::Nothing => {}
            BeatDue::Ping => self.send(text_frame(settings.ping.as_bytes())),
            BeatDue::Missed => self.give_up(),
        }
    }

    /// Reads what the peer has sent, up to the budget.
    pub(super) fn read_peer(&mut self, scratch: &mut [u8]) -> TurnEnd {
        // The wire is its own waker: the kernel's news put it on the list.
        let waker = Waker::from(self.wire.0.clone());
        let (mut context, mut spent) = (Context::from_waker(&waker), 0);
        loop {
            let may = self.wire.0.may_read();
            match may {
                MayRead::Dead => return TurnEnd::Over,
                // The resume lists the wire again.
                MayRead::Paused => return TurnEnd::Waits,
                MayRead::Yes | MayRead::Discard => {}
            }
            if spent >= BUDGET {
                return TurnEnd::Again;
            }
            match self.stream.poll_read_ready(&mut context) {
                Poll::Pending => return TurnEnd::Waits,
                Poll::Ready(Err(_)) => return TurnEnd::Over,
                Poll::Ready(Ok(())) => {}
            }
            match self.stream.try_read(scratch) {
                Ok(0) => return TurnEnd::Over,
                Ok(count) => {
                    spent += count;
                    if may == MayRead::Yes {
                        self.take_bytes(&mut scratch[..count]);
                    }
                }
                // Readiness was stale. The loop asks again, which registers the waker.
                Err(error) if is_transient(&error) => {}
                Err(_) => return TurnEnd::Over,
            }
        }
    }

    fn take_bytes(&mut self, bytes: &mut [u8]) {
        let too_long = self.inspection.inspect_read(&self.wire.0, bytes);
        // The messages before a long one are complete. As with the library, they are handled behind the refusal.
        if too_long.is_some() {
            self.wire.refuse_message();
        }
        let complete = too_long.unwrap_or(bytes.len());
        // Taken out, so that the messages, which are a part of it, can be handled by all of it.
        let mut messages = std::mem::take(&mut self.messages);
        let flow = messages.read_bytes(&mut bytes[..complete], |message| self.take_message(message));
        self.messages = messages;
        if flow.is_break() || too_long.is_some() {
            self.ended = true;
        }
        self.bound_attachments();
    }

    fn take_message(&mut self, message: PeerMessage<'_>) -> ControlFlow<()> {
        match message {
            PeerMessage::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => self.obey(self.heir.take_text(text)),
                Err(_) => self.end_with(&[Bytes::from_static(&CLOSE)]),
            },
            PeerMessage::Binary(bytes) => self.obey(self.heir.take_binary(bytes)),
            PeerMessage::Ping(payload) => {
                let pong = pong_frame(payload);
                self.wire.add_lane("").push_as(LagPolicy::Latest(PONGS), || Some(pong));
                ControlFlow::Continue(())
            }
            PeerMessage::Close(payload) => self.end_with(&[close_reply(payload)]),
            PeerMessage::Violation => self.end_with(&[Bytes::from_static(&CLOSE)]),
        }
    }

    fn obey(&mut self, verdict: HeirVerdict) -> ControlFlow<()> {
        match verdict {
            HeirVerdict::GoesOn => ControlFlow::Continue(()),
            HeirVerdict::Beat => {
                self.heartbeat.note_answer();
                ControlFlow::Continue(())
            }
            HeirVerdict::Ends => self.end_with(&[Bytes::from_static(&CLOSE)]),
            HeirVerdict::GivenUp => {
                self.give_up();
                ControlFlow::Break(())
            }
        }
    }

    fn give_up(&mut self) {
        let farewell = self.wire.0.ground.config.hand_over.map_or("", |settings| settings.farewell);
        let farewell = text_frame(farewell.as_bytes());
        // There is no message behind this one that could break off.
        let _ = self.end_with(&[farewell, Bytes::from_static(&CLOSE)]);
    }

    /// Sends the last frames and closes behind them. What the session is in ends at once, however long that takes.
    fn end_with(&mut self, last: &[Bytes]) -> ControlFlow<()> {
        last.iter().for_each(|frame| self.send(frame.clone()));
        self.ended = true;
        self.wire.close_after_flush(PEER_GONE);
        self.wire.0.reading.lock().discards = true;
        self.wire.0.call_hooks();
        ControlFlow::Break(())
    }

    fn send(&self, frame: Bytes) {
        self.wire.add_lane("").push(frame);
    }

    fn bound_attachments(&mut self) {
        // As before the hand-over: single attachments do not restart the time.
        if !self.inspection.incoming.awaits_attachments() {
            self.attachments_until = None;
        } else if self.attachments_until.is_none() {
            let deadline = self.wire.0.ground.config.attachment_deadline;
            self.attachments_until = Instant::now().checked_add(deadline);
        }
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        gauge!(HANDED_OVER).decrement(1.0);
        self.wire.0.readiness.end();
        self.wire.0.let_go();
    }
}
