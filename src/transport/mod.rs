//! Layer 9: sockets, connections and handlers. `listener` owns addresses and threads, `connection` serves one peer, `service`
//! decides which protocol answers, and every prediction, whatever its protocol, goes through `infer`.

mod body;
mod budget;
mod coding;
mod connection;
mod given;
mod grpc;
mod http;
mod infer;
mod intake;
mod io_thread;
mod limits;
mod listener;
mod middleware;
mod ops;
mod policy;
mod pulse;
mod service;
mod spin;
mod timer;
mod watch;

pub use body::Body;
pub use budget::{Budget, Share};
pub use connection::{Answering, Handler};
pub use intake::Intake;
pub use limits::Limits;
pub use listener::{Crew, Endpoint, Server};
pub use ops::{OpsOptions, OpsService, Tokens};
pub use service::{DataOptions, DataService};
