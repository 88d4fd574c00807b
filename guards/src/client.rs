//! One Socket.IO client with raw frames.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::{Outcome, token};

/// Longer than any answer takes, of a gateway under valgrind too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A transport that is signed in.
#[derive(Debug)]
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
}

impl Client {
    /// Connects and signs in.
    pub(crate) async fn connect(address: SocketAddr, user: &str) -> Outcome<Self> {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (socket, _) = timeout(PATIENCE, client_async(url, TcpStream::connect(address).await?)).await??;
        let mut client = Self { socket };
        client.socket.send(Message::text(format!(r#"40/realtime,{{"token":"{}"}}"#, token::token_of(user)?))).await?;
        client.wait_for("40/realtime,").await?;
        Ok(client)
    }

    /// Joins a room and waits for the reply.
    pub(crate) async fn join(&mut self, room: &str) -> Outcome<()> {
        let command = format!(r#"42/realtime,0["join_room",{{"room":"{room}"}}]"#);
        self.socket.send(Message::text(command)).await?;
        self.wait_for(r#"43/realtime,0[{"ok":true"#).await
    }

    /// Waits for an event.
    pub(crate) async fn wait_for_event(&mut self) -> Outcome<()> {
        self.wait_for("42/realtime,").await
    }

    /// Closes the transport and waits until the gateway has closed it too.
    pub(crate) async fn close(mut self) -> Outcome<()> {
        self.socket.close(None).await?;
        timeout(PATIENCE, async { while self.socket.next().await.is_some_and(|message| message.is_ok()) {} }).await?;
        Ok(())
    }

    async fn wait_for(&mut self, begin: &str) -> Outcome<()> {
        let coming = async {
            loop {
                let frame = self.next_frame().await.ok_or("the gateway closed a transport")?;
                if frame.starts_with(begin) {
                    return Ok(());
                }
                if frame.starts_with("44") || frame.contains(r#"{"ok":false"#) {
                    return Err(format!("the gateway refused: {frame}").into());
                }
            }
        };
        timeout(PATIENCE, coming).await?
    }

    async fn next_frame(&mut self) -> Option<Utf8Bytes> {
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
