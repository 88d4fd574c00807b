//! A server as a team would write it on socketioxide: no tokens, clients join rooms, events come by a Redis channel.

use std::net::SocketAddr;

use clap::Args;
use futures_util::StreamExt;
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};
use tokio::net::{TcpListener, TcpSocket};

use crate::Outcome;

/// Events that may wait for one socket; the library drops what does not fit, which would be no measurement.
const QUEUE: usize = 8192;
const BACKLOG: u32 = 4096;

/// Where a server of this program listens, and where it hears of events.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    pub(crate) listen: SocketAddr,
    pub(crate) redis: String,
    pub(crate) channel: String,
}

/// Listens with room for all who come at once, as Hallway does.
pub(crate) fn listen_at(address: SocketAddr) -> Outcome<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket.listen(BACKLOG)?)
}

pub(crate) async fn serve(arguments: Arguments) -> Outcome<()> {
    let (layer, io) = SocketIo::builder().max_buffer_size(QUEUE).build_layer();
    io.ns("/realtime", async |socket: SocketRef| {
        socket.on("join_room", async |socket: SocketRef, Data::<Value>(data), ack: AckSender| {
            socket.join(data["room"].as_str().unwrap_or_default().to_owned());
            ack.send(&json!({"ok": true})).ok();
        });
    });
    let listener = listen_at(arguments.listen)?;
    let mut channel = redis::Client::open(arguments.redis)?.get_async_pubsub().await?;
    channel.subscribe(&arguments.channel).await?;
    let emitting = async {
        let mut messages = channel.on_message();
        while let Some(message) = messages.next().await {
            let message: Value = serde_json::from_slice(message.get_payload_bytes())?;
            let (room, argument) = (message["room"].as_str().unwrap_or_default(), &message["argument"]);
            let kind = argument["event"]["type"].as_str().unwrap_or_default();
            let all = io.of("/realtime").ok_or("the namespace is there")?.to(room.to_owned());
            all.emit(kind, argument).await.map_err(|error| error.to_string())?;
        }
        Outcome::Ok(())
    };
    let serving = async { Ok(axum::serve(listener, axum::Router::new().layer(layer)).await?) };
    tokio::try_join!(serving, emitting).map(|_| ())
}
