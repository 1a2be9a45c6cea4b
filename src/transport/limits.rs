//! What a listener's connections may cost: every bound and every patience in one place. Filled in by the application from
//! its configuration, read by `connection` and `io_thread`.

use std::time::Duration;

/// Bounds on connections. The defaults suit clients on a network; tests use shorter times.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a new connection may stay silent before it has said which protocol it speaks.
    pub first_bytes: Duration,
    /// How long an HTTP/1 request head may take from its first byte.
    pub head: Duration,
    /// How long an HTTP/1 connection may wait for its next request.
    pub idle: Duration,
    /// How long a socket may refuse bytes that wait to be sent.
    pub write_stall: Duration,
    /// How long a connection without requests may take to say goodbye once the server drains.
    pub farewell: Duration,
    /// HTTP/2: how often a silent peer is asked whether it is still there.
    pub ping_interval: Duration,
    /// HTTP/2: how long it may take to answer that.
    pub ping_timeout: Duration,
    /// HTTP/2: requests in flight on one connection.
    pub streams: u32,
    /// HTTP/2: bytes of one request that may be on their way unread.
    pub stream_window: u32,
    /// HTTP/2: the same for all requests of a connection.
    pub connection_window: u32,
    /// HTTP/2: largest frame that the peer may send.
    pub frame: u32,
    /// HTTP/2: bytes of a request's header block.
    pub header_bytes: u32,
    /// HTTP/1: bytes that are read ahead, and so the most that a request head may have; at least 8192.
    pub http1_buffer: usize,
    /// How long a thread goes on looking at its sockets after each turn before it sleeps; zero = not at all.
    pub poll_spin: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_bytes: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            write_stall: Duration::from_secs(20),
            farewell: Duration::from_secs(1),
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(10),
            streams: 1024,
            stream_window: 4 << 20,
            connection_window: 16 << 20,
            frame: 256 << 10,
            header_bytes: 16 << 10,
            http1_buffer: 64 << 10,
            poll_spin: Duration::ZERO,
        }
    }
}

impl Limits {
    /// Between two looks at all connections: often enough that no patience is exceeded by more than a quarter.
    pub(super) fn pace(&self) -> Duration {
        let shortest = self.head.min(self.idle).min(self.write_stall);
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }
}
