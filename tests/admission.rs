//! Who is let in before any token is looked at: web pages by their origin, and in dev mode loopback names only.

use std::process::Command;

use reqwest::Method;
use reqwest::header::{HeaderMap, ORIGIN};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::node::Node;
use crate::harness::{free_address, http, token};

const LISTED: &str = "https://app.example.com";
const SUBDOMAIN: &str = "https://a.b.example.org";
const FOREIGN: [&str; 5] =
    ["https://evil.com", "null", "https://app.example.com.evil.com", "http://app.example.com", "https://example.org"];
const SETTINGS: (&str, &str) = ("HALLWAY_SERVER__ORIGINS", "https://app.example.com, https://*.example.org");

/// The status line's number for bytes sent as they stand.
async fn status_of(address: std::net::SocketAddr, request: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it takes bytes");
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).await.expect("an answer");
    let text = String::from_utf8_lossy(&answer[..read]).into_owned();
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

async fn upgrade_with(node: &Node, lines: &str) -> u16 {
    let request = format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n{lines}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    status_of(node.main(), &request).await
}

async fn request(node: &Node, method: Method, path: &str, origin: Option<&str>) -> (u16, HeaderMap) {
    let mut request = http().request(method.clone(), format!("http://{}{path}", node.main()));
    if let Some(origin) = origin {
        request = request.header(ORIGIN, origin);
    }
    if method == Method::OPTIONS {
        request = request.header("access-control-request-method", "POST");
        request = request.header("access-control-request-headers", "authorization,content-type");
    } else {
        request = request.bearer_auth(token::API_KEY);
    }
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.headers().clone())
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_everywhere_and_who_has_none_passes() {
    let node = Node::with(&[SETTINGS]).await;
    for origin in [LISTED, SUBDOMAIN] {
        assert_eq!(upgrade_with(&node, &format!("Host: x\r\nOrigin: {origin}\r\n")).await, 101, "{origin}");
    }
    assert_eq!(upgrade_with(&node, "Host: x\r\n").await, 101);
    assert_eq!(upgrade_with(&node, &format!("Host: x\r\nOrigin: {LISTED}\r\nOrigin: https://evil.com\r\n")).await, 403);
    for origin in FOREIGN {
        assert_eq!(upgrade_with(&node, &format!("Host: x\r\nOrigin: {origin}\r\n")).await, 403, "{origin}");
        for path in ["/v1/rooms/order:r", "/api/health", "/api/health/realtime"] {
            for method in [Method::GET, Method::OPTIONS] {
                let (status, headers) = request(&node, method, path, Some(origin)).await;
                assert_eq!(status, 403, "{path} {origin}");
                assert!(!headers.contains_key("access-control-allow-origin"), "{headers:?}");
            }
        }
    }
    assert!((node.metric("hallway_origins_refused_total").await - 36.0).abs() < 0.5);
    node.moves("hallway_origins_refused_total").await;
    for path in ["/v1/rooms/order:r", "/api/health", "/api/health/realtime"] {
        assert_eq!(request(&node, Method::GET, path, None).await.0, 200);
        let (status, headers) = request(&node, Method::GET, path, Some(LISTED)).await;
        assert_eq!((status, headers["access-control-allow-origin"].to_str().ok()), (200, Some(LISTED)), "{path}");
        let (status, headers) = request(&node, Method::OPTIONS, path, Some(SUBDOMAIN)).await;
        assert_eq!((status, headers["access-control-allow-origin"].to_str().ok()), (200, Some(SUBDOMAIN)), "{path}");
        assert_eq!(headers["access-control-allow-headers"], "authorization,content-type");
        assert!(headers["access-control-allow-methods"].to_str().expect("text").contains("POST"));
        assert!(!headers.contains_key("access-control-allow-credentials"));
        assert!(headers["vary"].to_str().expect("text").to_lowercase().contains("origin"));
    }
}

#[tokio::test]
async fn without_a_list_every_page_may_connect_and_none_may_read_the_api() {
    let node = Node::embedded().await;
    assert_eq!(upgrade_with(&node, "Host: x\r\nOrigin: https://evil.com\r\n").await, 101);
    let (status, headers) = request(&node, Method::GET, "/api/health", Some("https://evil.com")).await;
    assert_eq!(status, 200);
    assert!(!headers.contains_key("access-control-allow-origin"));
    let (status, headers) = request(&node, Method::OPTIONS, "/v1/publish", Some("https://evil.com")).await;
    assert_eq!((status / 100, headers.contains_key("access-control-allow-origin")), (4, false));
}

