//! A hand-made HTTP/1 client: sends exactly the bytes it is told to and shows exactly what came back. For tests of what
//! well-behaved client libraries never send.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Nothing that works takes this long; everything that hangs ends here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A parsed HTTP/1 answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The head as it came, lower-cased.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A server that has answered and hung up early is seen by reading, not here.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Sends a request with a body and reads the answer.
    pub(crate) async fn call(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
        self.send(head).await;
        self.send(body).await;
        self.reply(method == "HEAD").await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.call("GET", path, "", b"").await
    }

    /// Reads one answer. `bodiless` for answers to HEAD.
    pub(crate) async fn reply(&mut self, bodiless: bool) -> Reply {
        let head_end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill().await, "the connection ended inside a head: {:?}", self.shown());
        };
        let head = String::from_utf8_lossy(&self.unread[..head_end]).to_lowercase();
        self.unread.drain(..head_end);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { status, head, body: Vec::new() };
        let length = reply.header("content-length").map_or(0, |n| n.parse::<usize>().unwrap());
        while !bodiless && self.unread.len() < length {
            assert!(self.fill().await, "the connection ended inside a body");
        }
        reply.body = self.unread.drain(..if bodiless { 0 } else { length }).collect();
        reply
    }

    /// Waits for the end of the connection; what came before it is returned.
    pub(crate) async fn end(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.unread)
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.unread).into_owned()
    }

    /// False at the end of the connection, whichever way it ended.
    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await.expect("nothing came");
        read.unwrap_or(0) > 0
    }
}
