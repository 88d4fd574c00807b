//! A model of both sides and of the peer, which derives the frames that must arrive from those that were accepted.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::ops::Range;

use bytes::Bytes;

use crate::memory::{FRAME, NodeMemory};
use crate::wire::charge::{MessageCharge, PLACE};
use crate::wire::outbox::{LagPolicy, LaneId, LibraryWrite, Outbox, OutboxLimits, PushOutcome};
use crate::wire::{FrameSeries, text_frame};

pub(super) const LANES: usize = 2;
pub(super) const NONCE: &str = "4ed2a7c0";
const ROOMY: OutboxLimits = OutboxLimits { bytes: usize::MAX, frames: usize::MAX, ephemeral_bytes: usize::MAX };

/// The bytes that hyper is going to write, and the offsets of their parts.
#[derive(Debug, Default, Clone)]
pub(super) struct Script {
    pub(super) bytes: Vec<u8>,
    /// Offset at which frames begin.
    pub(super) framing: usize,
    /// Offset before which the nonce must be armed.
    pub(super) head: usize,
    /// Ranges of the messages; the fragments of one and control frames between them count as one.
    pub(super) messages: Vec<Range<usize>>,
    /// Lanes that open when the byte before this offset has passed.
    pub(super) openings: Vec<(usize, usize)>,
    pub(super) close: Option<usize>,
}

/// The bytes that the kernel has taken, theirs and ours.
#[derive(Debug)]
struct Kernel {
    room: usize,
    at_once: usize,
    peer: Vec<u8>,
    /// For each byte that the peer gets: whether it is theirs.
    theirs: Vec<bool>,
}

impl Kernel {
    fn write(&mut self, slices: &[IoSlice<'_>], theirs: &[u8]) -> io::Result<usize> {
        let allowed = self.room.min(self.at_once);
        let mut taken = 0;
        for slice in slices {
            let here = slice.len().min(allowed - taken);
            self.peer.extend_from_slice(&slice[..here]);
            let is_theirs = !theirs.is_empty() && slice.as_ptr() == theirs.as_ptr();
            self.theirs.extend(std::iter::repeat_n(is_theirs, here));
            taken += here;
        }
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room -= taken;
        Ok(taken)
    }
}

/// One connection under test beside the lists of its expected output.
pub(super) struct Model {
    express: Outbox,
    memory: NodeMemory,
    charge: MessageCharge,
    kernel: Kernel,
    script: Script,
    written: usize,
    lanes: [LaneId; LANES],
    open: [bool; LANES],
    held: [Vec<Vec<u8>>; LANES],
    /// Our frames in the order in which they must arrive.
    fifo: VecDeque<Vec<u8>>,
    fifo_bytes: usize,
    /// Bytes of ours that must precede the write of theirs that was refused.
    refused_after: Option<usize>,
    pushed: usize,
    /// The frame of each key that was queued or took a place last.
    newest: HashMap<u64, Vec<u8>>,
}

impl Model {
    pub(super) fn new(script: Script) -> Self {
        let (mut express, memory) = (Outbox::new(ROOMY), NodeMemory::default());
        let lanes = std::array::from_fn(|lane| express.add_lane(&format!("40/ns{lane},")));
        Self {
            express,
            charge: MessageCharge::new(&memory),
            memory,
            kernel: Kernel { room: 0, at_once: usize::MAX, peer: Vec::new(), theirs: Vec::new() },
            script,
            written: 0,
            lanes,
            open: [false; LANES],
            held: Default::default(),
            fifo: VecDeque::new(),
            fifo_bytes: 0,
            refused_after: None,
            pushed: 0,
            newest: HashMap::new(),
        }
    }

    pub(super) fn arm(&mut self) {
        self.express.arm_nonce(NONCE);
    }

    pub(super) fn kernel(&mut self, room: usize, at_once: usize) {
        (self.kernel.room, self.kernel.at_once) = (room, at_once);
    }

    /// Bytes of theirs that are left.
    pub(super) fn left(&self) -> usize {
        self.script.bytes.len() - self.written
    }

    pub(super) fn head_is_next(&self) -> bool {
        self.written == self.script.head
    }

