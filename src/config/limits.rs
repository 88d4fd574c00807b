//! Caps, so that no client, event or queue can take the whole node.

use super::{
    rule::{between, each},
    section::section,
    units::ByteSize,
};

/// Above any node's reach: a bound against slips of the finger.
const MANY: u32 = 10_000_000;

section! {
    /// Caps, so that no client, event or queue can take the whole node.
    pub struct Limits for mode {
        /// Longest event as JSON, 1KiB to 1MiB. A larger one is refused at publish. Every member of a room gets a
        /// copy: 64 KiB to a thousand sockets is 64 MiB.
        event_bytes: ByteSize = ByteSize::kib(64), check between(ByteSize::kib(1), ByteSize::mib(1));

        /// Longest WebSocket message that a client may send, 1KiB to 1MiB. Commands are far smaller; a token may have
        /// 8 KiB.
        frame_bytes: ByteSize = ByteSize::kib(64), check between(ByteSize::kib(1), ByteSize::mib(1));

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

        /// Most messages from Redis that wait for delivery on this node, 16 to 1000000. Past it they are
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

        /// Most connections on this node, 1 to 10000000. None by default: memory is the limit.
        @later connections: Option<u32> = None, check each(between(1, MANY)), eg "50000";

        /// Most connections of one user, 1 to 10000000. Far above anybody's devices, far below a runaway loop.
        @later connections_per_user: u32 = 100, check between(1, MANY);

        /// Most connections from one IP address, 1 to 10000000. None by default: behind a proxy all have one address.
        @later connections_per_ip: Option<u32> = None, check each(between(1, MANY)), eg "1000";

        /// Most handshakes per second on this node, 1 to 10000000. None by default.
        @later handshakes_per_second: Option<u32> = None, check each(between(1, MANY)), eg "500";

        /// Most commands per minute of one socket, 1 to 10000000.
        @later commands_per_minute: u32 = 600, check between(1, MANY);

        /// Most locations per second of one socket, 1 to 10000000. A phone reports one; each goes to all who watch.
        locations_per_second: u32 = 5, check between(1, MANY);
    }
}
