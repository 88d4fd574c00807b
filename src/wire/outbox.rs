//! The outgoing side as a calculator: one FIFO of our frames, interleaved with the writes of hyper. No IO, no clock.
//! Everything that writes takes the writer as an argument: the socket in production, a fickle kernel in the tests.
//!
//! **The problem.** The library under the transport writes its own bytes: the head of the upgrade, pings, the close
//! frame. Events go out beside it, at once, from any thread. Two writers share one byte stream, the kernel may take any
//! part of a write, and a byte of one inside a frame of the other ends the connection.
//!
//! **The rule.** The [`StreamFollower`] parses what the library wrote and knows whether the stream is between two frames.
//!
//! 1. A frame of ours once begun is finished before anything else.
//! 2. Inside a frame of theirs only they go on.
//! 3. Between two frames the FIFO decides. A write of theirs that was refused has a position `turn` in it: as many
//!    frames of ours go first as waited when it was refused.
//!
//! **Why it is right.**
//!
//! - *No frame is cut.* Ours begin between frames only (2), and no other byte goes out before the end of one (1).
//!   Theirs begin only when `cut` is 0. Each byte goes by one of these, whatever part of a write the kernel takes.
//! - *Neither side starves.* A later frame of ours queues behind `turn`, so theirs wait for a bounded number. Theirs end
//!   their frame or are refused, and then ours have their turn.
//! - *Ours keep their order.* A frame is written at once only if the queue is empty, and joins its end otherwise. A
//!   `latest` frame that replaces an older one of its key takes that one's place, and only while that has not begun.
//! - *No gap.* A frame that does not fit ends the wire, and nothing is accepted after it: a peer never receives a later
//!   frame without the earlier one. It comes back with its offset.
//!
//! **Example.** The queue holds A and B of 10 bytes, and the kernel takes 14: A is gone, `cut` is 4. The library wants
//! to write a ping: refused, `turn` is 1. C is pushed and queues behind. The kernel takes 6: B is gone, `turn` is 0,
//! and the ping is next. It goes in two parts, C waits between them, and follows when the ping is whole.
//!
//! **Faults.** An error of the writer is the end of the socket, and the caller cuts it off. When theirs end in the
//! middle ([`Outbox::finish_frame`]), a frame of ours that has begun is finished first, and what has not begun is dropped.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;

use super::follower::StreamFollower;

mod lanes;
mod latest;
mod series;
mod watched;

pub(super) use lanes::LaneId;
use lanes::Lanes;
use latest::LatestIndex;
use watched::WatchedTexts;

/// Frames handed to the kernel in one call while a backlog is written.
const BATCH: usize = 32;
/// The part of a bound behind which a wire is crowded.
const CROWDED: usize = 16;

/// What may become of a frame while the peer lags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LagPolicy {
    /// It waits.
    Durable,
    /// It waits, and gives way to the next of its key.
    Latest(u64),
    /// It is dropped.
    Ephemeral,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// The kernel has all of it.
    Sent,
    /// It goes out when its turn comes, unless the wire closes first.
    Queued,
    /// The closure returned no frame.
    Skipped,
    /// It goes out in the place of an older one of its key, which is dropped.
    Replaced,
    /// It was ephemeral and the wire is behind.
    Dropped,
    /// The wire accepts nothing any more.
    Closed,
    /// It did not fit, so the wire was killed with the reason `slow-consumer`.
    Overflow,
}

/// What of ours the kernel has not accepted yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PendingFrames {
    /// Frames, a begun one and those of closed lanes included.
    pub frames: usize,
    /// Bytes of those frames that are still to go.
    pub bytes: usize,
}

/// The bounds of one wire's backlog.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutboxLimits {
    pub(super) bytes: usize,
    pub(super) frames: usize,
    pub(super) ephemeral_bytes: usize,
}

/// What became of a write of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LibraryWrite {
    /// The kernel accepted this many bytes.
    Wrote(usize),
    /// It is their turn, but the kernel accepts nothing.
    Blocked,
    /// Frames of ours go first. They have their place and are to be woken when it comes.
    Waits,
}

