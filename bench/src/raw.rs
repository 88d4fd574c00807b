//! A Socket.IO client for crowds of thousands: one read buffer for all of a thread, frames taken by hand.
//!
//! A socket keeps nothing between two reads but the part of a frame that has come.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::Outcome;

/// Longer than any reply takes, with thousands who ask at once.
const PATIENCE: Duration = Duration::from_secs(60);
const SCRATCH_BYTES: usize = 256 * 1024;
const NARROW_BYTES: u32 = 4096;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// A transport.
#[derive(Debug)]
pub(crate) struct Raw {
    stream: TcpStream,
    partial: Vec<u8>,
    /// Messages that came behind a reply in the same read.
    behind: Vec<String>,
}

/// What a look at some bytes gave.
#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    pinged: bool,
    closed: bool,
}

impl Raw {
    /// Connects, upgrades, and enters `/realtime`.
    pub(crate) async fn connect(address: SocketAddr, token: &str) -> Outcome<Self> {
        Self::enter(TcpStream::connect(address).await?, address, token).await
    }

    /// As [`connect`](Self::connect), with a small receive buffer, which is full soon.
    pub(crate) async fn connect_narrow(address: SocketAddr, token: &str) -> Outcome<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(NARROW_BYTES)?;
        Self::enter(socket.connect(address).await?, address, token).await
    }

    async fn enter(mut stream: TcpStream, address: SocketAddr, token: &str) -> Outcome<Self> {
        timeout(PATIENCE, async {
            stream.set_nodelay(true)?;
            let ask = format!(
                "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            );
            stream.write_all(ask.as_bytes()).await?;
            let partial = read_head(&mut stream).await?;
            let mut raw = Self { stream, partial, behind: Vec::new() };
            raw.send(&format!(r#"40/realtime,{{"token":"{token}"}}"#)).await?;
            raw.until("40/realtime,").await?;
            Ok(raw)
        })
        .await?
    }

    /// Joins a room and waits for the reply.
    pub(crate) async fn join(&mut self, room: &str) -> Outcome<()> {
        self.send(&format!(r#"42/realtime,0["join_room",{{"room":"{room}"}}]"#)).await?;
        self.until(r#"43/realtime,0[{"ok":true"#).await.map(drop)
    }

    /// Sends a text message, masked with zeros.
    pub(crate) async fn send(&mut self, text: &str) -> Outcome<()> {
        Ok(self.stream.write_all(&masked(text)).await?)
    }

    /// Waits for bytes and gives each text message in them. False when the transport has ended.
    pub(crate) async fn read_frames(&mut self, each: &mut dyn FnMut(&str)) -> bool {
        for text in std::mem::take(&mut self.behind) {
            each(&text);
        }
        if self.stream.readable().await.is_err() {
            return false;
        }
        let taken = SCRATCH.with_borrow_mut(|scratch| self.read_into(scratch, each));
        let Some(taken) = taken else { return false };
        if taken.pinged && self.send("3").await.is_err() {
            return false;
        }
        !taken.closed
    }

    /// One read; none when the transport has ended.
    fn read_into(&mut self, scratch: &mut [u8], each: &mut dyn FnMut(&str)) -> Option<Taken> {
        let count = match self.stream.try_read(scratch) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Taken::default()),
            Err(_) => return None,
        };
        let came = scratch.get(..count)?;
        if self.partial.is_empty() {
            let taken = take_frames(came, each);
            self.partial.extend_from_slice(came.get(taken.bytes..)?);
            return Some(taken);
        }
        self.partial.extend_from_slice(came);
        let taken = take_frames(&self.partial, each);
        self.partial.drain(..taken.bytes);
        // A socket at rest keeps no buffer, however large its last event was.
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        Some(taken)
    }

    /// The first message that begins so; a refusal is an error.
    pub(crate) async fn until(&mut self, begin: &str) -> Outcome<String> {
        let coming = async {
            // What came with an earlier reply.
            let (mut found, mut behind) = (None, Vec::new());
            self.take_partial(&mut |text| note((&mut found, &mut behind), text, begin));
            while found.is_none() {
                let mut look = |text: &str| note((&mut found, &mut behind), text, begin);
                if !self.read_frames(&mut look).await {
                    return Err("the server closed a transport".into());
                }
            }
            self.behind = behind;
            let found = found.unwrap_or_default();
            if found.starts_with(begin) { Ok(found) } else { Err(format!("the server refused: {found}").into()) }
        };
        timeout(PATIENCE, coming).await?
    }

    fn take_partial(&mut self, each: &mut dyn FnMut(&str)) {
        let taken = take_frames(&self.partial, each);
        self.partial.drain(..taken.bytes);
    }
}

/// Keeps the first message that begins so, or refuses, and what comes behind it.
fn note((found, behind): (&mut Option<String>, &mut Vec<String>), text: &str, begin: &str) {
    let refused = text.starts_with("44") || text.contains(r#"{"ok":false"#);
    if found.is_some() {
        behind.push(text.to_owned());
    } else if text.starts_with(begin) || refused {
        *found = Some(text.to_owned());
    }
}

/// Reads past the head of the answer, and gives the bytes behind it.
async fn read_head(stream: &mut TcpStream) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err("the server closed a transport".into());
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        if !bytes.starts_with(b"HTTP/1.1 101") {
            return Err(format!("no upgrade: {}", String::from_utf8_lossy(&bytes)).into());
        }
        return Ok(bytes.split_off(end + 4));
    }
}

fn masked(text: &str) -> Vec<u8> {
    let mut frame = vec![0x80 | TEXT];
    put_length(&mut frame, text.len(), 0x80);
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// A text frame as servers send it.
pub(crate) fn framed(text: &str) -> Vec<u8> {
    let mut frame = vec![0x80 | TEXT];
    put_length(&mut frame, text.len(), 0);
    frame.extend_from_slice(text.as_bytes());
    frame
}

fn put_length(frame: &mut Vec<u8>, length: usize, mask: u8) {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => frame.push(mask | short),
        (_, Ok(medium)) => {
            frame.push(mask | 126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            frame.push(mask | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// The bytes of the first frame's head, and of its body, masked or not, once the head is there.
pub(crate) fn measure_frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let second = *bytes.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    match second & 0x7f {
        126 => Some((4 + mask, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)))),
        127 => Some((10 + mask, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?)),
        short => Some((2 + mask, usize::from(short))),
    }
}

/// Gives each whole text message but pings.
fn take_frames(bytes: &[u8], each: &mut dyn FnMut(&str)) -> Taken {
    let mut taken = Taken::default();
    while let Some(rest) = bytes.get(taken.bytes..)
        && let Some((head, length)) = measure_frame(rest)
        && let Some(body) = rest.get(head..head + length)
    {
        taken.bytes += head + length;
        match (rest.first().map(|first| first & 0x0f), body) {
            (Some(CLOSE), _) => taken.closed = true,
            (Some(TEXT), b"2") => taken.pinged = true,
            (Some(TEXT), body) => each(std::str::from_utf8(body).unwrap_or_default()),
            _ => {}
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_form_are_taken_wherever_they_are_cut() {
        let texts = ["a".repeat(3), "b".repeat(125), "c".repeat(126), "d".repeat(70_000)];
        let bytes: Vec<u8> = texts.iter().flat_map(|text| framed(text)).collect();
        for cut in (0..400).chain([bytes.len() - 1]) {
            let (mut came, mut rest) = (Vec::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                rest.extend_from_slice(part);
                let taken = take_frames(&rest, &mut |text| came.push(text.to_owned()));
                rest.drain(..taken.bytes);
            }
            assert_eq!(came, texts, "cut at {cut}");
        }
    }
}
