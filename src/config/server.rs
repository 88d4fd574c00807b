//! The listeners for clients and operators.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::{
    Mode,
    proxies::narrow,
    rule::{between, each, namespace, some},
    section::section,
    web_origin::WebOrigin,
};

section! {
    /// Where clients connect, and under which Socket.IO namespaces.
    pub struct ServerConfig for mode {
        /// Addresses that clients connect to: Socket.IO at /socket.io/, and /v1 unless api.listen is set. Every
        /// interface, because a container is reached through its own; with --dev ["127.0.0.1:8080"].
        listen: Vec<SocketAddr> = vec![client_address(mode)], check some();

        /// Event loops, a thread each, 1 to 64. Each has its own clients, and delivers their events without waiting for
        /// another one. Unset: one for each core that the process may use, by its CPU set and its cgroup's quota.
        cores: Option<u32> = None, check each(between(1, 64)), eg "4";

        /// Connections that may wait to be accepted, of each listener, 16 to 65535. A fleet of phones that reconnects
        /// within a fifth of a second must fit, or the kernel drops their packets and they retry seconds later. The
        /// kernel allows no more than its `net.core.somaxconn`.
        backlog: u32 = 4_096, check between(16, 65_535);

        /// The main Socket.IO namespace, by which events are sent. The one existing apps connect to.
        namespace: String = "/realtime".to_owned(), check namespace;

        /// Further namespaces, served exactly as the main one. `socket_io_client` asks for "//realtime" when its URL
        /// ends in a slash.
        aliases: Vec<String> = vec!["//realtime".to_owned()], check each(namespace);

        /// Web pages that may connect and call /v1, by origin: `https://app.example.com`, or `https://*.example.com`
        /// for all its subdomains. A browser names the page's origin; a request with another one is refused with 403,
        /// and one without any, as from native apps and services, passes. Empty admits every page: tokens guard the
        /// rooms.
        origins: Vec<WebOrigin> = Vec::new(), eg r#"["https://app.example.com", "https://*.example.com"]"#;

        /// Proxies whose `X-Forwarded-For` is trusted, as addresses or networks in CIDR. The client's address is then
        /// the right-most one in it that is not of these. Empty trusts none: every client could write that header.
        trusted_proxies: Vec<IpNet> = Vec::new(), check each(narrow), eg r#"["10.0.0.0/8"]"#;
    }
}

section! {
    /// The listener for operators: /livez, /readyz, /metrics.
    pub struct AdminConfig for mode {
        /// Address of the admin listener. Loopback, because it asks for no password; in Kubernetes set
        /// 0.0.0.0:9090, so that probes and Prometheus reach it, and keep it out of every Service.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9090));

        /// How long a connection may go without an answer, 1s to 1h: silent, idle between two requests, at an endless
        /// request, or with an answer that it does not take. Longer than scrapes are apart, so that they keep theirs.
        idle_timeout: Duration = Duration::from_mins(2), check between(Duration::from_secs(1), Duration::from_hours(1));
    }
}

fn client_address(mode: Mode) -> SocketAddr {
    let host = if mode.is_dev() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    SocketAddr::new(IpAddr::V4(host), 8080)
}
