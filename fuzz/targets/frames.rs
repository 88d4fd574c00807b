//! The wire's follower against a parser of the whole buffer, whatever bytes come and wherever they are cut.

#![no_main]

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use hallway::wire::fuzzing::FuzzedFollower;
use libfuzzer_sys::fuzz_target;

const NONCE: &str = "9f9e9f9f";

#[derive(Arbitrary, Debug)]
struct Stream<'a> {
    before: &'a [u8],
    head: Option<&'a [u8]>,
    frames: Vec<Frame<'a>>,
    rest: &'a [u8],
    cuts: &'a [u8],
    capture: u8,
}

#[derive(Arbitrary, Debug)]
struct Frame<'a> {
    first: u8,
    masked: bool,
    length: Length,
    payload: &'a [u8],
}

#[derive(Arbitrary, Debug)]
enum Length {
    Short,
    Medium,
    Long,
    /// Not that of the payload.
    Said(u64),
}

impl Frame<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let mask = u8::from(self.masked && self.payload.len().is_multiple_of(7)) << 7;
        let length = self.payload.len() as u64;
        out.push(self.first);
        match self.length {
            Length::Short if length < 126 => out.push(mask | length as u8),
            Length::Short | Length::Medium => {
                out.push(mask | 126);
                out.extend((length as u16).to_be_bytes());
            }
            Length::Long => {
                out.push(mask | 127);
                out.extend(length.to_be_bytes());
            }
            Length::Said(length) => {
                out.push(mask | 127);
                out.extend(length.to_be_bytes());
            }
        }
        out.extend(self.payload);
    }
}

impl Stream<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.before.to_vec();
        if let Some(head) = self.head {
            bytes.extend(NONCE.as_bytes());
            bytes.extend(head);
            bytes.extend(b"\r\n\r\n");
        }
        self.frames.iter().for_each(|frame| frame.write(&mut bytes));
        bytes.extend(self.rest);
        bytes
    }
}

/// What is known of a stream when all of it is there.
#[derive(Debug, Default)]
struct Whole {
    framing_from: Option<usize>,
    boundaries: BTreeSet<usize>,
    over_from: Option<usize>,
    /// Where each text ended, with its leading bytes.
    texts: Vec<(usize, Vec<u8>)>,
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted).map(|at| at + wanted.len())
}

fn parse(bytes: &[u8], capture: usize) -> Whole {
    let mut whole = Whole::default();
    let Some(nonce) = find(bytes, NONCE.as_bytes()) else { return whole };
    let Some(end) = find(&bytes[nonce..], b"\r\n\r\n") else { return whole };
    whole.framing_from = Some(nonce + end);
    whole.boundaries.insert(nonce + end);
    let (mut at, mut fragmented, mut text) = (nonce + end, false, None::<Vec<u8>>);
    while let Some(&first) = bytes.get(at) {
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        if opcode == 8 {
            whole.over_from = Some(at + 1);
            return whole;
        }
        let Some(&second) = bytes.get(at + 1) else { return whole };
        if second & 0x80 != 0 {
            whole.over_from = Some(at + 2);
            return whole;
        }
        let extra = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(extended) = bytes.get(at + 2..at + 2 + extra) else { return whole };
        let length = match extra {
            0 => u64::from(second),
            _ => extended.iter().fold(0, |length, byte| length * 256 + u64::from(*byte)),
        };
        let from = at + 2 + extra;
        let Some(payload) = usize::try_from(length).ok().and_then(|length| bytes.get(from..from.checked_add(length)?))
        else {
            return whole;
        };
        at = from + payload.len();
        if opcode < 8 {
            if opcode != 0 {
                text = (opcode == 1 && capture > 0).then(Vec::new);
            }
            if let Some(text) = &mut text {
                text.extend(payload.iter().take(capture - text.len()));
            }
            fragmented = !last;
            if last && let Some(text) = text.take() {
                whole.texts.push((at, text));
            }
        }
        if !fragmented {
            whole.boundaries.insert(at);
        }
    }
    whole
}

fuzz_target!(|stream: Stream<'_>| {
    let (bytes, capture) = (stream.bytes(), usize::from(stream.capture));
    let whole = parse(&bytes, capture);
    let mut follower = FuzzedFollower::armed(NONCE, capture);
    let (mut at, mut texts) = (0, Vec::new());
    let mut cuts = stream.cuts.iter().map(|cut| usize::from(*cut)).cycle();
    while at < bytes.len() {
        let to = cuts.next().map_or(bytes.len(), |cut| (at + cut.max(1)).min(bytes.len()));
        texts.extend(follower.follow(&bytes[at..to]));
        at = to;
        let over = whole.over_from.is_some_and(|from| at >= from);
        assert_eq!(follower.is_over(), over, "at {at}");
        assert_eq!(follower.is_framing(), !over && whole.framing_from.is_some_and(|from| at >= from), "at {at}");
        assert_eq!(follower.at_boundary(), !over && whole.boundaries.contains(&at), "at {at}");
        let passed: Vec<_> = whole.texts.iter().filter(|(end, _)| *end <= at).map(|(_, text)| text.clone()).collect();
        assert_eq!(texts, passed);
    }
});
