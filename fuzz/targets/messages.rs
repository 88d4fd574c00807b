//! The messages of a client's bytes, cut anywhere, against a parser of the whole buffer.

#![no_main]

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use hallway::wire::fuzzing::{FuzzedMessage, FuzzedPeer};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Stream<'a> {
    frames: Vec<Frame<'a>>,
    rest: &'a [u8],
    cuts: &'a [u8],
}

#[derive(Arbitrary, Debug)]
struct Frame<'a> {
    first: u8,
    /// The mask, where it is masked.
    mask: [u8; 4],
    masked: u8,
    long: bool,
    payload: &'a [u8],
}

impl Frame<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let (masked, length) = (u8::from(self.masked > 0) << 7, self.payload.len() as u64);
        out.push(self.first);
        match length {
            0..126 if !self.long => out.push(masked | length as u8),
            126..65_536 if !self.long => {
                out.push(masked | 126);
                out.extend((length as u16).to_be_bytes());
            }
            _ => {
                out.push(masked | 127);
                out.extend(length.to_be_bytes());
            }
        }
        if masked > 0 {
            out.extend(self.mask);
        }
        out.extend(self.payload);
    }
}

/// What is known of a stream when all of it is there.
#[derive(Default)]
struct Whole {
    /// Where each message ended, or was refused.
    messages: Vec<(usize, FuzzedMessage)>,
    /// Where no message is under way.
    rests: BTreeSet<usize>,
}

fn parse(bytes: &[u8]) -> Whole {
    let mut whole = Whole::default();
    whole.rests.insert(0);
    let (mut at, mut open) = (0, None::<(u8, Vec<u8>)>);
    loop {
        let [first, second, ..] = bytes[at..] else { return whole };
        let extra = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let head = 2 + extra + if second & 0x80 != 0 { 4 } else { 0 };
        let Some(header) = bytes.get(at..at + head) else { return whole };
        let length = match extra {
            0 => u64::from(second & 0x7f),
            _ => header[2..2 + extra].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        let fits = match opcode {
            0 => open.is_some(),
            1 | 2 => open.is_none(),
            8..=10 => last && length <= 125,
            _ => false,
        };
        if !fits || first & 0x70 != 0 || second & 0x80 == 0 {
            whole.messages.push((at + head, FuzzedMessage::Violation));
            return whole;
        }
        let end = usize::try_from(length).ok().and_then(|length| (at + head).checked_add(length));
        let Some(payload) = end.and_then(|end| bytes.get(at + head..end)) else { return whole };
        let mask = &header[head - 4..];
        let payload = payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect::<Vec<_>>();
        at += head + payload.len();
        match opcode {
            8 => {
                whole.messages.push((at, FuzzedMessage::Close(payload)));
                return whole;
            }
            9 => whole.messages.push((at, FuzzedMessage::Ping(payload))),
            10 => {}
            _ => {
                let (_, kept) = open.get_or_insert((opcode, Vec::new()));
                kept.extend(payload);
                if last && let Some((kind, kept)) = open.take() {
                    let message = if kind == 1 { FuzzedMessage::Text(kept) } else { FuzzedMessage::Binary(kept) };
                    whole.messages.push((at, message));
                }
            }
        }
        if open.is_none() {
            whole.rests.insert(at);
        }
    }
}

fuzz_target!(|stream: Stream<'_>| {
    let mut bytes = Vec::new();
    stream.frames.iter().for_each(|frame| frame.write(&mut bytes));
    bytes.extend(stream.rest);
    let whole = parse(&bytes);
    let (mut peer, mut at, mut read) = (FuzzedPeer::default(), 0, Vec::new());
    let mut cuts = stream.cuts.iter().map(|cut| usize::from(*cut)).cycle();
    while at < bytes.len() {
        let to = cuts.next().map_or(bytes.len(), |cut| (at + cut.max(1)).min(bytes.len()));
        read.extend(peer.read(&bytes[at..to]));
        at = to;
        let passed: Vec<_> = whole.messages.iter().filter(|(end, _)| *end <= at).map(|(_, m)| m.clone()).collect();
        assert_eq!(read, passed, "at {at}");
        // Nothing behind it has a meaning.
        if matches!(read.last(), Some(FuzzedMessage::Close(_) | FuzzedMessage::Violation)) {
            return;
        }
        assert_eq!(peer.at_rest(), whole.rests.contains(&at), "at {at}");
    }
});
