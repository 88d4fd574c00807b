//! One Socket.IO client, as thin as can be: the load must cost less than what is measured.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::{Outcome, server};

/// Longer than any reply takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A transport that has entered `/realtime`.
#[derive(Debug)]
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
}

impl Client {
    /// Connects and signs in. A receive buffer of so many bytes is asked of the kernel, if any.
    pub(crate) async fn connect(address: SocketAddr, user: &str, receive_buffer: Option<usize>) -> Outcome<Self> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect(&address.into())?;
        socket.set_nonblocking(true)?;
        let stream = TcpStream::from_std(socket.into())?;
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (socket, _) = timeout(PATIENCE, client_async(url, stream)).await??;
        let mut client = Self { socket };
        client.sign_in(&server::token(user)?).await?;
        Ok(client)
    }

    /// Connects and signs in as an agent.
    pub(crate) async fn connect_as_agent(address: SocketAddr, user: &str) -> Outcome<Self> {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (socket, _) = timeout(PATIENCE, client_async(url, TcpStream::connect(address).await?)).await??;
        let mut client = Self { socket };
        client.sign_in(&server::token_of(user, "agent")?).await?;
        Ok(client)
    }

    async fn sign_in(&mut self, token: &str) -> Outcome<()> {
        self.send(&format!(r#"40/realtime,{{"token":"{token}"}}"#)).await?;
        self.until("40/realtime,").await
    }

    /// Takes what has come; false when the transport was closed.
    pub(crate) fn drain(&mut self) -> bool {
        loop {
            match self.socket.next().now_or_never() {
                None => return true,
                Some(Some(Ok(_))) => {}
                Some(Some(Err(_)) | None) => return false,
            }
        }
    }

    /// Joins a room and waits for the reply.
    pub(crate) async fn join(&mut self, room: &str) -> Outcome<()> {
        self.send(&format!(r#"42/realtime,0["join_room",{{"room":"{room}"}}]"#)).await?;
        self.until(r#"43/realtime,0[{"ok":true"#).await
    }

    /// Joins rooms in one act, and waits for the reply.
    pub(crate) async fn join_several(&mut self, rooms: &[String]) -> Outcome<()> {
        let rooms: Vec<String> = rooms.iter().map(|room| format!(r#"{{"room":"{room}"}}"#)).collect();
        self.send(&format!(r#"42/realtime,0["join_rooms",{{"rooms":[{}]}}]"#, rooms.join(","))).await?;
        self.until(r#"43/realtime,0[{"ok":true"#).await
    }

    /// Sends a text message.
    pub(crate) async fn send(&mut self, frame: &str) -> Outcome<()> {
        Ok(self.socket.send(Message::text(frame)).await?)
    }

    async fn until(&mut self, begin: &str) -> Outcome<()> {
        let coming = async {
            loop {
                let frame = self.next().await.ok_or("the server closed a transport")?;
                if frame.starts_with(begin) {
                    return Ok(());
                }
                if frame.starts_with("44") || frame.contains(r#"{"ok":false"#) {
                    return Err(format!("the server refused: {frame}").into());
                }
            }
        };
        timeout(PATIENCE, coming).await?
    }

    /// The next frame but pings, which are answered; none when the transport has ended.
    pub(crate) async fn next(&mut self) -> Option<Utf8Bytes> {
        loop {
            match self.socket.next().await?.ok()? {
                Message::Text(text) if text.as_str() == "2" => self.socket.send(Message::text("3")).await.ok()?,
                Message::Text(text) => return Some(text),
                Message::Close(_) => return None,
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}