    pub(super) fn until_head(&self) -> usize {
        self.script.head.saturating_sub(self.written)
    }

    pub(super) fn until_message_end(&self) -> usize {
        let ends = [self.script.framing].into_iter().chain(self.script.messages.iter().map(|message| message.end));
        ends.map(|end| end.saturating_sub(self.written)).find(|&left| left > 0).unwrap_or(1)
    }

    pub(super) fn push(&mut self, lane: usize, length: usize, key: Option<u64>) {
        let payload = format!("42/ns{lane},{}{}", self.pushed, "e".repeat(length));
        self.pushed += 1;
        let frame = self.memory.counted_frame(text_frame(payload.as_bytes()));
        let Self { express, kernel, .. } = self;
        let weight = key.map_or(LagPolicy::Durable, LagPolicy::Latest);
        let write = &mut |slices: &[IoSlice<'_>]| kernel.write(slices, &[]);
        let pushed = express.push(self.lanes[lane], weight, frame.clone(), write).unwrap();
        let over = self.script.close.is_some_and(|close| self.written > close);
        assert_eq!(pushed == PushOutcome::Closed, over, "closed exactly after their close frame has begun");
        match pushed {
            PushOutcome::Closed => {}
            PushOutcome::Replaced => {
                self.replaces(key.expect("only a newer one of its key takes a place"), frame.to_vec())
            }
            PushOutcome::Sent | PushOutcome::Queued if self.open[lane] => {
                self.newest.extend(key.map(|key| (key, frame.to_vec())));
                self.enters(frame.to_vec());
            }
            PushOutcome::Queued => self.held[lane].push(frame.to_vec()),
            PushOutcome::Sent | PushOutcome::Skipped | PushOutcome::Dropped | PushOutcome::Overflow => {
                panic!("unexpected {pushed:?}")
            }
        }
    }

    /// Pushes frames of these lengths as a series.
    pub(super) fn push_series(&mut self, lane: usize, lengths: &[usize]) {
        let mut frame = |length: &usize| {
            let payload = format!("42/ns{lane},{}{}", self.pushed, "e".repeat(*length));
            self.pushed += 1;
            self.memory.counted_frame(text_frame(payload.as_bytes()))
        };
        let frames: Vec<Bytes> = lengths.iter().map(&mut frame).collect();
        let series = FrameSeries::from_frames(frames.clone());
        let Self { express, kernel, .. } = self;
        let write = &mut |slices: &[IoSlice<'_>]| kernel.write(slices, &[]);
        let pushed = express.push_series(self.lanes[lane], &series, write).unwrap();
        let over = self.script.close.is_some_and(|close| self.written > close);
        assert_eq!(pushed == PushOutcome::Closed, over, "closed exactly after their close frame has begun");
        match pushed {
            PushOutcome::Closed => {}
            PushOutcome::Sent | PushOutcome::Queued if self.open[lane] => {
                frames.iter().for_each(|frame| self.enters(frame.to_vec()));
            }
            PushOutcome::Queued => self.held[lane].extend(frames.iter().map(|frame| frame.to_vec())),
            PushOutcome::Sent
            | PushOutcome::Replaced
            | PushOutcome::Skipped
            | PushOutcome::Dropped
            | PushOutcome::Overflow => panic!("unexpected {pushed:?}"),
        }
    }

    pub(super) fn pump(&mut self) {
        let Self { express, kernel, .. } = self;
        express.write_pending(&mut |slices| kernel.write(slices, &[])).unwrap();
    }

    /// Offers up to `length` bytes of theirs.
    pub(super) fn write(&mut self, length: usize) -> LibraryWrite {
        let end = self.script.bytes.len().min(self.written + length);
        let buf = self.script.bytes[self.written..end].to_vec();
        let Self { express, kernel, .. } = self;
        let before = kernel.peer.len();
        let result = express.write_theirs(&buf, &mut |slices| kernel.write(slices, &buf)).unwrap();
        match result {
            LibraryWrite::Wrote(count) => self.wrote(count, before),
            LibraryWrite::Blocked | LibraryWrite::Waits => {
                if self.at_boundary() && self.refused_after.is_none() {
                    self.refused_after = Some(self.fifo_bytes);
                }
            }
        }
        result
    }

    fn wrote(&mut self, count: usize, before: usize) {
        let first = before + self.kernel.theirs[before..].iter().position(|&theirs| theirs).unwrap();
        let ours = self.kernel.theirs[..first].iter().filter(|&&theirs| !theirs).count();
        if let Some(place) = self.refused_after.take() {
            assert_eq!(ours, place, "theirs go after what was queued when they were refused, before what came later");
        }
        let passed = self.written..self.written + count;
        self.written = passed.end;
        for (place, lane) in self.script.openings.clone() {
            if passed.start < place && place <= passed.end {
                self.open[lane] = true;
                for frame in std::mem::take(&mut self.held[lane]) {
                    self.enters(frame);
                }
            }
        }
    }

    /// Checks that the held memory equals the waiting frames: each counts with all of its bytes, also one that has
    /// begun.
    pub(super) fn held(&mut self) {
        let pending = self.express.pending();
        self.charge.note_pending(pending);
        let waits = pending.bytes + self.express.cut + pending.frames * (PLACE + FRAME);
        assert_eq!(self.memory.held_bytes(), waits, "{pending:?}");
    }

    fn enters(&mut self, frame: Vec<u8>) {
        self.fifo_bytes += frame.len();
        self.fifo.push_back(frame);
    }

    /// Expects that the last frame of a key, which has not begun, is replaced and never seen.
    fn replaces(&mut self, key: u64, frame: Vec<u8>) {
        let older = self.newest.insert(key, frame.clone()).expect("there was an older one");
        let at = self.fifo.iter().rposition(|waiting| *waiting == older).expect("it was accepted");
        let before: usize = self.fifo.iter().take(at).map(Vec::len).sum();
        assert!(before >= self.kernel.theirs.iter().filter(|&&theirs| !theirs).count(), "it had not begun");
        if let Some(place) = self.refused_after.as_mut().filter(|place| **place > before) {
            *place = *place + frame.len() - older.len();
        }
        self.fifo_bytes = self.fifo_bytes + frame.len() - older.len();
        self.fifo[at] = frame;
    }

    fn at_boundary(&self) -> bool {
        let inside = |message: &Range<usize>| message.start < self.written && self.written < message.end;
        self.written >= self.script.framing && !self.script.messages.iter().any(inside)
    }

    /// Parses the peer's bytes from their start, byte by byte, against the promise.
    pub(super) fn check(mut self) {
        let peer = std::mem::take(&mut self.kernel.peer);
        let script = &self.script;
        let framing = script.framing.min(self.written);
        assert_eq!(&peer[..framing], &script.bytes[..framing], "a clean HTTP prefix");
        let mut rest = &peer[framing..];
        let mut theirs = script.messages.iter().peekable();
        while !rest.is_empty() {
            if let Some(ours) = self.fifo.front().filter(|frame| rest.starts_with(frame)) {
                rest = &rest[ours.len()..];
                self.fifo.pop_front();
                continue;
            }
            let message = theirs.next().expect("a whole frame of ours or the next of theirs");
            let passed = &script.bytes[message.start..message.end.min(self.written)];
            assert!(!passed.is_empty() && rest.starts_with(passed), "their messages whole and in order");
            rest = &rest[passed.len()..];
            if script.close == Some(message.start) {
                assert!(rest.is_empty(), "nothing after their close frame");
                self.fifo.clear();
            }
        }
        assert!(self.fifo.is_empty(), "every accepted frame of an open lane arrives");
        assert_eq!(theirs.peek().filter(|message| message.start < self.written), None);
        if self.script.close.is_none() {
            let held: usize = self.held.iter().map(Vec::len).sum();
            assert_eq!(self.express.pending().frames, held, "closed lanes hold theirs to the end");
        }
        self.held();
        self.lanes.into_iter().for_each(|lane| self.express.remove_lane(lane));
        self.held();
        assert_eq!(self.memory.held_bytes(), 0, "what has gone, or is forgotten, is not held");
    }
}
