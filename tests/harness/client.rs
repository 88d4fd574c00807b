//! A Socket.IO client that speaks raw frames, so that a test sees just what is on the wire.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::PATIENCE;
use super::node::Node;

/// One transport. Pings are answered while it is waited on.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    namespace: String,
    next_ack: u64,
    /// Frames that came while something else was waited for.
    aside: VecDeque<String>,
}

impl Client {
    /// Opens a transport and takes the handshake packet; nothing is joined.
    pub async fn open(address: SocketAddr) -> (Self, Value) {
        Self::open_with(address, "EIO=4&transport=websocket").await
    }

    /// Opens a transport with this query.
    pub async fn open_with(address: SocketAddr, query: &str) -> (Self, Value) {
        Self::open_request(upgrade(address, query)).await
    }

    /// Opens a transport with this query and one header more.
    pub async fn open_with_header(address: SocketAddr, query: &str, name: &'static str, value: &str) -> (Self, Value) {
        let mut request = upgrade(address, query);
        request.headers_mut().insert(name, value.parse().expect("a header's value"));
        Self::open_request(request).await
    }

    async fn open_request(request: Request) -> (Self, Value) {
        let (socket, _) = connect_async(request).await.expect("the upgrade is accepted");
        let mut client = Self::over(socket);
        let first = client.frame().await.expect("the handshake comes first");
        let handshake = first.strip_prefix('0').expect("an OPEN packet");
        (client, serde_json::from_str(handshake).expect("the handshake is JSON"))
    }

