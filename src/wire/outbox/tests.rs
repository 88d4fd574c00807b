//! Tests of the interleaving under a fickle kernel: for any order of pushes and writes, the peer reads the promised
//! frames.

use std::io::{self, IoSlice};

use bytes::Bytes;

use super::{LagPolicy, LaneId, LibraryWrite, Outbox, OutboxLimits, PendingFrames, PushOutcome};
use crate::wire::{FrameSeries, text_frame};

mod model;
mod random;

const LIMITS: OutboxLimits = OutboxLimits { bytes: 1000, frames: 4, ephemeral_bytes: 100 };

/// A kernel that takes `room` bytes and then would block.
#[derive(Default)]
struct Kernel {
    room: usize,
    peer: Vec<u8>,
    calls: usize,
}

impl Kernel {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = 0;
        self.calls += 1;
        for slice in slices {
            let here = slice.len().min(self.room);
            self.peer.extend_from_slice(&slice[..here]);
            self.room -= here;
            taken += here;
        }
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }
}

struct Bench {
    express: Outbox,
    kernel: Kernel,
    lane: LaneId,
}

/// An upgraded connection with an open lane and a kernel without room.
fn bench() -> Bench {
    let mut express = Outbox::new(LIMITS);
    let lane = express.add_lane("");
    express.arm_nonce("nonce");
    let mut bench = Bench { express, kernel: Kernel::default(), lane };
    bench.room(1000);
    assert_eq!(bench.theirs(b"nonce\r\n\r\n"), LibraryWrite::Wrote(9));
    bench.kernel = Kernel::default();
    bench
}

impl Bench {
    fn room(&mut self, bytes: usize) {
        self.kernel.room = bytes;
    }

    fn theirs(&mut self, bytes: &[u8]) -> LibraryWrite {
        self.express.write_theirs(bytes, &mut |slices| self.kernel.write(slices)).unwrap()
    }

    fn push(&mut self, payload: &str) -> PushOutcome {
        let frame = text_frame(payload.as_bytes());
        self.express.push(self.lane, LagPolicy::Durable, frame, &mut |slices| self.kernel.write(slices)).unwrap()
    }

    fn push_series(&mut self, payloads: &[&str]) -> PushOutcome {
        let frames = payloads.iter().map(|payload| text_frame(payload.as_bytes())).collect();
        let series = FrameSeries::from_frames(frames);
        self.express.push_series(self.lane, &series, &mut |slices| self.kernel.write(slices)).unwrap()
    }

    fn push_latest(&mut self, key: u64, payload: &str) -> PushOutcome {
        let frame = text_frame(payload.as_bytes());
        self.express.push(self.lane, LagPolicy::Latest(key), frame, &mut |slices| self.kernel.write(slices)).unwrap()
    }

    fn pump(&mut self) {
        self.express.write_pending(&mut |slices| self.kernel.write(slices)).unwrap();
    }

    #[track_caller]
    fn check_peer(&self, frames: &[&str]) {
        let expected: Vec<Bytes> = frames.iter().map(|payload| text_frame(payload.as_bytes())).collect();
        assert_eq!(self.kernel.peer, expected.concat());
    }
}

#[test]
fn a_frame_leaves_at_once_when_nothing_is_in_its_way() {
    let mut bench = bench();
    bench.room(100);
    assert_eq!(bench.push("hello"), PushOutcome::Sent);
    bench.check_peer(&["hello"]);
    assert_eq!(bench.express.queue.capacity(), 0);
}

#[test]
fn a_begun_frame_is_finished_before_theirs_go_on() {
    let mut bench = bench();
    bench.room(3);
    assert_eq!(bench.push("hello"), PushOutcome::Queued);
    assert_eq!(bench.express.pending(), PendingFrames { frames: 1, bytes: 4 });
    assert_eq!(bench.theirs(&text_frame(b"theirs")), LibraryWrite::Waits);
    bench.room(100);
    assert_eq!(bench.theirs(&text_frame(b"theirs")), LibraryWrite::Wrote(8));
    bench.check_peer(&["hello", "theirs"]);
}