/// The outgoing side of one connection.
#[derive(Debug)]
pub(super) struct Outbox {
    follower: StreamFollower,
    queue: VecDeque<Bytes>,
    /// Bytes of the front frame the kernel has.
    cut: usize,
    /// Frames of the queue that go before the write of theirs that was refused, if one was.
    turn: Option<usize>,
    lanes: Lanes,
    latest: LatestIndex,
    pending: PendingFrames,
    limits: OutboxLimits,
    accepts: bool,
    /// Bytes the kernel has accepted, theirs and ours; wraps.
    accepted: u64,
    /// Texts of theirs that a hand-over has to know of; none where no hand-over is possible.
    watched: Option<WatchedTexts>,
}

impl Outbox {
    pub(super) fn new(limits: OutboxLimits) -> Self {
        Self {
            follower: StreamFollower::new(),
            queue: VecDeque::new(),
            cut: 0,
            turn: None,
            lanes: Lanes::default(),
            latest: LatestIndex::default(),
            pending: PendingFrames::default(),
            limits,
            accepts: true,
            accepted: 0,
            watched: None,
        }
    }

    pub(super) fn arm_nonce(&mut self, nonce: &str) {
        self.follower.arm_nonce(nonce);
    }

    pub(super) fn add_lane(&mut self, opens_with: &str) -> LaneId {
        let id = self.lanes.add(opens_with);
        self.update_capture();
        id
    }

    /// Forgets a lane, and the frames it still held.
    pub(super) fn remove_lane(&mut self, id: LaneId) {
        for frame in self.lanes.remove(id) {
            self.pending.frames -= 1;
            self.pending.bytes -= frame.len();
        }
        self.update_capture();
    }

    pub(super) fn pending(&self) -> PendingFrames {
        self.pending
    }

    pub(super) fn accepts_frames(&self) -> bool {
        self.accepts
    }

    pub(super) fn accepted_bytes(&self) -> u64 {
        self.accepted
    }

    /// Whether a good part of the bounds is used up.
    pub(super) fn is_crowded(&self) -> bool {
        let OutboxLimits { bytes, frames, .. } = self.limits;
        self.pending.bytes > bytes / CROWDED || self.pending.frames > frames / CROWDED
    }

    /// Whether ephemeral frames are dropped for now.
    pub(super) fn drops_ephemeral(&self) -> bool {
        self.pending.bytes > self.limits.ephemeral_bytes
    }

    /// Writes a frame of ours at once if nothing is in its way, else queues it. After [`PushOutcome::Overflow`] nothing is
    /// accepted, so that no later frame can arrive without this one.
    ///
    /// # Errors
    /// What the writer returned, except that it would block.
    #[inline]
    pub(super) fn push<W>(
        &mut self,
        lane: LaneId,
        weight: LagPolicy,
        frame: Bytes,
        write: &mut W,
    ) -> io::Result<PushOutcome>
    where
        W: FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    {
        if !self.accepts {
            return Ok(PushOutcome::Closed);
        }
        let closed = self.lanes.is_closed(lane);
        let mut wrote = 0;
        // The fast path of almost every event: nothing waits, so the caller's thread writes the frame without queueing
        // it.
        if !closed && self.is_idle() {
            wrote = self.write_some(&[IoSlice::new(&frame)], write)?;
            if wrote == frame.len() {
                return Ok(PushOutcome::Sent);
            }
            // The kernel took a part, or nothing: the rest becomes the front of the queue. The bounds do not apply
            // here, so that a frame larger than the bound can be sent at all.
            self.cut = wrote;
        } else if let Some(index) = self.giving_way(closed, weight, &frame) {
            self.replace(index, frame);
            return Ok(PushOutcome::Replaced);
        // Replacing comes before this check: a full queue can still take a newer value of a key without growing.
        } else if self.is_full(&frame) {
            self.drop_all();
            return Ok(PushOutcome::Overflow);
        }
        self.pending.frames += 1;
        self.pending.bytes += frame.len() - wrote;
        if closed {
            self.lanes.hold_frame(lane, frame);
        } else {
            if let LagPolicy::Latest(key) = weight {
                self.latest.note_frame(key, self.queue.len());
            }
            self.queue.push_back(frame);
        }
        Ok(PushOutcome::Queued)
    }

