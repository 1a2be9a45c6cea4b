//! A server under load: where it is, how it is spoken to, which model is asked for. Made from the command line by
//! `plan`, used by the clients.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::error::{Fault, Result};
use crate::sender::Failure;
use crate::wire_grpc::ModelName;

/// Answers over this size fail instead of filling the memory.
pub(crate) const MAX_ANSWER_BYTES: usize = 1 << 30;
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that is away is asked this often by each caller, not as fast as the machine can.
const REDIAL_PAUSE: Duration = Duration::from_millis(20);

/// Protocol and encoding of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    /// gRPC, tensors as raw bytes.
    GrpcRaw,
    /// gRPC, tensors in typed fields.
    GrpcTyped,
    /// HTTP/1.1, tensors as JSON.
    HttpJson,
    /// HTTP/1.1, tensors as bytes behind the JSON.
    HttpBinary,
}

impl Protocol {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GrpcRaw => "grpc-raw",
            Self::GrpcTyped => "grpc-typed",
            Self::HttpJson => "http-json",
            Self::HttpBinary => "http-binary",
        }
    }
}

/// One server, one model.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// Host and port as they were given, for the `Host` header.
    pub(crate) authority: String,
    pub(crate) protocol: Protocol,
    pub(crate) model: ModelName,
    pub(crate) connections: usize,
    /// Sent with every request.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// Address and authority of `http://host:port`.
///
/// # Errors
/// Another form of URL, a host that does not resolve, or one that is not this machine unless `allow_remote`.
pub(crate) fn resolve(url: &str, allow_remote: bool) -> Result<(SocketAddr, String)> {
    let uri: Uri = url.parse().map_err(|e| Fault::new(url, e))?;
    let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/") && uri.query().is_none();
    let authority = uri.authority().filter(|authority| plain && authority.port().is_some());
    let authority = authority.ok_or_else(|| Fault::new(url, "expected http://HOST:PORT"))?.as_str();
    let mut addresses = authority.to_socket_addrs().map_err(|e| Fault::new(url, e))?;
    let address = addresses.next().ok_or_else(|| Fault::new(url, "no address"))?;
    if !allow_remote && !address.ip().is_loopback() {
        let what = format!("{} is not this machine: load on others needs --allow-remote", address.ip());
        return Err(Fault::new(url, what));
    }
    Ok((address, authority.to_owned()))
}

/// `NAME:VALUE` as a header; used as clap's parser.
///
/// # Errors
/// What HTTP does not allow.
pub(crate) fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').ok_or_else(|| Fault::new("header", "expected NAME:VALUE"))?;
    let name = HeaderName::try_from(name.trim()).map_err(|e| Fault::new("header", e))?;
    let value = HeaderValue::try_from(value.trim()).map_err(|e| Fault::new("header", e))?;
    Ok((name, value))
}

/// A new connection.
pub(crate) async fn dial(address: SocketAddr) -> Result<TcpStream, Failure> {
    let connected = match timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(socket)) => socket.set_nodelay(true).map(|()| socket).map_err(Failure::connect),
        Ok(Err(error)) => Err(Failure::connect(error)),
        Err(_elapsed) => Err(Failure::connect("timed out")),
    };
    if connected.is_err() {
        sleep(REDIAL_PAUSE).await;
    }
    connected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_unless_allowed() {
        let (address, authority) = resolve("http://127.0.0.1:8000", false).unwrap();
        assert_eq!((address.port(), authority.as_str()), (8000, "127.0.0.1:8000"));
        assert!(resolve("http://[::1]:8000/", false).is_ok());
        let refused = resolve("http://192.0.2.1:8000", false).unwrap_err().to_string();
        assert!(refused.contains("--allow-remote"), "{refused}");
        assert!(resolve("http://192.0.2.1:8000", true).is_ok());
    }

    #[test]
    fn other_urls_are_refused() {
        for url in ["", "127.0.0.1:8000", "https://127.0.0.1:8000", "http://127.0.0.1", "http://127.0.0.1:1/v2"] {
            assert!(resolve(url, false).is_err(), "{url}");
        }
    }

    #[test]
    fn headers_are_checked() {
        let (name, value) = parse_header("x-key: u17").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-key", "u17"));
        assert!(parse_header("x-key").is_err());
        assert!(parse_header("a b:c").is_err());
    }
}