#[test]
fn a_refused_write_of_theirs_goes_after_what_was_queued_and_before_what_comes_later() {
    let mut bench = bench();
    assert_eq!(bench.push("first"), PushOutcome::Queued);
    assert_eq!(bench.theirs(&text_frame(b"theirs")), LibraryWrite::Waits);
    assert_eq!(bench.push("later"), PushOutcome::Queued);
    bench.room(100);
    bench.pump();
    bench.check_peer(&["first"]);
    assert!(bench.express.their_turn());
    bench.theirs(&text_frame(b"theirs"));
    bench.check_peer(&["first", "theirs", "later"]);
    assert!(!bench.express.is_behind());
}

#[test]
fn a_write_of_theirs_that_blocked_is_not_overtaken() {
    let mut bench = bench();
    assert_eq!(bench.theirs(&text_frame(b"theirs")), LibraryWrite::Blocked);
    bench.room(100);
    assert_eq!(bench.push("later"), PushOutcome::Queued);
    bench.pump();
    bench.check_peer(&[]);
    bench.theirs(&text_frame(b"theirs"));
    bench.check_peer(&["theirs", "later"]);
}

#[test]
fn an_older_frame_gives_way_to_a_newer_one_of_its_key() {
    let mut bench = bench();
    assert_eq!(bench.push_latest(1, "one"), PushOutcome::Queued);
    assert_eq!(bench.push("always"), PushOutcome::Queued);
    assert_eq!(bench.push_latest(2, "two"), PushOutcome::Queued);
    assert_eq!(bench.push_latest(1, "one, moved"), PushOutcome::Replaced);
    assert_eq!(bench.push_latest(2, "2"), PushOutcome::Replaced);
    assert_eq!(bench.express.pending(), PendingFrames { frames: 3, bytes: 12 + 8 + 3 });
    bench.room(14);
    bench.pump();
    assert_eq!(bench.push_latest(1, "one, again"), PushOutcome::Queued);
    bench.room(100);
    bench.pump();
    bench.check_peer(&["one, moved", "always", "2", "one, again"]);
    assert_eq!(bench.express.pending(), PendingFrames::default());
}

#[test]
fn a_frame_that_has_begun_gives_way_to_nothing() {
    let mut bench = bench();
    bench.room(3);
    assert_eq!(bench.push_latest(1, "first"), PushOutcome::Queued);
    assert_eq!(bench.push_latest(1, "second"), PushOutcome::Queued);
    assert_eq!(bench.push_latest(1, "third"), PushOutcome::Replaced);
    bench.room(100);
    bench.pump();
    bench.check_peer(&["first", "third"]);
}

#[test]
fn the_push_that_passes_a_bound_ends_the_wire() {
    let mut bench = bench();
    for _ in 0..LIMITS.frames {
        assert_eq!(bench.push("x"), PushOutcome::Queued);
    }
    assert_eq!(bench.push("x"), PushOutcome::Overflow);
    bench.room(100);
    assert_eq!(bench.push("x"), PushOutcome::Closed);
    bench.pump();
    bench.check_peer(&[]);
}

#[test]
fn bytes_are_bounded_as_frames_are_and_held_frames_count() {
    let mut bench = bench();
    bench.lane = bench.express.add_lane("40/never,");
    assert_eq!(bench.push(&"x".repeat(600)), PushOutcome::Queued);
    assert_eq!(bench.push(&"x".repeat(600)), PushOutcome::Overflow);
    assert_eq!(bench.express.pending(), PendingFrames::default());
}

#[test]
fn ephemeral_frames_are_dropped_over_their_bound_only() {
    let mut bench = bench();
    bench.push(&"x".repeat(80));
    assert!(!bench.express.drops_ephemeral());
    bench.push(&"x".repeat(80));
    assert!(bench.express.drops_ephemeral());
}

#[test]
fn a_dropped_lane_takes_its_held_frames_along() {
    let mut bench = bench();
    bench.lane = bench.express.add_lane("40/n,");
    bench.push("held");
    bench.express.remove_lane(bench.lane);
    assert_eq!(bench.express.pending(), PendingFrames::default());
    bench.room(100);
    bench.theirs(&text_frame(b"40/n,{}"));
    bench.check_peer(&["40/n,{}"]);
}

