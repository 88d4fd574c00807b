//! A server that gives every command the same refusal, as a Redis does that serves no client.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// See the module. It ends when it is dropped.
pub struct Refuser {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Refuser {
    /// One that answers with this, such as `-LOADING Redis is loading the dataset in memory`.
    pub async fn answering(refusal: &str) -> Self {
        let listener = TcpListener::bind(super::free_address()).await.expect("the address is free");
        let address = listener.local_addr().expect("it is bound");
        let (mut tasks, refusal) = (JoinSet::new(), format!("{refusal}\r\n"));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(refuse(client, refusal.clone()));
            }
        });
        Self { address, _tasks: tasks }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Answers each command, of which each begins with `*` at the beginning of a line. No command of a gateway has such a line
/// in its arguments.
async fn refuse(mut client: TcpStream, refusal: String) {
    let (mut bytes, mut before) = ([0; 4096], b'\n');
    while let Ok(count @ 1..) = client.read(&mut bytes).await {
        for byte in &bytes[..count] {
            if *byte == b'*' && before == b'\n' && client.write_all(refusal.as_bytes()).await.is_err() {
                return;
            }
            before = *byte;
        }
    }
}
