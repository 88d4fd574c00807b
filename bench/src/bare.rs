//! The bare `send`: what a delivery costs at the least. Each event is framed once and written to each member of its room.
//!
//! It knows as much of Socket.IO as the load needs: the handshake, `join_room`, and no pings.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use futures_util::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::Outcome;
use crate::plain::{Arguments, listen_at};
use crate::raw::{framed, measure_frame};

/// `permessage-deflate` is not offered, and no client of the load checks the key.
const UPGRADE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
const OPEN: &str = r#"0{"sid":"s","upgrades":[],"pingInterval":2000000,"pingTimeout":2000000,"maxPayload":1000000}"#;

/// A socket, and what its kernel has not taken yet.
#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    waiting: RefCell<Vec<u8>>,
}

type Rooms = Rc<RefCell<HashMap<String, Vec<Rc<Peer>>>>>;

pub(crate) async fn serve(arguments: Arguments) -> Outcome<()> {
    LocalSet::new().run_until(serve_sockets(arguments)).await
}

async fn serve_sockets(arguments: Arguments) -> Outcome<()> {
    let (listener, rooms) = (listen_at(arguments.listen)?, Rooms::default());
    let mut channel = redis::Client::open(arguments.redis)?.get_async_pubsub().await?;
    channel.subscribe(&arguments.channel).await?;
    let mut messages = channel.on_message();
    loop {
        tokio::select! {
            came = listener.accept() => {
                let (stream, _) = came?;
                stream.set_nodelay(true)?;
                let rooms = rooms.clone();
                tokio::task::spawn_local(async move { serve_one(stream, rooms).await.ok() });
            }
            message = messages.next() => {
                let Some(message) = message else { return Ok(()) };
                deliver(std::str::from_utf8(message.get_payload_bytes())?, &rooms);
            }
        }
    }
}

/// Takes the event out of its message as text, as a server would that never decodes it.
fn deliver(message: &str, rooms: &Rooms) {
    let Some((room, rest)) = message.strip_prefix(r#"{"room":""#).and_then(|rest| rest.split_once('"')) else { return };
    let Some(argument) = rest.strip_prefix(r#","argument":"#).and_then(|rest| rest.strip_suffix('}')) else { return };
    let frame = framed(&format!(r#"42/realtime,["order.status_changed",{argument}]"#));
    for peer in rooms.borrow().get(room).into_iter().flatten() {
        write(peer, &frame);
    }
}

fn write(peer: &Rc<Peer>, frame: &[u8]) {
    let mut waiting = peer.waiting.borrow_mut();
    // What is behind a part of a frame waits with it.
    if !waiting.is_empty() {
        return waiting.extend_from_slice(frame);
    }
    let written = peer.stream.try_write(frame).unwrap_or(0);
    if let Some(rest) = frame.get(written..).filter(|rest| !rest.is_empty()) {
        waiting.extend_from_slice(rest);
        tokio::task::spawn_local(flush(peer.clone()));
    }
}

async fn flush(peer: Rc<Peer>) {
    while peer.stream.writable().await.is_ok() {
        let mut waiting = peer.waiting.borrow_mut();
        let written = peer.stream.try_write(&waiting).unwrap_or(0);
        waiting.drain(..written);
        if waiting.is_empty() {
            return;
        }
    }
}

async fn serve_one(mut stream: TcpStream, rooms: Rooms) -> Outcome<()> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    bytes.clear();
    let peer = Rc::new(Peer { stream, waiting: RefCell::default() });
    write(&peer, UPGRADE);
    write(&peer, &framed(OPEN));
    loop {
        peer.stream.readable().await?;
        match peer.stream.try_read_buf(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        }
        while let Some((head, length)) = measure_frame(&bytes)
            && bytes.len() >= head + length
        {
            let frame: Vec<u8> = bytes.drain(..head + length).collect();
            answer(&peer, std::str::from_utf8(frame.get(head..).unwrap_or_default())?, &rooms);
        }
    }
}

/// The load masks with zeros, so a message is plain text.
fn answer(peer: &Rc<Peer>, message: &str, rooms: &Rooms) {
    if message.starts_with("40") {
        return write(peer, &framed(r#"40/realtime,{"sid":"s"}"#));
    }
    let room = message.split_once(r#""room":""#).and_then(|(_, rest)| rest.split('"').next());
    if let Some(room) = room {
        rooms.borrow_mut().entry(room.to_owned()).or_default().push(peer.clone());
        write(peer, &framed(r#"43/realtime,0[{"ok":true}]"#));
    }
}
