//! Tests of messages out of bytes: against a model that builds the bytes of known messages, in reads of every size.

use proptest::prelude::*;

use super::*;
use crate::wire::header::FIN;

const MASKED: u8 = 0x80;

/// A message as the model keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Close(Vec<u8>),
    Violation,
}

fn kept(message: &PeerMessage<'_>) -> Sent {
    match message {
        PeerMessage::Text(bytes) => Sent::Text(bytes.to_vec()),
        PeerMessage::Binary(bytes) => Sent::Binary(bytes.to_vec()),
        PeerMessage::Ping(bytes) => Sent::Ping(bytes.to_vec()),
        PeerMessage::Close(bytes) => Sent::Close(bytes.to_vec()),
        PeerMessage::Violation => Sent::Violation,
    }
}

fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { MASKED } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        0..126 => bytes.push(masked | u8::try_from(payload.len()).expect("short")),
        126..65_536 => {
            bytes.push(masked | 126);
            bytes.extend(u16::try_from(payload.len()).expect("medium").to_be_bytes());
        }
        length => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask.into_iter().flatten());
    let mask = mask.unwrap_or_default();
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Reads bytes in parts of these lengths, over and over; gives what came out until it broke off.
fn read_in_parts(bytes: &[u8], parts: &[usize]) -> (Vec<Sent>, PeerMessages) {
    let (mut messages, mut out, mut rest) = (PeerMessages::default(), Vec::new(), bytes.to_vec());
    for part in parts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let later = rest.split_off((*part).min(rest.len()));
        let flow = messages.read_bytes(&mut rest, |message| {
            out.push(kept(&message));
            if message == PeerMessage::Violation { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if flow.is_break() {
            break;
        }
        rest = later;
    }
    (out, messages)
}

#[track_caller]
fn check_violation(bytes: &[u8]) {
    assert_eq!(read_in_parts(bytes, &[1]).0.last(), Some(&Sent::Violation), "{bytes:02x?}");
}

#[test]
fn what_no_client_may_send_is_a_violation() {
    let mask = Some([1, 2, 3, 4]);
    check_violation(&frame(FIN | TEXT, b"unmasked", None));
    for opcode in [3, 4, 5, 6, 7, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f] {
        check_violation(&frame(FIN | opcode, b"x", mask));
    }
    for reserved in [0x40, 0x20, 0x10] {
        check_violation(&frame(FIN | reserved | TEXT, b"x", mask));
    }
    for control in [PING, PONG, CLOSE] {
        check_violation(&frame(control, b"a part", mask));
        check_violation(&frame(FIN | control, &[0; 126], mask));
    }
    check_violation(&frame(FIN | CONTINUATION, b"of nothing", mask));
    for opcode in [TEXT, BINARY] {
        check_violation(&[frame(TEXT, b"a part", mask), frame(FIN | opcode, b"x", mask)].concat());
    }
}

#[test]
fn nothing_is_kept_behind_a_whole_message() {
    let mask = Some([9, 8, 7, 6]);
    let bytes = [frame(TEXT, b"a ", mask), frame(FIN | PING, b"?", mask), frame(FIN | CONTINUATION, b"text", mask)];
    let (out, messages) = read_in_parts(&bytes.concat(), &[3]);
    assert_eq!(out, [Sent::Ping(b"?".to_vec()), Sent::Text(b"a text".to_vec())]);
    assert_eq!((messages.kept.capacity(), messages.control.capacity()), (0, 0));
}

fn message() -> impl Strategy<Value = (bool, Vec<Vec<u8>>, bool)> {
    let fragment = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(any::<u8>(), 120..130),
        prop::collection::vec(any::<u8>(), 0..3000)
    ];
    (any::<bool>(), prop::collection::vec(fragment, 1..4), any::<bool>())
}

proptest! {
    #[test]
    fn messages_come_out_as_they_were_sent_however_they_are_cut(
        sent in prop::collection::vec(message(), 1..8),
        masks in prop::collection::vec(any::<[u8; 4]>(), 1..8),
        parts in prop::collection::vec(1_usize..500, 1..20),
    ) {
        let (mut bytes, mut expected, mut masks) = (Vec::new(), Vec::new(), masks.iter().copied().cycle());
        for (is_text, fragments, pings) in sent {
            for (at, fragment) in fragments.iter().enumerate() {
                let fin = if at + 1 == fragments.len() { FIN } else { 0 };
                let opcode = match (at, is_text) { (0, true) => TEXT, (0, false) => BINARY, _ => CONTINUATION };
                bytes.extend(frame(fin | opcode, fragment, masks.next()));
                if pings && fin == 0 {
                    let payload = &fragment[..fragment.len().min(125)];
                    bytes.extend(frame(FIN | PING, payload, masks.next()));
                    bytes.extend(frame(FIN | PONG, payload, masks.next()));
                    expected.push(Sent::Ping(payload.to_vec()));
                }
            }
            let whole = fragments.concat();
            expected.push(if is_text { Sent::Text(whole) } else { Sent::Binary(whole) });
        }
        bytes.extend(frame(FIN | CLOSE, b"\x03\xe8", masks.next()));
        expected.push(Sent::Close(b"\x03\xe8".to_vec()));
        prop_assert_eq!(read_in_parts(&bytes, &parts).0, expected);
    }
}
