//! A `WebSocket` byte by byte: frames as a test writes them, cut anywhere, and what comes back as it stands.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::dice::Dice;
use crate::harness::PATIENCE;

pub(super) const FIN: u8 = 0x80;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;
const CONTINUATION: u8 = 0;

/// One frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerFrame {
    /// Its first byte.
    pub(super) first: u8,
    pub(super) payload: Vec<u8>,
}

impl ServerFrame {
    /// The payload of a text frame.
    pub(super) fn text(&self) -> Option<&str> {
        let payload = (self.first == FIN | TEXT).then_some(&self.payload)?;
        Some(std::str::from_utf8(payload).expect("the server writes UTF-8"))
    }
}

/// One connection.
pub(super) struct RawSocket {
    stream: TcpStream,
    /// What was read and not taken.
    unread: Vec<u8>,
    /// What is waited for, for a failing test.
    pub(super) awaits: String,
}

/// A client's frame.
pub(super) fn frame(first: u8, payload: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        0..126 => bytes.push(0x80 | u8::try_from(payload.len()).expect("short")),
        126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(payload.len()).expect("medium").to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let mask: [u8; 4] = std::array::from_fn(|_| dice.byte());
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A message in one frame or in several, with pings among them.
pub(super) fn message(opcode: u8, payload: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut cuts: Vec<usize> = (0..dice.roll(4)).map(|_| dice.roll(payload.len() + 1)).collect();
    // Most clients never cut a message.
    if dice.roll(3) > 0 {
        cuts.clear();
    }
    cuts.sort_unstable();
    cuts.push(payload.len());
    let (mut bytes, mut from) = (Vec::new(), 0);
    for (at, cut) in cuts.iter().enumerate() {
        let fin = if at + 1 == cuts.len() { FIN } else { 0 };
        bytes.extend(frame(fin | if at == 0 { opcode } else { CONTINUATION }, &payload[from..*cut], dice));
        if fin == 0 && dice.roll(2) == 0 {
            bytes.extend(frame(FIN | PING, format!("among {cut}").as_bytes(), dice));
        }
        from = *cut;
    }
    bytes
}

impl RawSocket {
    /// Opens a transport and takes the head of the response.
    pub(super) async fn open(address: SocketAddr) -> Self {
        Self::open_with(address, &[]).await
    }

    /// Opens a transport with bytes right behind the request.
    pub(super) async fn open_with(address: SocketAddr, behind: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("an option of each socket");
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(&[request.as_bytes(), behind].concat()).await.expect("it takes a request");
        let mut socket = Self { stream, unread: Vec::new(), awaits: String::new() };
        while !socket.unread.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            assert!(socket.read_more().await, "the upgrade is accepted");
        }
        let end = socket.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("it was just found");
        socket.unread.drain(..end + 4);
        socket
    }

    /// Writes bytes in parts; nothing happens when the server does not take them any more.
    pub(super) async fn write_parts(&mut self, bytes: &[u8], dice: &mut Dice) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (part, later) = rest.split_at(dice.part(rest.len()));
            if self.stream.write_all(part).await.is_err() {
                return;
            }
            rest = later;
            for _ in 0..dice.roll(4) {
                yield_now().await;
            }
        }
    }

    /// The next frame; none when the connection has ended.
    pub(super) async fn next_frame(&mut self) -> Option<ServerFrame> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            let more = timeout(PATIENCE, self.read_more()).await;
            let more = more.unwrap_or_else(|_| panic!("neither a frame nor the end: {}", self.awaits));
            if !more {
                return None;
            }
        }
    }

    /// The next text; heartbeats are answered. None when the connection has ended.
    pub(super) async fn next_text(&mut self, dice: &mut Dice) -> Option<String> {
        loop {
            let frame = self.next_frame().await?;
            match frame.text() {
                Some("2") => {
                    let answer = super::raw::frame(FIN | TEXT, b"3", dice);
                    self.write_parts(&answer, dice).await;
                }
                Some(text) => return Some(text.to_owned()),
                None => {}
            }
        }
    }

    async fn read_more(&mut self) -> bool {
        let mut bytes = [0; 4096];
        // A reset is an end too.
        let count = self.stream.read(&mut bytes).await.unwrap_or(0);
        self.unread.extend_from_slice(&bytes[..count]);
        count > 0
    }

    fn take_frame(&mut self) -> Option<ServerFrame> {
        let [first, length, ..] = *self.unread else { return None };
        assert!(length < 0x80, "a server masks nothing");
        let (size, length) = match length {
            126 => (4, usize::from(u16::from_be_bytes(self.unread.get(2..4)?.try_into().expect("two bytes")))),
            127 => (
                10,
                usize::try_from(u64::from_be_bytes(self.unread.get(2..10)?.try_into().expect("eight"))).expect("small"),
            ),
            short => (2, usize::from(short)),
        };
        let payload = self.unread.get(size..size + length)?.to_vec();
        self.unread.drain(..size + length);
        Some(ServerFrame { first, payload })
    }
}
