//! Random scripts of theirs, random pushes, a random kernel.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::LibraryWrite;
use super::model::{LANES, Model, NONCE, Script};

#[derive(Debug, Clone)]
enum Message {
    Text(usize),
    Binary(usize),
    Control(u8, usize),
    Opens(usize),
    /// Lengths of the fragments, and whether pings come between them.
    Fragments(Vec<usize>, bool),
    /// A namespace connects with its packet in fragments.
    OpensInTwo(usize),
}

#[derive(Debug, Clone)]
enum Act {
    Write(usize),
    /// Writes up to the end of the current message.
    WriteMessage,
    Push(usize, usize, Option<u64>),
    /// Pushes frames of these lengths as a series.
    Series(usize, Vec<usize>),
    Kernel(usize, usize),
    Pump,
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0_usize..40, 3 => 110_usize..140, 1 => 65_500_usize..65_600]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        3 => length().prop_map(Message::Text),
        2 => length().prop_map(Message::Binary),
        2 => (prop_oneof![Just(9_u8), Just(10)], 0_usize..126).prop_map(|(opcode, length)| Message::Control(opcode, length)),
        3 => (0..LANES).prop_map(Message::Opens),
        1 => (0..LANES).prop_map(Message::OpensInTwo),
        1 => (vec(0_usize..20, 1..4), any::<bool>()).prop_map(|(lengths, pings)| Message::Fragments(lengths, pings)),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::WriteMessage),
        2 => prop_oneof![1_usize..5, 1_usize..200, Just(1 << 20)].prop_map(Act::Write),
        5 => (0..LANES, length(), option::of(0_u64..3)).prop_map(|(lane, length, key)| Act::Push(lane, length, key)),
        3 => (0..LANES, vec(length(), 1..6)).prop_map(|(lane, lengths)| Act::Series(lane, lengths)),
        3 => (prop_oneof![Just(0_usize), 1_usize..10, 1_usize..300, Just(1 << 20)], prop_oneof![1_usize..8, Just(1 << 20)])
            .prop_map(|(room, at_once)| Act::Kernel(room, at_once)),
        2 => Just(Act::Pump),
    ]
}

/// Responses before the upgrade, with text in their bodies that could be mistaken for a head or a frame.
fn responses() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let body = vec(
        prop_oneof![
            Just(b"\r\n\r\n".to_vec()),
            Just(b"HTTP/1.1 101 Switching Protocols\r\nx-hallway-wire: 4ed2a7c\r\n\r\n".to_vec()),
            Just(vec![0x81, 0x02, b'h', b'i']),
            Just(vec![0x88, 0x00]),
            vec(any::<u8>(), 0..20),
        ],
        0..5,
    );
    vec(
        body.prop_map(|parts| [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n".to_vec(), parts.concat()].concat()),
        0..3,
    )
}

fn frame(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = super::text_frame(payload).to_vec();
    frame[0] = opcode | if fin { 0x80 } else { 0 };
    frame
}

fn encode(message: &Message, number: usize) -> (Vec<u8>, Option<usize>) {
    let theirs = |length: usize| format!("theirs {number} {}", "t".repeat(length)).into_bytes();
    match message {
        Message::Text(length) => (frame(1, true, &theirs(*length)), None),
        Message::Binary(length) => (frame(2, true, &theirs(*length)), None),
        Message::Control(opcode, length) => (frame(*opcode, true, &vec![b'c'; *length]), None),
        Message::Opens(lane) => (frame(1, true, format!("40/ns{lane},{{}}").as_bytes()), Some(*lane)),
        Message::OpensInTwo(lane) => {
            let halves = [frame(1, false, b"40/n"), frame(0, true, format!("s{lane},{{}}").as_bytes())];
            (halves.concat(), Some(*lane))
        }
        Message::Fragments(lengths, pings) => {
            let mut bytes = Vec::new();
            for (index, length) in lengths.iter().enumerate() {
                let opcode = u8::from(index == 0);
                bytes.extend(frame(opcode, index + 1 == lengths.len(), &theirs(*length)));
                if *pings && index + 1 < lengths.len() {
                    bytes.extend(frame(9, true, b"ping"));
                }
            }
            (bytes, None)
        }
    }
}

fn script(responses: &[Vec<u8>], messages: &[Message], closes: bool) -> Script {
    let mut script = Script { bytes: responses.concat(), ..Script::default() };
    script.head = script.bytes.len();
    let head = format!("HTTP/1.1 101 Switching Protocols\r\nx-hallway-wire: {NONCE}\r\nupgrade: websocket\r\n\r\n");
    script.bytes.extend(head.as_bytes());
    script.framing = script.bytes.len();
    for (number, message) in messages.iter().enumerate() {
        let start = script.bytes.len();
        let (bytes, opens) = encode(message, number);
        script.bytes.extend(bytes);
        script.messages.push(start..script.bytes.len());
        script.openings.extend(opens.map(|lane| (script.bytes.len(), lane)));
    }
    if closes {
        let start = script.bytes.len();
        script.bytes.extend(frame(8, true, b"\x03\xe8bye"));
        script.messages.push(start..script.bytes.len());
        script.close = Some(start);
    }
    script
}

fn run(mut model: Model, acts: &[Act], arms_at: usize) {
    let mut armed = false;
    for (index, act) in acts.iter().enumerate() {
        if !armed && (index >= arms_at || model.head_is_next()) {
            model.arm();
            armed = true;
        }
        match act {
            Act::Write(_) | Act::WriteMessage => {
                let length = if let Act::Write(length) = act { *length } else { model.until_message_end() };
                let allowed = if armed { length } else { length.min(model.until_head()) };
                if model.left() > 0 {
                    model.write(allowed);
                }
            }
            Act::Push(lane, length, key) => model.push(*lane, *length, *key),
            Act::Series(lane, lengths) => model.push_series(*lane, lengths),
            Act::Kernel(room, at_once) => model.kernel(*room, *at_once),
            Act::Pump => model.pump(),
        }
        model.held();
    }
    if !armed {
        model.arm();
    }
    model.kernel(usize::MAX, usize::MAX);
    model.pump();
    while model.left() > 0 {
        assert!(matches!(model.write(1 << 20), LibraryWrite::Wrote(_)), "nothing is in their way");
    }
    model.pump();
    model.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_peer_reads_a_clean_prefix_then_whole_frames_once_each_and_in_order(
        responses in responses(),
        messages in vec(message(), 0..12),
        closes in any::<bool>(),
        acts in vec(act(), 0..80),
        arms_at in 0_usize..40,
    ) {
        run(Model::new(script(&responses, &messages, closes)), &acts, arms_at);
    }
}
