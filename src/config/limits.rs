//! Caps, so that no client, event or queue can take the whole node.

use super::{
    rule::{between, each},
    section::section,
    units::ByteSize,
};

/// The largest count: beyond any node's reach, to catch typing errors.
const MANY: u32 = 10_000_000;

section! {
    /// Caps, so that no client, event or queue can take the whole node.
    pub struct LimitsConfig for mode {
        /// Longest event as JSON, 1KiB to 1MiB. A larger one is refused at publish. Every member of a room gets a
        /// copy: 64 KiB to a thousand sockets is 64 MiB.
        event_bytes: ByteSize = ByteSize::kib(64), check between(ByteSize::kib(1), ByteSize::mib(1));

        /// Longest WebSocket message that a client may send, 1KiB to 1MiB; a longer one closes its transport. Commands
        /// are far smaller; a token may have 8 KiB.
        frame_bytes: ByteSize = ByteSize::kib(64), check between(ByteSize::kib(1), ByteSize::mib(1));

        /// Memory of this node, 64MiB to 16384GiB. By default what its control group may have, else what the machine has. A
        /// quarter of it may be held by what waits for sockets; past that the slowest are closed, and their clients come
        /// back with the last offset they saw. A sixteenth may wait for delivery.
        memory: Option<ByteSize> = None, check each(between(ByteSize::mib(64), ByteSize::mib(16 << 20))), eg "\"1GiB\"";

        /// Most rooms one socket may be in, 1 to 100000. An app that follows a screen's worth of orders needs dozens.
        rooms_per_socket: usize = 128, check between(1, 100_000);

        /// Most commands of one socket that wait for their answer, 1 to 100000. Room for a reconnect that joins every
        /// room at once; past it the socket is not read from until half of them are done.
        pending_commands: usize = 256, check between(1, 100_000);

        /// Most bytes that wait for one slow socket, 64KiB to 1GiB. Past it the socket is closed,
        /// and its client comes back with the last offset it saw.
        queue_bytes: ByteSize = ByteSize::mib(4), check between(ByteSize::kib(64), ByteSize::mib(1024));

        /// Most frames that wait for one slow socket, 16 to 1000000. Beside the bytes, because small frames cost more
        /// than their length.
        queue_frames: usize = 8_192, check between(16, 1_000_000);

        /// Most messages from Redis that wait for delivery in each event loop, 16 to 1000000. Past it they are
        /// dropped, and what they were is read from the histories of their rooms.
        feed_items: usize = 8_192, check between(16, 1_000_000);

        /// Most revocations in force, 1 to 10000000; another one is refused. Each stays for `auth.max_token_ttl`, so at 7
        /// days this is one every six seconds. Each costs every node a hundred bytes.
        revocations: usize = 100_000, check between(1, 10_000_000);

        /// Most events on this node that came by HTTP and have no answer yet, 1 to 10000000. Ten full batches; past it a
        /// publish is refused as `unavailable` and may be tried again, here or on another node.
        pending_publishes: usize = 10_000, check between(1, 10_000_000);

        /// Most bytes that publishes by HTTP may take up while they arrive and wait, 16MiB to 2GiB: each is
        /// counted with its announced length before it is read. Four of the longest batches.
        pending_publish_bytes: ByteSize = ByteSize::mib(64), check between(ByteSize::mib(16), ByteSize::mib(2048));

        /// Most histories that are read at once from Redis for clients, 1 to 1000, each of one room and about a
        /// mebibyte at most. Enough to keep a usual network busy; more would only wait in it, and in Redis' memory.
        reads: usize = 16, check between(1, 1000);

        /// Most bytes of histories that were read for clients and are kept a few seconds for the next who ask, and as
        /// many again that are on their way to sockets, 4MiB to 16GiB. Past it others wait for their turn.
        read_bytes: ByteSize = ByteSize::mib(32), check between(ByteSize::mib(4), ByteSize::mib(16 * 1024));

        /// Most histories that are read at once for one user on this node, or for one API key, 1 to 1000; others of that user's
        /// wait, and those of other users go first. A person's few devices need no more.
        reads_per_user: usize = 4, check between(1, 1000);

        /// Most connections on this node, 1 to 10000000, handshakes under way included; others get 503. None by default:
        /// memory is the limit, about 11 KiB for each, and open files are, one for each and some that are kept.
        connections: Option<u32> = None, check each(between(1, MANY)), eg "50000";

        /// Most connections of one user on all nodes, 1 to 10000000; a further CONNECT is refused. Far above the
        /// devices of a person, far below a runaway loop. When more come in the same moment, a few too many or too few may be
        /// admitted. While Redis is out of reach each node counts its own only.
        connections_per_user: u32 = 100, check between(1, MANY);

        /// Most connections from one IP address (of IPv6 one /64) on this node, 1 to 10000000; others get 429. None by
        /// default: behind a proxy that `server.trusted_proxies` does not name, and behind carriers, many share one.
        connections_per_ip: Option<u32> = None, check each(between(1, MANY)), eg "1000";

        /// Most connections at once to `api.listen`, 2 to 10000000, and half of them from one IP address; others get 503.
        /// Far above the pools of a fleet of services. On `server.listen` they are not counted.
        api_connections: u32 = 4_096, check between(2, MANY);

        /// Most connections at once to `admin.listen`, 2 to 10000000, and half of them from one IP address; others get 503.
        /// Prometheus and the platform's probes need a handful.
        admin_connections: u32 = 256, check between(2, MANY);

        /// Longest head of an HTTP request, its line and its headers, 8KiB to 1MiB; a longer one gets 431. Room for two
        /// tokens of 8 KiB and a proxy's headers. Until it is whole, a head costs memory and nothing is known of its sender.
        head_bytes: ByteSize = ByteSize::kib(32), check between(ByteSize::kib(8), ByteSize::mib(1));

        /// Most handshakes per second on this node, a second's worth at once, 1 to 10000000; others get 503 and retry
        /// by themselves. Below what two cores can do, so that a whole fleet's clients reconnecting at once leave
        /// part of the node to the connected ones; far above everyday life.
        handshakes_per_second: u32 = 2_000, check between(1, MANY);

        /// Most handshakes per second from one IP address (of IPv6 one /64), 1 to 10000000; others get 429. None by
        /// default, as for `connections_per_ip`: a single address may use all of `handshakes_per_second`. While
        /// others connect too, an address that took more than its fair share of the last second is refused first,
        /// whatever this key says.
        handshakes_per_ip: Option<u32> = None, check each(between(1, MANY)), eg "100";

        /// Most commands per minute of one socket, all of them at once if need be, 1 to 10000000. Every command counts,
        /// also `event_ack` and `update_location`; a reconnect that joins 128 rooms and an agent's five locations a
        /// second pass together. Ten times as many in a minute close the transport, and so do twenty times as many WebSocket
        /// frames of whatever kind.
        commands_per_minute: u32 = 600, check between(1, MANY);

        /// Most locations per second of one socket, 1 to 10000000. A phone reports one; each goes to every watcher.
        locations_per_second: u32 = 5, check between(1, MANY);
    }
}