    /// Where an older frame of the same key waits that has not begun, if this one fits in its place.
    fn giving_way(&self, closed: bool, weight: LagPolicy, frame: &Bytes) -> Option<usize> {
        let LagPolicy::Latest(key) = weight else { return None };
        // A begun frame is partly with the kernel and cannot be replaced; frames of a closed lane are not in the queue.
        let index = self.latest.index_of(key).filter(|index| !closed && (*index > 0 || !self.is_begun()))?;
        let older = self.queue.get(index)?;
        (self.pending.bytes - older.len() + frame.len() <= self.limits.bytes).then_some(index)
    }

    fn replace(&mut self, index: usize, frame: Bytes) {
        if let Some(older) = self.queue.get_mut(index) {
            self.pending.bytes = self.pending.bytes - older.len() + frame.len();
            *older = frame;
        }
    }

    /// Writes the frames of ours whose turn it is, until the writer would block.
    ///
    /// # Errors
    /// What the writer returned, except that it would block.
    pub(super) fn write_pending<W>(&mut self, write: &mut W) -> io::Result<()>
    where
        W: FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    {
        while self.ours_next() {
            // Only the frames ahead of a refused write of theirs: those behind it must not overtake it.
            let ahead = self.turn.unwrap_or(self.queue.len()).min(BATCH);
            let mut slices = [IoSlice::new(&[]); BATCH];
            for (slice, frame) in slices.iter_mut().zip(self.queue.iter().take(ahead)) {
                *slice = IoSlice::new(frame);
            }
            // The kernel already has the first `cut` bytes of the front frame.
            if let Some(front) = self.queue.front() {
                slices[0] = IoSlice::new(&front[self.cut..]);
            }
            let wrote = write_or_zero(&slices[..ahead], write)?;
            if wrote == 0 {
                break;
            }
            self.note_written(wrote);
        }
        Ok(())
    }

    /// Offers a write of theirs to the kernel, with what of ours goes before it and may go right after it.
    ///
    /// # Errors
    /// What the writer returned, except that it would block.
    pub(super) fn write_theirs<W>(&mut self, buf: &[u8], write: &mut W) -> io::Result<LibraryWrite>
    where
        W: FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    {
        self.write_pending(write)?;
        if !self.theirs_next() {
            // Hyper offers the same write again and again; it keeps the position that it got the first time.
            self.turn.get_or_insert(self.queue.len());
            return Ok(LibraryWrite::Waits);
        }
        let wrote = self.write_some(&[IoSlice::new(buf)], write)?;
        if wrote == 0 {
            // It was their turn and the kernel is full: frames pushed from here on wait behind this write.
            self.turn = Some(0);
            return Ok(LibraryWrite::Blocked);
        }
        self.turn = None;
        self.follow_theirs(&buf[..wrote]);
        // Their bytes are gone whatever happens now, so the library must be told that they were written; an error comes back with the next write.
        self.write_pending(write).ok();
        Ok(LibraryWrite::Wrote(wrote))
    }

    /// Whether the head of the upgrade has wholly passed.
    pub(super) fn is_upgraded(&self) -> bool {
        self.follower.is_framing() || self.follower.is_over()
    }

    /// Whether a write of theirs that was refused may go now.
    pub(super) fn their_turn(&self) -> bool {
        self.turn.is_some() && self.theirs_next()
    }

    /// Whether the next bytes are ours and nothing but the kernel is in their way.
    pub(super) fn ours_next(&self) -> bool {
        self.follower.at_boundary() && self.turn.unwrap_or(self.queue.len()) > 0
    }

    /// Whether something waits that could go if the kernel, or hyper, moved. Before the upgrade ours cannot.
    pub(super) fn is_behind(&self) -> bool {
        self.turn.is_some() || (self.follower.is_framing() && !self.queue.is_empty())
    }

