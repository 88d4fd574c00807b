//! The push of a series: one call to the kernel where nothing waits, single frames where something does.

use std::io::{self, IoSlice};

use bytes::Bytes;

use super::{LagPolicy, LaneId, Outbox, PushOutcome};
use crate::wire::series::FrameSeries;

impl Outbox {
    /// Writes a series of durable frames at once if nothing is in their way, with one call. What the kernel does not take is
    /// queued as if each frame had been pushed by itself: so are the bounds, and so the places where theirs may come between.
    ///
    /// # Errors
    /// What the writer returned, except that it would block.
    #[inline]
    pub(in crate::wire) fn push_series<W>(
        &mut self,
        lane: LaneId,
        series: &FrameSeries,
        write: &mut W,
    ) -> io::Result<PushOutcome>
    where
        W: FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    {
        if !self.accepts {
            return Ok(PushOutcome::Closed);
        }
        let mut begun = None;
        if self.is_idle() && !self.lanes.is_closed(lane) {
            let wrote = self.write_some(&[IoSlice::new(&series.joined)], write)?;
            if wrote == series.joined.len() {
                return Ok(PushOutcome::Sent);
            }
            begun = Some(wrote);
        }
        self.queue_series(lane, series.list_frames(), begun, write)
    }

    /// Queues the frames of a series of which the kernel has the first `begun` bytes, if it was offered them.
    fn queue_series<W>(
        &mut self,
        lane: LaneId,
        mut frames: &[Bytes],
        begun: Option<usize>,
        write: &mut W,
    ) -> io::Result<PushOutcome>
    where
        W: FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    {
        if let Some(mut cut) = begun {
            while let Some((gone, rest)) = frames.split_first().filter(|(frame, _)| frame.len() <= cut) {
                (cut, frames) = (cut - gone.len(), rest);
            }
            // As a single frame that the kernel refuses, this one becomes the front of the queue whatever the bounds say.
            if let Some((front, rest)) = frames.split_first() {
                self.cut = cut;
                self.pending.frames += 1;
                self.pending.bytes += front.len() - cut;
                self.queue.push_back(front.clone());
                frames = rest;
            }
        }
        for frame in frames {
            match self.push(lane, LagPolicy::Durable, frame.clone(), write)? {
                PushOutcome::Sent | PushOutcome::Queued | PushOutcome::Replaced => {}
                // Those behind it must not arrive without it.
                refused @ (PushOutcome::Overflow
                | PushOutcome::Closed
                | PushOutcome::Dropped
                | PushOutcome::Skipped) => return Ok(refused),
            }
        }
        Ok(PushOutcome::Queued)
    }
}
