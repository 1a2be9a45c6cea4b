//! What the data listeners serve: one handler for both protocols on any port. It looks at the content type, hands the request
//! to gRPC or HTTP, and stands between a panic and the connection.

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, Request, Version, header};
use hyper::body::Incoming;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::{Answering, Handler},
    grpc, http as rest,
    intake::Intake,
    middleware::Echo,
    policy::{Action, decide_data},
};
use crate::{gateway::Gateway, protocol::settings::LogSettings, scheduler::Home, types::Error};

/// What the data listeners are told by configuration.
#[derive(Clone, Debug)]
pub struct DataOptions {
    /// The bounds on request bodies.
    pub intake: Intake,
    /// The log settings in force, for clients that read them.
    pub log_settings: LogSettings,
    /// Clients may load and unload models.
    pub explicit_control: bool,
}

/// Everything that handlers of the data listeners share.
pub(super) struct Shared {
    pub(super) gateway: Arc<Gateway>,
    pub(super) options: DataOptions,
    pub(super) reflection: grpc::Reflection,
    /// Ends streams that would otherwise go on.
    pub(super) stopping: CancellationToken,
}

impl Shared {
    /// # Errors
    /// As [`decide_data`].
    pub(super) fn decide(&self, action: Action) -> Result<(), Error> {
        decide_data(action, self.options.explicit_control)
    }
}

/// The handler of the data listeners.
#[derive(Clone)]
pub struct DataService(Arc<Shared>);

impl DataService {
    /// A handler that answers from `gateway`. Streams end when `stopping` is cancelled.
    ///
    /// # Errors
    /// `Internal` when the descriptors for reflection do not fit together, which is a fault of the build.
    pub fn new(gateway: Arc<Gateway>, options: DataOptions, stopping: CancellationToken) -> Result<Self, Error> {
        let reflection = grpc::Reflection::new()?;
        Ok(Self(Arc::new(Shared { gateway, options, reflection, stopping })))
    }
}

impl Handler for DataService {
    fn enter(&self, tracker: &TaskTracker, stop: CancellationToken) {
        Home::install(tracker, stop);
    }

    fn call(&self, request: Request<Incoming>, _: SocketAddr) -> Answering {
        let is_grpc = request.version() == Version::HTTP_2 && is_grpc(request.headers());
        let shared = Arc::clone(&self.0);
        if is_grpc {
            grpc::answer(shared, request).or_panicked(|error| grpc::refusal(Echo::default(), &error))
        } else {
            Answering::new(rest::answer(shared, request)).or_panicked(|error| rest::refusal(Echo::default(), error))
        }
    }
}

/// True for `application/grpc`, `application/grpc+proto` and parameters after them, not for gRPC-Web.
fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return false };
    match content_type.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';' | b' ')),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Every request that waits has one of these, and it is moved to its place when the request comes: an `async fn` on the way
    /// keeps what it is given twice.
    #[test]
    fn what_waits_for_an_answer_is_small() {
        let (http, grpc) = (size(rest::answer), size(grpc::infer));
        assert!(http <= 1600 && grpc <= 1600, "{http} and {grpc} bytes");
    }
}
