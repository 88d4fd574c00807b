//! An identity provider that publishes a JWKS over plain HTTP, well or badly.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How requests are answered.
#[derive(Clone, Debug)]
pub enum Mode {
    /// With this body and status 200.
    Body(String),
    /// With this status line and these headers, and an empty body.
    Status(&'static str, String),
    /// With more bytes than anybody should read.
    Huge,
    /// Not at all, the connection stays open.
    Hang,
    /// With a byte now and then.
    Dribble,
    /// By the end of the connection.
    Down,
}

/// A provider; it stops with this value.
pub struct Provider {
    address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    requests: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Provider {
    /// One that answers so.
    pub async fn start(mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (mode, requests) = (Arc::new(Mutex::new(mode)), Arc::new(Mutex::new(Vec::new())));
        let mut serving = JoinSet::new();
        let (modes, log) = (mode.clone(), requests.clone());
        serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(answer(stream, modes.clone(), log.clone()));
            }
        });
        Self { address, mode, requests, _serving: serving }
    }

    /// One that publishes these keys.
    pub async fn publishing(keys: &[Value]) -> Self {
        Self::start(jwks(keys)).await
    }

    /// Where the keys are.
    pub fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// Answers so from now on.
    pub fn set(&self, mode: Mode) {
        *self.mode.lock().expect("no panic holds it") = mode;
    }

    /// Publishes these keys from now on.
    pub fn publish(&self, keys: &[Value]) {
        self.set(jwks(keys));
    }

    /// The first lines of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic holds it").clone()
    }
}

/// A JWKS of these keys.
pub fn jwks(keys: &[Value]) -> Mode {
    Mode::Body(json!({ "keys": keys }).to_string())
}

async fn answer(mut stream: TcpStream, mode: Arc<Mutex<Mode>>, log: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let text = String::from_utf8_lossy(&head);
    log.lock().expect("no panic holds it").push(text.lines().next().unwrap_or_default().to_owned());
    let mode = mode.lock().expect("no panic holds it").clone();
    let write = async |stream: &mut TcpStream, text: String| stream.write_all(text.as_bytes()).await.is_ok();
    match mode {
        Mode::Body(body) => {
            let length = body.len();
            write(
                &mut stream,
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"),
            )
            .await;
        }
        Mode::Status(line, headers) => {
            write(&mut stream, format!("HTTP/1.1 {line}\r\n{headers}connection: close\r\ncontent-length: 0\r\n\r\n"))
                .await;
        }
        Mode::Huge => {
            write(&mut stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"keys\":[".to_owned()).await;
            while write(&mut stream, " ".repeat(64 * 1024)).await {}
        }
        Mode::Hang => std::future::pending().await,
        Mode::Dribble => {
            write(&mut stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"keys\":[".to_owned()).await;
            while write(&mut stream, " ".to_owned()).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Mode::Down => {}
    }
}
