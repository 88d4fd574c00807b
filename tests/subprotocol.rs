//! A subprotocol that a client offers is answered with the first one offered, as Node's `ws` does (S2a).

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::client::{Client, is_admitted};
use crate::harness::node::Node;
use crate::harness::token;

/// The head of the answer to an upgrade with these header lines.
async fn upgrade(address: SocketAddr, lines: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let mut request = b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        .to_vec();
    request.extend_from_slice(lines);
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await.expect("it takes bytes");
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read_buf(&mut head).await.expect("an answer");
        assert!(read > 0, "closed in the middle of a head");
    }
    String::from_utf8_lossy(&head).to_lowercase()
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

fn chosen(head: &str) -> Vec<&str> {
    head.lines().filter_map(|line| line.strip_prefix("sec-websocket-protocol: ")).collect()
}

#[tokio::test]
async fn the_first_subprotocol_offered_is_the_answer() {
    let node = Node::embedded().await;
    for (lines, expected) in [
        ("", &[][..]),
        ("Sec-WebSocket-Protocol: chat\r\n", &["chat"]),
        ("sec-websocket-protocol: v2.app,v1.app\r\n", &["v2.app"]),
        ("Sec-WebSocket-Protocol: a , b,\tc\t,d\r\n", &["a"]),
        ("Sec-WebSocket-Protocol:    spaced   \r\n", &["spaced"]),
        ("Sec-WebSocket-Protocol: one\r\nSec-WebSocket-Protocol: two, three\r\n", &["one"]),
        ("Sec-WebSocket-Protocol: !#$%&'*+-.^_`|~09az\r\n", &["!#$%&'*+-.^_`|~09az"]),
    ] {
        let head = upgrade(node.main(), lines.as_bytes()).await;
        assert_eq!((status(&head), chosen(&head).as_slice()), ("101", expected), "{lines:?}: {head}");
    }
    let long = format!("Sec-WebSocket-Protocol: {}, b\r\n", "x".repeat(8_000));
    let head = upgrade(node.main(), long.as_bytes()).await;
    assert_eq!((status(&head), chosen(&head)[0].len()), ("101", 8_000));
}

#[tokio::test]
async fn a_list_that_is_none_is_refused_as_node_does_and_harms_nobody() {
    let node = Node::embedded().await;
    for list in [
        &b""[..],
        b",",
        b"a,",
        b",a",
        b"a,,b",
        b"a b",
        b"a, b c",
        b"a,a",
        b"a, b, a",
        b"a;q=1",
        b"\"a\"",
        b"a/b",
        b"(a)",
        b"\xe9",
        b"a,\xff",
        b"a=b",
    ] {
        let line = [b"Sec-WebSocket-Protocol: ", list, b"\r\n"].concat();
        let head = upgrade(node.main(), &line).await;
        assert_eq!(status(&head), "400", "{:?}: {head}", String::from_utf8_lossy(list));
        assert!(chosen(&head).is_empty(), "{head}");
    }
    let twice = b"Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n";
    assert_eq!(status(&upgrade(node.main(), twice).await), "400", "the lines of a header are one list");
    assert!(is_admitted(&node, &token::user("u1")).await);
}

/// Clients that offer one end the handshake when none is chosen.
#[tokio::test]
async fn a_client_that_insists_on_its_subprotocol_gets_through_and_is_served() {
    let node = Node::embedded().await;
    let query = "EIO=4&transport=websocket";
    let (mut client, _) = Client::open_with_header(node.main(), query, "sec-websocket-protocol", "v1.app").await;
    client.sign_in(&token::user("u1")).await;
    client.join("order:o1").await;
    let (_, published) = node.post("/v1/publish", r#"{"room":"order:o1","type":"t","payload":1}"#).await;
    assert_eq!(client.event().await.1["event"]["id"], published["id"]);
}
