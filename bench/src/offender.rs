//! Clients that ask for more than they may have, at a fixed rate, in a process of their own.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{MissedTickBehavior, interval};

use crate::Outcome;
use crate::client::Client;
use crate::process::step_aside;
use crate::server::API_KEY;

/// An address of this machine that the crowd does not come from.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Offenders of one kind that work side by side.
pub(crate) const WORKERS: usize = 4;
/// Bytes of a message, twice as many as may be.
const OVERSIZE: usize = 128 * 1024;
/// How long a body is held open: less than `api.body_timeout`.
const HELD: Duration = Duration::from_secs(5);

/// An event that may be published.
const EVENT: &str = r#"{"room":"order:x","type":"order.status_changed","payload":1}"#;

/// At which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Handshakes, 1000 a second.
    Handshakes,
    /// Connections of one address that stay, and then 1000 tries a second.
    Connections,
    /// 2000 commands a second on four sockets that come back when they are closed.
    Commands,
    /// 400 locations a second on four sockets.
    Locations,
    /// 100 messages a second that are too long.
    Frames,
    /// 400 joins a second on four sockets that are in as many rooms as they may.
    Rooms,
    /// 100 publishes a second by HTTP that are too large.
    Events,
    /// Four bodies that never end, which is as many as may be under way, and 200 publishes a second beside them.
    Pending,
}

/// Who offends whom.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    kind: Kind,
    address: SocketAddr,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Handshakes,
        Self::Connections,
        Self::Commands,
        Self::Locations,
        Self::Frames,
        Self::Rooms,
        Self::Events,
        Self::Pending,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Handshakes => "handshakes",
            Self::Connections => "connections",
            Self::Commands => "commands",
            Self::Locations => "locations",
            Self::Frames => "frames",
            Self::Rooms => "rooms",
            Self::Events => "events",
            Self::Pending => "pending",
        }
    }

    /// Of all workers together, a second.
    fn rate(self) -> u32 {
        match self {
            Self::Handshakes | Self::Connections => 1000,
            Self::Commands => 2000,
            Self::Locations | Self::Rooms => 400,
            Self::Pending => 200,
            Self::Frames | Self::Events => 100,
        }
    }
}

/// Goes on until it is killed.
pub(crate) async fn run(arguments: Arguments) -> Outcome<()> {
    step_aside()?;
    let workers = (0..WORKERS).map(|number| work(&arguments, number));
    join_all(workers).await.into_iter().collect()
}

async fn work(arguments: &Arguments, number: usize) -> Outcome<()> {
    let period = Duration::from_secs(1) * u32::try_from(WORKERS)? / arguments.kind.rate();
    let mut beat = interval(period);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kept: Vec<TcpStream> = Vec::new();
    let (mut client, mut held, mut joins) = (None, None, 0_u64);
    loop {
        beat.tick().await;
        match arguments.kind {
            Kind::Handshakes => drop(handshake(arguments.address).await),
            Kind::Connections => kept.extend(handshake(arguments.address).await?),
            Kind::Commands => {
                command(&mut client, arguments.address, number, r#"42/realtime,0["leave_room",{"room":"order:x"}]"#)
                    .await;
            }
            Kind::Locations => {
                let location = r#"42/realtime,0["update_location",{"lat":1,"lng":2}]"#;
                command(&mut client, arguments.address, number, location).await;
            }
            Kind::Frames => {
                let frame = "x".repeat(OVERSIZE);
                command(&mut client, arguments.address, number, &frame).await;
                client = None;
            }
            Kind::Rooms => {
                joins += 1;
                let join = format!(r#"42/realtime,0["join_room",{{"room":"order:{number}-{joins}"}}]"#);
                command(&mut client, arguments.address, number, &join).await;
            }
            Kind::Events => {
                let payload = "x".repeat(OVERSIZE);
                publish(arguments.address, &EVENT.replace('1', &format!("\"{payload}\""))).await;
            }
            Kind::Pending => {
                if held.as_ref().is_none_or(|(_, since): &(TcpStream, Instant)| since.elapsed() > HELD) {
                    drop(held.take());
                    held = Some((begin(arguments.address, 100).await?, Instant::now()));
                }
                publish(arguments.address, EVENT).await;
            }
        }
    }
}

/// Sends something, on a new transport where there is none, and reads what has come.
async fn command(client: &mut Option<Client>, address: SocketAddr, number: usize, frame: &str) {
    if client.is_none() {
        *client = Client::connect_as_agent(address, &format!("offender{number}")).await.ok();
    }
    let Some(open) = client else { return };
    if open.send(frame).await.is_err() || !open.drain() {
        *client = None;
    }
}

/// Publishes and waits for the answer. Who is refused may be cut off while it still writes.
async fn publish(address: SocketAddr, body: &str) {
    if let Ok(mut stream) = begin(address, body.len()).await {
        let _ = stream.write_all(body.as_bytes()).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

/// Begins to publish, with so many bytes to come.
async fn begin(address: SocketAddr, bytes: usize) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "POST /v1/publish HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {API_KEY}\r\n\
         Content-Length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}

/// Asks for a transport; gives it where one is granted.
async fn handshake(address: SocketAddr) -> Outcome<Option<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((ELSEWHERE, 0).into())?;
    let mut stream = socket.connect(address).await?;
    let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 512];
    let read = stream.read(&mut answer).await?;
    Ok(answer[..read].starts_with(b"HTTP/1.1 101").then_some(stream))
}
