//! The follower against a plain parser, with the stream cut at random places.

use proptest::collection::vec;
use proptest::prelude::*;

use super::StreamFollower;

const NONCE: &str = "9f9e9f9f";

/// `bytes` in pieces of the given sizes, over and over.
fn pieces(bytes: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for &size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(size.clamp(1, rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces
}

fn frame(first: u8, payload: &[u8], length_bytes: u8) -> Vec<u8> {
    let mut frame = vec![first];
    let length = payload.len() as u64;
    match length_bytes {
        0 => frame.push(payload.len() as u8),
        2 => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

fn upgraded() -> StreamFollower {
    let mut follower = StreamFollower::new();
    follower.arm_nonce(NONCE);
    follower.follow_bytes(format!("HTTP/1.1 101 S\r\nx: {NONCE}\r\n\r\n").as_bytes(), |_| {});
    assert!(follower.at_boundary());
    follower
}

proptest! {
    #[test]
    fn only_the_end_of_the_head_with_the_nonce_opens_the_frames(
        before in vec(prop_oneof![Just("HTTP/1.1 200 OK\r\n\r\n"), Just("9f9e9f9"), Just("9f"), Just("\r\n\r"), Just("\u{1}")], 0..8),
        after in vec(prop_oneof![Just("\r\n"), Just("a: b"), Just("\r"), Just("\n")], 0..6),
        sizes in vec(1_usize..12, 1..6),
    ) {
        let after = after.concat();
        prop_assume!(!after.contains("\r\n\r\n") && !format!("{after}\r\n\r\n").trim_end_matches("\r\n\r\n").contains("\r\n\r\n"));
        let whole = format!("{}{NONCE}{after}", before.concat());
        let mut follower = StreamFollower::new();
        follower.arm_nonce(NONCE);
        let mut seen = Vec::new();
        for piece in pieces(format!("{whole}\r\n\r\n").as_bytes(), &sizes) {
            for byte in piece {
                prop_assert!(!follower.at_boundary());
                seen.push(byte);
                follower.follow_bytes(&[byte], |_| {});
                let from = whole.find(NONCE).unwrap() + NONCE.len();
                let ended = seen.len() > from && String::from_utf8_lossy(&seen[from..]).contains("\r\n\r\n");
                prop_assert_eq!(follower.at_boundary(), ended);
                if ended {
                    return Ok(());
                }
            }
        }
        prop_assert!(false, "the head never ended");
    }

    #[test]
    fn a_boundary_is_found_after_each_frame_and_nowhere_else(
        frames in vec((prop_oneof![Just(0x81_u8), Just(0x82), Just(0x89), Just(0x8a)], 0_usize..120, 0_u8..3), 1..8),
        sizes in vec(1_usize..200, 1..6),
    ) {
        let mut follower = upgraded();
        for (first, length, encoding) in frames {
            let whole = frame(first, &vec![b'x'; length], encoding * 2);
            let mut passed = 0;
            for piece in pieces(&whole, &sizes) {
                follower.follow_bytes(&piece, |_| {});
                passed += piece.len();
                prop_assert_eq!(follower.at_boundary(), passed == whole.len());
            }
        }
    }

    #[test]
    fn frames_in_one_piece_end_at_a_boundary_and_every_text_is_reported(
        payloads in vec("[a-z]{0,20}", 1..10),
    ) {
        let mut follower = upgraded();
        follower.set_capture(4);
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| frame(0x81, payload.as_bytes(), 0)).collect();
        let mut texts = Vec::new();
        follower.follow_bytes(&bytes, |text| texts.push(String::from_utf8_lossy(text).into_owned()));
        prop_assert!(follower.at_boundary());
        let starts: Vec<String> = payloads.iter().map(|payload| payload.chars().take(4).collect()).collect();
        prop_assert_eq!(texts, starts);
    }
}

#[test]
fn a_nonce_that_was_not_armed_opens_nothing() {
    let mut follower = StreamFollower::new();
    follower.follow_bytes(format!("x: {NONCE}\r\n\r\n").as_bytes(), |_| {});
    follower.arm_nonce(NONCE);
    follower.follow_bytes(b"HTTP/1.1 200 OK\r\n\r\n", |_| {});
    assert!(!follower.at_boundary() && !follower.is_framing());
}

#[test]
fn between_fragments_there_is_no_boundary_even_after_a_ping() {
    let mut follower = upgraded();
    follower.set_capture(4);
    let mut texts = Vec::new();
    for (bytes, boundary) in [
        (frame(0x01, b"40", 0), false),
        (frame(0x89, b"ping", 0), false),
        (frame(0x00, b"/", 0), false),
        (frame(0x80, b"n,{}", 0), true),
    ] {
        follower.follow_bytes(&bytes, |text| texts.push(text.to_vec()));
        assert_eq!(follower.at_boundary(), boundary);
    }
    assert_eq!(texts, [b"40/n"]);
}

#[test]
fn the_first_byte_of_a_close_frame_ends_it() {
    let mut follower = upgraded();
    follower.follow_bytes(&[0x88], |_| {});
    assert!(follower.is_over() && !follower.at_boundary());
    follower.follow_bytes(&[0, 0x81, 0], |_| {});
    assert!(follower.is_over());
}

#[test]
fn a_masked_frame_is_none_of_a_server_and_ends_it() {
    let mut follower = upgraded();
    follower.follow_bytes(&[0x81, 0x80], |_| {});
    assert!(follower.is_over());
}

#[test]
fn a_length_beyond_memory_is_counted_not_stored() {
    let mut follower = upgraded();
    follower.follow_bytes(&[0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], |_| {});
    follower.follow_bytes(&[0; 4096], |_| {});
    assert!(!follower.at_boundary() && follower.is_framing());
}
