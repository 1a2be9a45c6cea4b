//! Layer 9: sockets, connections and handlers. `listener` owns addresses and threads, `connection` serves one peer, `service`
//! decides which handler answers, and every prediction, whatever its protocol, goes through `infer`.

mod body;
mod budget;
mod connection;
mod io_thread;
mod limits;
mod listener;
mod pulse;
mod watch;

pub use body::{Body, Never};
pub use budget::{Budget, Share};
pub use connection::Handler;
pub use limits::Limits;
pub use listener::{Crew, Endpoint, Server};