    /// Whether all of ours has gone, and theirs do not stand in the middle of a frame or a refused write.
    pub(super) fn is_drained(&self) -> bool {
        self.pending.frames == 0 && self.turn.is_none() && (self.follower.at_boundary() || !self.follower.is_framing())
    }

    /// Accepts nothing more; what is queued or held still goes.
    pub(super) fn refuse_new(&mut self) {
        self.accepts = false;
    }

    /// Accepts nothing more and drops what has not begun. A begun frame stays, else theirs would be cut into it.
    pub(super) fn drop_unbegun(&mut self) {
        let begun = (self.cut > 0).then(|| self.queue.pop_front()).flatten();
        let cut = self.cut;
        self.drop_all();
        if let Some(frame) = begun {
            (self.cut, self.turn) = (cut, self.turn.map(|_| 1));
            self.pending = PendingFrames { frames: 1, bytes: frame.len() - cut };
            self.queue.push_back(frame);
        }
    }

    /// Accepts nothing more and drops everything of ours. For a stream that is cut off anyway.
    pub(super) fn drop_all(&mut self) {
        self.accepts = false;
        self.lanes = Lanes::default();
        self.latest = LatestIndex::default();
        self.follower.set_capture(0);
        self.queue = VecDeque::new();
        self.cut = 0;
        self.turn = self.turn.map(|_| 0);
        self.pending = PendingFrames::default();
    }

    /// Ends ours because theirs end, but finishes a begun frame first. False when the rest of it has to wait; theirs
    /// then have their turn after it.
    ///
    /// # Errors
    /// What the writer returned, except that it would block.
    pub(super) fn finish_frame<W>(&mut self, write: &mut W) -> io::Result<bool>
    where
        W: FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    {
        self.drop_unbegun();
        self.write_pending(write)?;
        self.turn = self.is_begun().then_some(1);
        Ok(!self.is_begun())
    }

    /// Whether a frame of ours is partly with the kernel.
    fn is_begun(&self) -> bool {
        self.cut > 0
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.turn.is_none() && self.follower.at_boundary()
    }

    fn is_full(&self, frame: &Bytes) -> bool {
        self.pending.frames >= self.limits.frames || self.pending.bytes + frame.len() > self.limits.bytes
    }

    fn theirs_next(&self) -> bool {
        !self.is_begun() && (!self.follower.at_boundary() || self.turn.unwrap_or(self.queue.len()) == 0)
    }

    #[inline]
    fn write_some<W>(&mut self, slices: &[IoSlice<'_>], write: &mut W) -> io::Result<usize>
    where
        W: FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    {
        let wrote = write_or_zero(slices, write)?;
        self.accepted = self.accepted.wrapping_add(wrote as u64);
        Ok(wrote)
    }

    fn note_written(&mut self, wrote: usize) {
        self.accepted = self.accepted.wrapping_add(wrote as u64);
        self.pending.bytes -= wrote;
        self.cut += wrote;
        while let Some(front) = self.queue.front().filter(|front| front.len() <= self.cut) {
            self.cut -= front.len();
            self.queue.pop_front();
            self.latest.note_front_gone();
            self.pending.frames -= 1;
            self.turn = self.turn.map(|ahead| ahead - 1);
        }
        // A ring buffer that grew in a burst is given back.
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }

    fn follow_theirs(&mut self, bytes: &[u8]) {
        let Self { follower, queue, lanes, watched, .. } = self;
        follower.follow_bytes(bytes, |text| {
            lanes.open_matching(text, queue);
            watched.iter_mut().for_each(|watched| watched.count_text(text));
        });
        self.update_capture();
        // After a close frame of theirs no data frame may follow (RFC 6455, 5.5.1).
        if self.follower.is_over() && self.accepts {
            self.drop_unbegun();
        }
    }
}

/// What the kernel accepted; 0 when it would block.
#[inline]
fn write_or_zero<W>(slices: &[IoSlice<'_>], write: &mut W) -> io::Result<usize>
where
    W: FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
{
    loop {
        match write(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(wrote) => return Ok(wrote),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
