//! The echo servers: what is left of a gateway when everything but the transport is taken away. One runtime thread,
//! hyper-util's auto loop, loopback only. `echo_grpc` and `echo_http` are the services.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::cli::EchoKind;
use crate::error::{Fault, Result};
use crate::{echo_grpc, echo_http};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 256 << 20;
/// After a failed accept (usually: no file descriptors left) connections get this long to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Serves until SIGTERM, SIGINT or the time limit. Prints `listening 127.0.0.1:PORT` once it accepts connections.
///
/// # Errors
/// A port that is taken, or a machine without signals.
pub(crate) async fn serve(command: &EchoKind) -> Result<()> {
    let (EchoKind::Grpc(args) | EchoKind::Http(args)) = command;
    if !args.answer_bytes.is_multiple_of(4) {
        return Err(Fault::new("--answer-bytes", "expected a multiple of 4"));
    }
    let subject = format!("port {}", args.port);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await.map_err(|e| Fault::new(&subject, e))?;
    let address = listener.local_addr().map_err(|e| Fault::new(&subject, e))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Fault::new("SIGTERM", e))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Fault::new("SIGINT", e))?;
    let mut stdout = std::io::stdout();
    let told = writeln!(stdout, "listening {address}").and_then(|()| stdout.flush());
    told.map_err(|e| Fault::new("stdout", e))?;

    let values: Vec<f32> = (0..args.answer_bytes / 4).map(answer_value).collect();
    let accepting = async {
        match command {
            EchoKind::Grpc(_) => {
                accept(&listener, TowerToHyperService::new(echo_grpc::service(&values))).await;
            }
            EchoKind::Http(_) => accept(&listener, echo_http::EchoHttp::new(&values)).await,
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = sleep(Duration::from_secs(args.max_seconds)) => {}
    }
    Ok(())
}

/// Element `index` of every answer: not constant, so that a verified run verifies something.
pub(crate) fn answer_value(index: u32) -> f32 {
    (index % 1000) as f32 * 0.5
}

async fn accept<S, B>(listener: &TcpListener, service: S)
where
    S: Service<http::Request<Incoming>, Response = http::Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((socket, _peer)) => {
                let service = service.clone();
                connections.spawn(connection(socket, service));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection<S, B>(socket: TcpStream, service: S)
where
    S: Service<http::Request<Incoming>, Response = http::Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    // Without it the connection still works, only slower.
    let _ = socket.set_nodelay(true);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(None);
    // How a client left is its own affair.
    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
}