#[tokio::test]
async fn a_listener_of_its_own_for_the_api_asks_for_the_origin_too() {
    let api = free_address();
    let node = Node::with(&[SETTINGS, ("HALLWAY_API__LISTEN", &api.to_string())]).await;
    let get = async |origin: &str| {
        let request = http().get(format!("http://{api}/v1/rooms/order:r")).header(ORIGIN, origin);
        request.bearer_auth(token::API_KEY).send().await.expect("an answer").status().as_u16()
    };
    assert_eq!((get(LISTED).await, get("https://evil.com").await), (200, 403));
    assert_eq!(node.readyz().await, 200);
}

/// A gateway in dev mode.
async fn dev() -> Node {
    Node::changed(&[], |command| {
        command.arg("--dev").env_remove("HALLWAY_AUTH__HS256_SECRET").env_remove("HALLWAY_API__KEY");
    })
    .await
}

#[tokio::test]
async fn dev_mode_answers_to_loopback_names_only_however_a_request_names_its_host() {
    let node = dev().await;
    let (main, admin) = (node.main(), node.admin());
    for host in ["localhost", "LocalHost:8080", "127.0.0.1", "127.9.9.9:1", "[::1]:8080"] {
        assert_eq!(upgrade_with(&node, &format!("Host: {host}\r\n")).await, 101, "{host}");
    }
    let foreign = [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "evil.example:8080",
        "localhost.",
        "0.0.0.0",
        "u@localhost",
        "localhost, evil.example",
        "",
    ];
    for host in foreign {
        assert_eq!(upgrade_with(&node, &format!("Host: {host}\r\n")).await / 100, 4, "{host}");
        for (address, path) in [(main, "/api/health"), (main, "/v1/rooms/order:r"), (admin, "/metrics")] {
            let status = status_of(address, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert!(matches!(status, 400 | 403), "{host} {path}: {status}");
        }
    }
    for (head, expected) in [
        ("GET http://localhost/api/health HTTP/1.1\r\nHost: localhost\r\n", 200),
        ("GET http://evil.example/api/health HTTP/1.1\r\nHost: localhost\r\n", 403),
        ("GET http://localhost/api/health HTTP/1.1\r\nHost: evil.example\r\n", 403),
        ("GET /api/health HTTP/1.1\r\n", 403),
        ("GET /api/health HTTP/1.0\r\n", 403),
        ("GET /api/health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", 403),
        ("GET /api/health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", 403),
        ("GET /api/health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:3000\r\n", 200),
        ("GET /api/health HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n", 403),
        ("GET /api/health HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n", 403),
        (
            "GET /api/health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:1\r\nOrigin: https://evil.example\r\n",
            403,
        ),
    ] {
        assert_eq!(status_of(main, &format!("{head}\r\n")).await, expected, "{head}");
    }
}

#[test]
fn dev_mode_refuses_every_redis_and_listener_that_is_not_on_loopback() {
    let foreign = [
        ("HALLWAY_REDIS__URL", "redis://redis.internal"),
        ("HALLWAY_REDIS__URL", "redis://127.0.0.1.nip.io"),
        ("HALLWAY_REDIS__URL", "redis://localhost.evil.example"),
        ("HALLWAY_REDIS__URL", "redis://127.0.0.1@evil.example"),
        ("HALLWAY_REDIS__URL", "redis://10.0.0.1"),
        ("HALLWAY_REDIS__URL", "rediss://[2001:db8::1]"),
        ("HALLWAY_SERVER__LISTEN", "0.0.0.0:8080"),
        ("HALLWAY_ADMIN__LISTEN", "[::]:9090"),
    ];
    for (key, value) in foreign {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hallway"));
        let output = command.args(["serve", "--dev"]).env(key, value).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{value}: {said}");
        assert!(said.contains("loopback, which --dev insists on"), "{value}: {said}");
    }
}

/// One listener serves pods with IPv6 alone and pods with both.
#[tokio::test]
async fn a_listener_on_every_address_of_ipv6_takes_ipv4_too() {
    let port = free_address().port();
    let node = Node::with(&[("HALLWAY_SERVER__LISTEN", &format!("[::]:{port}"))]).await;
    assert!(node.listens_on(format!("[::]:{port}").parse().expect("an address")));
    for host in ["[::1]", "127.0.0.1"] {
        let address = format!("{host}:{port}").parse().expect("an address");
        assert_eq!(status_of(address, "GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n").await, 200, "{host}");
    }
}