#[test]
fn their_close_frame_drops_what_is_queued_once_it_begins() {
    let mut bench = bench();
    assert_eq!(bench.theirs(&[0x88, 0]), LibraryWrite::Blocked);
    assert_eq!(bench.push("late"), PushOutcome::Queued);
    bench.room(1);
    assert_eq!(bench.theirs(&[0x88, 0]), LibraryWrite::Wrote(1));
    assert_eq!(bench.push("later"), PushOutcome::Closed);
    assert_eq!(bench.express.pending(), PendingFrames::default());
    bench.room(100);
    assert_eq!(bench.theirs(&[0]), LibraryWrite::Wrote(1));
    assert_eq!(bench.kernel.peer, [0x88, 0]);
}

#[test]
fn finishing_writes_the_rest_of_a_begun_frame_and_nothing_else() {
    let mut bench = bench();
    bench.room(2);
    bench.push("begun");
    bench.push("never");
    let Bench { express, kernel, .. } = &mut bench;
    assert!(!express.finish_frame(&mut |slices| kernel.write(slices)).unwrap());
    assert!(express.is_behind());
    kernel.room = 100;
    assert!(express.finish_frame(&mut |slices| kernel.write(slices)).unwrap());
    assert!(!express.is_behind());
    bench.check_peer(&["begun"]);
}

#[test]
fn refusing_still_writes_what_was_accepted() {
    let mut bench = bench();
    bench.push("one");
    bench.express.refuse_new();
    assert_eq!(bench.push("two"), PushOutcome::Closed);
    assert!(!bench.express.is_drained());
    bench.room(100);
    bench.pump();
    assert!(bench.express.is_drained());
    bench.check_peer(&["one"]);
}

#[test]
fn a_burst_gives_its_memory_back() {
    let mut bench = bench();
    for _ in 0..4 {
        bench.push("x");
    }
    bench.room(1000);
    bench.pump();
    assert_eq!(bench.express.queue.capacity(), 0);
}

#[test]
fn a_series_leaves_with_one_call() {
    let mut bench = bench();
    bench.room(100);
    assert_eq!(bench.push_series(&["one", "two", "three"]), PushOutcome::Sent);
    bench.check_peer(&["one", "two", "three"]);
    assert_eq!((bench.kernel.calls, bench.express.queue.capacity()), (1, 0));
}

#[test]
fn of_a_series_that_is_cut_the_rest_waits_frame_by_frame() {
    let mut bench = bench();
    bench.room(8);
    assert_eq!(bench.push_series(&["one", "two", "three"]), PushOutcome::Queued);
    assert_eq!(bench.express.pending(), PendingFrames { frames: 2, bytes: 2 + 7 });
    assert_eq!(bench.theirs(&text_frame(b"theirs")), LibraryWrite::Waits);
    assert_eq!(bench.push_series(&["four", "five"]), PushOutcome::Queued);
    bench.room(100);
    bench.pump();
    bench.check_peer(&["one", "two", "three"]);
    bench.theirs(&text_frame(b"theirs"));
    bench.check_peer(&["one", "two", "three", "theirs", "four", "five"]);
}

#[test]
fn the_frame_of_a_series_that_passes_a_bound_ends_the_wire() {
    let mut bench = bench();
    assert_eq!(bench.push_series(&["x"; LIMITS.frames]), PushOutcome::Queued);
    assert_eq!(bench.push_series(&["x"]), PushOutcome::Overflow);
    let mut bench = self::bench();
    assert_eq!(bench.push_series(&["x"; LIMITS.frames + 1]), PushOutcome::Overflow);
    bench.room(100);
    assert_eq!(bench.push_series(&["x"]), PushOutcome::Closed);
    bench.check_peer(&[]);
}

#[test]
fn a_series_of_one_frame_over_the_bound_is_sent_when_nothing_waits() {
    let mut bench = bench();
    bench.room(10);
    assert_eq!(bench.push_series(&[&"x".repeat(2000)]), PushOutcome::Queued);
    bench.room(3000);
    bench.pump();
    bench.check_peer(&[&"x".repeat(2000)]);
}

#[test]
fn a_closed_lane_holds_the_frames_of_a_series() {
    let mut bench = bench();
    bench.lane = bench.express.add_lane("40/n,");
    bench.room(100);
    assert_eq!(bench.push_series(&["one", "two"]), PushOutcome::Queued);
    bench.check_peer(&[]);
    bench.theirs(&text_frame(b"40/n,{}"));
    bench.check_peer(&["40/n,{}", "one", "two"]);
}
