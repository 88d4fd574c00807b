//! A client's connection: its socket, its heartbeat, and its end when the node stops.

use std::time::Duration;

use super::{rule::between, section::section, units::ByteSize};

const MILLI: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);

section! {
    /// The TCP side of a client's connection.
    pub struct ConnectionConfig for mode {
        /// How long a socket may accept not one byte of its queue, 1ms to 1h. Then it is closed. Progress counts, not
        /// age: a slow network that moves is left alone.
        write_deadline: Duration = Duration::from_secs(10), check between(MILLI, HOUR);

        /// `TCP_USER_TIMEOUT`: how long sent bytes may stay unacknowledged, 1ms to 1h, before the kernel gives a
        /// vanished peer up. Its own default is a quarter of an hour.
        user_timeout: Duration = Duration::from_secs(10), check between(MILLI, HOUR);

        /// `SO_SNDBUF` of each socket, 4KiB to 16MiB. Small enough that a stalled peer shows soon and ten thousand of
        /// them fit in memory, large enough for a full event on a mobile network.
        send_buffer: ByteSize = ByteSize::kib(128), check between(ByteSize::kib(4), ByteSize::mib(16));

        /// Whether a transport is taken from under the library once its CONNECT is answered and nothing is under way. It
        /// then takes a quarter of the memory. Clients see no difference; `false` is for finding out whether they do.
        hand_over: bool = true;
    }
}

section! {
    /// The Socket.IO heartbeat. The defaults are those of the Node server.
    pub struct SocketIo for mode {
        /// How often the gateway pings, 1ms to 1h. Below the idle time of the usual load balancers (60s).
        ping_interval: Duration = Duration::from_secs(25), check between(MILLI, HOUR);

        /// How long a pong may take, 1ms to 1h, before the connection counts as dead, and so may binary attachments
        /// that a packet has announced. Clients use it too: they expect a ping within the sum of both.
        ping_timeout: Duration = Duration::from_secs(20), check between(MILLI, HOUR);

        /// How long a transport may stay without joining a namespace, 1ms to 1h, and a connection without becoming
        /// one or getting a response. It holds resources and has presented no token.
        connect_timeout: Duration = Duration::from_secs(30), check between(MILLI, HOUR);
    }
}

section! {
    /// How the node stops on SIGTERM.
    pub struct Shutdown for mode {
        /// How long the last bytes of closing connections may take, 0s to 1h. Kubernetes'
        /// terminationGracePeriodSeconds must be longer.
        drain: Duration = Duration::from_secs(10), check between(Duration::ZERO, HOUR);

        /// The notice `server.draining` gives each client a random delay before it reconnects, from 0 to this, 0s to
        /// 1h. Long enough that the other nodes can take a whole node's clients, short enough that users do not
        /// notice.
        reconnect_spread: Duration = Duration::from_secs(5), check between(Duration::ZERO, HOUR);
    }
}
