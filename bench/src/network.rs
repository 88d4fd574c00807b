//! A network of one's own, and in it the peer whose network vanishes.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use clap::Args;
use tokio::time::sleep;

use crate::Outcome;
use crate::client::Client;
use crate::server::Server;

/// Where the peer finds the server.
const GATE: [u8; 4] = [10, 77, 0, 1];

/// Where the peer goes.
#[derive(Args, Debug)]
pub(crate) struct PeerArguments {
    address: SocketAddr,
    #[arg(required = true)]
    rooms: Vec<String>,
}

/// A member in another network.
#[derive(Debug)]
pub(crate) struct Peer {
    process: Child,
    orders: ChildStdin,
}

/// This command again in a network of its own, as root or as root of a user namespace; it must get `inside`.
pub(crate) fn go_inside(inside: &str) -> Outcome<()> {
    let works = |way: &&&[&str]| {
        let mut attempt = Command::new("unshare");
        attempt.args(**way).args(["ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0"]);
        attempt.output().is_ok_and(|output| output.status.success())
    };
    let ways: [&[&str]; 2] = [&["-n"], &["-Urn"]];
    let way = ways
        .iter()
        .find(works)
        .ok_or("a network of one's own takes unshare (util-linux) and ip (iproute2), and root or user namespaces")?;
    let mut again = Command::new("unshare");
    again.args(*way).arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).arg(inside);
    if again.status()?.success() { Ok(()) } else { Err("it failed in its own network".into()) }
}

/// The way back to this machine, which a new network does not have.
pub(crate) fn raise_loopback() -> Outcome<()> {
    ip("link set lo up")
}

fn ip(arguments: &str) -> Outcome<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

impl Peer {
    /// A member of these rooms; they are joined when this returns.
    pub(crate) async fn start(server: &Server, rooms: &[&str]) -> Outcome<Self> {
        let address = SocketAddr::from((GATE, server.clients.port())).to_string();
        let mut command = Command::new("unshare");
        command.arg("-n").arg(std::env::current_exe()?).args(["peer", &address]).args(rooms);
        let mut process = command.stdin(Stdio::piped()).spawn()?;
        let orders = process.stdin.take().ok_or("it is piped")?;
        let mut peer = Self { process, orders };
        let pid = peer.process.id();
        let own = std::fs::read_link("/proc/self/ns/net")?;
        while std::fs::read_link(format!("/proc/{pid}/ns/net"))? == own {
            sleep(Duration::from_millis(5)).await;
        }
        ip(&format!("link add bench0 type veth peer name peer0 netns {pid}"))?;
        ip("addr add 10.77.0.1/24 dev bench0")?;
        ip("link set bench0 up")?;
        peer.tell("up")?;
        while server.room_size(rooms[0]).await? == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        Ok(peer)
    }

    /// Its network falls silent.
    pub(crate) fn vanish(&mut self) -> Outcome<()> {
        self.tell("vanish")
    }

    fn tell(&mut self, order: &str) -> Outcome<()> {
        Ok(writeln!(self.orders, "{order}")?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn order() -> Outcome<()> {
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// What the process in the other network does, an order at a time.
pub(crate) async fn peer(arguments: PeerArguments) -> Outcome<()> {
    order()?;
    ip("addr add 10.77.0.2/24 dev peer0")?;
    ip("link set peer0 up")?;
    let mut client = Client::connect(arguments.address, "half-open", None).await?;
    for room in arguments.rooms.iter().rev() {
        client.join(room).await?;
    }
    order()?;
    ip("addr flush dev peer0")?;
    order()?;
    drop(client);
    Ok(())
}