    /// Speaks over a transport that is open; nothing was taken from it.
    pub fn over(socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Self {
        Self { socket, namespace: "/realtime".to_owned(), next_ack: 0, aside: VecDeque::new() }
    }

    /// Signs in to `/realtime` with a token.
    pub async fn connect(address: SocketAddr, token: &str) -> Self {
        let (mut client, _) = Self::open(address).await;
        client.sign_in(token).await;
        client
    }

    /// Sends CONNECT with a token and takes the reply.
    pub async fn sign_in(&mut self, token: &str) {
        let reply = self.offer(&format!(r#"{{"token":"{token}"}}"#)).await;
        assert!(reply.starts_with(&format!("40{},{{\"sid\":", self.namespace)), "{reply}");
    }

    /// Sends CONNECT with this payload and returns the next frame as it stands.
    pub async fn offer(&mut self, payload: &str) -> String {
        self.send(&format!("40{},{payload}", self.namespace)).await;
        self.frame().await.expect("a reply to CONNECT")
    }

    /// Uses another namespace from now on.
    pub fn set_namespace(&mut self, namespace: &str) {
        namespace.clone_into(&mut self.namespace);
    }

    /// Sends a text frame as it stands.
    pub async fn send(&mut self, frame: &str) {
        self.socket.send(Message::text(frame)).await.expect("the transport is open");
    }

    /// Sends a text frame, if the transport still takes it.
    pub async fn try_send(&mut self, frame: &str) -> bool {
        self.socket.send(Message::text(frame)).await.is_ok()
    }

    /// Sends a binary frame.
    pub async fn send_binary(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.expect("the transport is open");
    }

    /// The next frame but pings, which are answered; none when the transport is closed.
    pub async fn frame(&mut self) -> Option<String> {
        self.frame_within(PATIENCE).await.expect("a frame, or the end, within the patience of a test")
    }

    /// The next frame, if one comes in time: `Err` when none came, `Ok(None)` when the transport is closed.
    pub async fn frame_within(&mut self, limit: Duration) -> Result<Option<String>, tokio::time::error::Elapsed> {
        if let Some(frame) = self.aside.pop_front() {
            return Ok(Some(frame));
        }
        timeout(limit, self.read()).await
    }

    async fn read(&mut self) -> Option<String> {
        loop {
            let frame = self.any_frame().await?;
            if frame != "2" {
                return Some(frame);
            }
            self.socket.send(Message::text("3")).await.ok()?;
        }
    }

    /// The next frame on the transport, pings too, which are left unanswered; none when it is closed.
    pub async fn any_frame(&mut self) -> Option<String> {
        loop {
            match self.socket.next().await? {
                Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next message of any kind; none when the connection has ended.
    pub async fn next_message(&mut self) -> Option<Result<Message, tokio_tungstenite::tungstenite::Error>> {
        timeout(PATIENCE, self.socket.next()).await.expect("a message, or the end, within the patience of a test")
    }

    /// Sends a command with an ack id and returns the reply's map; frames that come before it are kept for later.
    pub async fn call(&mut self, command: &str, argument: &str) -> Value {
        let reply = self.call_raw(command, argument).await;
        serde_json::from_str(&reply).expect("a reply is exactly one map")
    }

    /// Sends a command without an ack id.
    pub async fn tell(&mut self, command: &str, argument: &str) {
        self.send(&format!(r#"42{},["{command}",{argument}]"#, self.namespace)).await;
    }

    /// Like [`call`](Self::call), with the reply as it was written.
    pub async fn call_raw(&mut self, command: &str, argument: &str) -> String {
        let id = self.next_ack;
        self.next_ack += 1;
        self.send(&format!(r#"42{},{id}["{command}",{argument}]"#, self.namespace)).await;
        let head = format!("43{},{id}[", self.namespace);
        let mut before = VecDeque::new();
        loop {
            let frame = self.frame().await.expect("a reply to the command");
            if let Some(body) = frame.strip_prefix(&head).and_then(|body| body.strip_suffix(']')) {
                let reply = body.to_owned();
                before.append(&mut self.aside);
                self.aside = before;
                return reply;
            }
            before.push_back(frame);
        }
    }

    /// Joins several rooms in one act; `data` of the reply.
    pub async fn join_rooms(&mut self, rooms: &Value) -> Value {
        let reply = self.call("join_rooms", &json!({"rooms": rooms}).to_string()).await;
        assert_eq!(reply["ok"], true, "{reply}");
        reply["data"].clone()
    }

    /// Joins a room and returns `data` of the reply.
    pub async fn join(&mut self, room: &str) -> Value {
        let reply = self.call("join_room", &format!(r#"{{"room":"{room}"}}"#)).await;
        assert_eq!(reply["ok"], true, "{reply}");
        reply["data"].clone()
    }

    /// Joins a room from an offset on and returns `data` of the reply.
    pub async fn resume(&mut self, room: &str, after: &str) -> Value {
        let reply = self.call("join_room", &format!(r#"{{"room":"{room}","after":"{after}"}}"#)).await;
        assert_eq!(reply["ok"], true, "{reply}");
        reply["data"].clone()
    }

    /// The next event: its name and its one argument.
    pub async fn event(&mut self) -> (String, Value) {
        let frame = self.frame().await.expect("an event");
        self.parse_event(&frame).unwrap_or_else(|| panic!("no event: {frame}"))
    }

    /// The events that came before the last reply.
    pub fn events_aside(&mut self) -> Vec<(String, Value)> {
        let frames = std::mem::take(&mut self.aside);
        frames.iter().map(|frame| self.parse_event(frame).unwrap_or_else(|| panic!("no event: {frame}"))).collect()
    }

    /// Reads an EVENT packet of this namespace, which must have exactly one argument and no ack id.
    pub fn parse_event(&self, frame: &str) -> Option<(String, Value)> {
        let body = frame.strip_prefix(&format!("42{},", self.namespace))?;
        let [name, argument] = serde_json::from_str::<[Value; 2]>(body).ok()?;
        Some((name.as_str()?.to_owned(), argument))
    }

    /// Asserts that nothing but pings comes before the reply to a command sent now.
    pub async fn nothing_came(&mut self) {
        let reply = self.call("leave_room", r#"{"room":"order:never-joined-by-anyone"}"#).await;
        assert_eq!(reply["ok"], true);
        assert!(self.aside.is_empty(), "unexpected: {:?}", self.aside);
    }

    /// Waits until the transport is closed and returns the frames that came before.
    pub async fn until_closed(&mut self, limit: Duration) -> Vec<String> {
        let mut frames = Vec::new();
        let all = async {
            while let Some(frame) = match self.aside.pop_front() {
                Some(frame) => Some(frame),
                None => self.read().await,
            } {
                frames.push(frame);
            }
        };
        timeout(limit, all).await.expect("the transport is closed in time");
        frames
    }

    /// Like [`until_closed`](Self::until_closed), with no pong for any ping.
    pub async fn until_closed_without_pongs(&mut self, limit: Duration) {
        let all = async { while let Some(Ok(_)) = self.socket.next().await {} };
        timeout(limit, all).await.expect("the transport is closed in time");
    }

    /// Closes the TCP connection without a word.
    pub fn drop_connection(self) {
        drop(self);
    }
}

fn upgrade(address: SocketAddr, query: &str) -> Request {
    format!("ws://{address}/socket.io/?{query}").into_client_request().expect("a valid url")
}

/// The reply to a CONNECT whose token is no good.
pub const UNAUTHORIZED: &str = r#"44/realtime,{"message":"unauthorized"}"#;

/// Signs in with a token that may be refused; none where it is.
pub async fn sign_in(node: &Node, token: &str) -> Option<Client> {
    let (mut client, _) = Client::open(node.main()).await;
    let reply = client.offer(&json!({"token": token}).to_string()).await;
    let admitted = reply.starts_with(r#"40/realtime,{"sid":"#);
    assert!(admitted || reply == UNAUTHORIZED, "{reply}");
    admitted.then_some(client)
}

/// Whether a token lets a client in.
pub async fn is_admitted(node: &Node, token: &str) -> bool {
    sign_in(node, token).await.is_some()
}
