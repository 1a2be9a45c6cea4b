//! Listeners, connections and shutdown over real sockets, with a handler that knows nothing of models.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, sync::Semaphore};
use weir::{
    shutdown::{self, Outcome, Phases},
    transport::{Answering, Body, Endpoint, Handler, Limits, Server},
};

use crate::wire::{PATIENCE, Wire};

/// Bytes of a large answer.
const BIG: usize = 1 << 20;

/// Answers with the name of the thread that did it. `/held` waits until the test lets it go.
#[derive(Clone, Default)]
struct Probe(Arc<Shared>);

#[derive(Default)]
struct Shared {
    began: AtomicUsize,
    left: AtomicUsize,
    gate: Option<Semaphore>,
}

struct Leaves(Arc<Shared>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.left.fetch_add(1, SeqCst);
    }
}

impl Handler for Probe {
    fn call(&self, request: Request<Incoming>, _: SocketAddr) -> Answering {
        let probe = self.clone();
        Answering::new(async move { probe.answer(request).await })
    }
}

impl Probe {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let _leaves = Leaves(Arc::clone(&self.0));
        self.0.began.fetch_add(1, SeqCst);
        if request.uri().path() == "/held" {
            self.0.gate.as_ref().unwrap().acquire().await.unwrap().forget();
        }
        if request.uri().path() == "/big" {
            return Response::new(Body::from(Bytes::from(vec![b'x'; BIG])));
        }
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        Response::new(Body::from(Bytes::from(thread)))
    }
}

struct Rig {
    server: Server,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Times short enough for a test, far enough apart to be told from each other.
fn quick() -> Limits {
    let ms = Duration::from_millis;
    Limits { first_bytes: ms(200), head: ms(200), idle: ms(400), farewell: ms(100), ..Limits::default() }
}

fn rig(threads: usize, limits: &Limits, connections: usize) -> Rig {
    let shared = Arc::new(Shared { gate: Some(Semaphore::new(0)), ..Shared::default() });
    let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = endpoint.address();
    let mut server = Server::new(threads);
    let crew = server.crew(("probe", threads), &Probe(Arc::clone(&shared)), limits, connections).unwrap();
    server.open(endpoint, &crew);
    server.start().unwrap();
    Rig { server, address, shared }
}

impl Rig {
    async fn until(&self, what: &str, condition: impl Fn(&Shared) -> bool) {
        let began = Instant::now();
        while !condition(&self.shared) {
            assert!(began.elapsed() < PATIENCE, "never: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Rig {
    /// Waits until a new connection is served.
    async fn until_served(&self, what: &str) {
        let began = Instant::now();
        loop {
            let mut wire = Wire::connect(self.address).await;
            wire.send("GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").await;
            if wire.end().await.starts_with(b"HTTP/1.1 200") {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "never: {what}");
        }
    }
}

type Http2 = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

async fn http2(address: SocketAddr) -> Http2 {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio_util::task::TaskTracker::new().spawn(connection);
    sender
}

async fn fetch(sender: &mut Http2, path: &str) -> hyper::Result<String> {
    let request = Request::get(format!("http://test{path}")).version(Version::HTTP_2).body(Empty::new()).unwrap();
    let answer = sender.send_request(request).await?;
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

const PROMPT: Phases = Phases { notice: Duration::ZERO, drain: Duration::from_secs(15) };

#[tokio::test]
async fn one_port_speaks_both_protocols() {
    let rig = rig(1, &Limits::default(), 10);
    assert_eq!(Wire::connect(rig.address).await.get("/").await.text(), "probe-0");
    let mut sender = http2(rig.address).await;
    assert_eq!(fetch(&mut sender, "/").await.unwrap(), "probe-0");
    assert_eq!(fetch(&mut sender, "/").await.unwrap(), "probe-0");
}

#[tokio::test]
async fn connections_are_dealt_in_turn() {
    let rig = rig(2, &Limits::default(), 10);
    let mut by_thread = [0; 2];
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut wire = Wire::connect(rig.address).await;
        by_thread[usize::from(wire.get("/").await.text() == "probe-1")] += 1;
        open.push(wire);
    }
    assert_eq!(by_thread, [3, 3]);
}

#[tokio::test]
async fn the_connection_limit_hangs_up_and_recovers() {
    let rig = rig(1, &Limits::default(), 2);
    let mut kept = [Wire::connect(rig.address).await, Wire::connect(rig.address).await];
    for wire in &mut kept {
        assert_eq!(wire.get("/").await.status, 200);
    }
    assert_eq!(Wire::connect(rig.address).await.end().await, b"");
    drop(kept);
    rig.until_served("places come back").await;
}

#[tokio::test]
async fn slow_and_silent_peers_are_hung_up_on() {
    let rig = rig(1, &quick(), 10);
    let mut silent = Wire::connect(rig.address).await;
    let mut half_preface = Wire::connect(rig.address).await;
    half_preface.send("PRI * HTTP/2.0\r\n").await;
    let mut half_head = Wire::connect(rig.address).await;
    half_head.send("GET / HTTP/1.1\r\nhos").await;
    let mut idle = Wire::connect(rig.address).await;
    assert_eq!(idle.get("/").await.status, 200);
    for wire in [&mut silent, &mut half_preface, &mut half_head, &mut idle] {
        assert_eq!(wire.end().await, b"");
    }
    assert_eq!(rig.shared.began.load(SeqCst), 1);
}

#[tokio::test]
async fn a_head_that_trickles_is_hung_up_on_and_a_used_connection_is_not() {
    let rig = rig(1, &quick(), 10);
    let (mut trickle, mut used) = (Wire::connect(rig.address).await, Wire::connect(rig.address).await);
    trickle.send("GET / HTTP/1.1\r\nx: ").await;
    let began = Instant::now();
    // Each pause is shorter than every patience; together they are longer than `head` and `idle`.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        trickle.send("x").await;
        assert_eq!(used.get("/").await.status, 200);
    }
    assert!(began.elapsed() > Duration::from_millis(900));
    assert_eq!(trickle.end().await, b"");
}

#[tokio::test]
async fn readers_that_take_nothing_are_hung_up_on() {
    let impatient = Limits { write_stall: Duration::from_millis(200), ..Limits::default() };
    let rig = rig(1, &impatient, 1);
    let mut piled = Wire::connect(rig.address).await;
    piled.send("GET /big HTTP/1.1\r\nhost: t\r\n\r\n".repeat(100)).await;
    rig.until("it is being answered", |shared| shared.began.load(SeqCst) >= 1).await;
    rig.until_served("its place is free again").await;
    assert!(piled.end().await.len() < 100 * BIG, "all but what the kernel had taken is dropped");

    let rig = self::rig(1, &impatient, 1);
    let mut closed_window = Wire::connect(rig.address).await;
    // Settings with a window of zero, then GET http://t/big on stream 1.
    closed_window.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0").await;
    closed_window.send(b"\0\0\x0b\x01\x05\0\0\0\x01\x82\x86\x04\x04/big\x01\x01t").await;
    rig.until("it has been answered", |shared| shared.left.load(SeqCst) == 1).await;
    assert!(closed_window.end().await.len() < BIG);
}

#[tokio::test]
async fn an_endless_head_is_refused() {
    let rig = rig(1, &Limits::default(), 10);
    let mut wire = Wire::connect(rig.address).await;
    wire.send("GET / HTTP/1.1\r\nx: ").await;
    wire.send("y".repeat(200 << 10)).await;
    assert!(wire.end().await.starts_with(b"HTTP/1.1 431"));
}

#[tokio::test]
async fn a_caller_that_leaves_ends_its_handler() {
    let rig = rig(1, &Limits::default(), 10);
    let mut wire = Wire::connect(rig.address).await;
    wire.send("GET /held HTTP/1.1\r\nhost: t\r\n\r\n").await;
    rig.until("HTTP/1 request began", |shared| shared.began.load(SeqCst) == 1).await;
    drop(wire);
    rig.until("HTTP/1 handler dropped", |shared| shared.left.load(SeqCst) == 1).await;

    let mut sender = http2(rig.address).await;
    let mut held = Box::pin(fetch(&mut sender, "/held"));
    let began = rig.until("HTTP/2 request began", |shared| shared.began.load(SeqCst) == 2);
    tokio::select! { _ = &mut held => panic!("answered"), () = began => {} }
    drop(held);
    rig.until("HTTP/2 handler dropped", |shared| shared.left.load(SeqCst) == 2).await;
}

#[tokio::test]
async fn a_drain_answers_what_is_in_flight_and_waits_for_nobody_else() {
    let rig = rig(2, &Limits::default(), 10);
    let mut idle = Wire::connect(rig.address).await;
    idle.get("/").await;
    let (mut silent, mut half_head) = (Wire::connect(rig.address).await, Wire::connect(rig.address).await);
    half_head.send("GET / HT").await;
    let (mut idle2, mut busy2) = (http2(rig.address).await, http2(rig.address).await);
    fetch(&mut idle2, "/").await.unwrap();
    let mut busy = Wire::connect(rig.address).await;
    busy.send("GET /held HTTP/1.1\r\nhost: t\r\n\r\n").await;
    let mut held2 = Box::pin(fetch(&mut busy2, "/held"));
    let began = rig.until("both are held", |shared| shared.began.load(SeqCst) == 4);
    tokio::select! { _ = &mut held2 => panic!("answered"), () = began => {} }

    let Rig { server, address, shared } = rig;
    let start = Instant::now();
    let draining = shutdown::drain(server, PROMPT, || {}, std::future::pending());
    let clients = async {
        assert_eq!(idle.end().await, b"");
        assert_eq!(silent.end().await, b"");
        assert_eq!(half_head.end().await, b"");
        while TcpStream::connect(address).await.is_ok() {
            assert!(start.elapsed() < PATIENCE, "the door stays open");
        }
        shared.gate.as_ref().unwrap().add_permits(2);
        let reply = busy.reply(false).await;
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
        assert!(held2.await.unwrap().starts_with("probe"));
    };
    let (outcome, ()) = tokio::join!(draining, clients);
    assert_eq!(outcome, Outcome::Clean);
    assert!(start.elapsed() < PROMPT.drain, "somebody was waited for until the deadline");
}

#[tokio::test]
async fn the_drain_deadline_and_a_second_signal_abort() {
    let short = Phases { drain: Duration::from_millis(100), ..PROMPT };
    for (phases, second) in [(short, false), (PROMPT, true)] {
        let rig = rig(1, &Limits::default(), 10);
        let mut wire = Wire::connect(rig.address).await;
        wire.send("GET /held HTTP/1.1\r\nhost: t\r\n\r\n").await;
        rig.until("held", |shared| shared.began.load(SeqCst) == 1).await;
        let again = async move {
            if !second {
                std::future::pending::<()>().await;
            }
        };
        let start = Instant::now();
        let outcome = shutdown::drain(rig.server, phases, || {}, again).await;
        assert_eq!(outcome, Outcome::Aborted(1));
        assert_eq!(format!("{:?}", outcome.exit_code()), format!("{:?}", ExitCode::from(3)));
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(wire.end().await, b"");
    }
}

#[tokio::test]
async fn requests_are_taken_during_the_notice() {
    let rig = rig(1, &Limits::default(), 10);
    let address = rig.address;
    let phases = Phases { notice: Duration::from_millis(300), ..PROMPT };
    let (told, hears) = tokio::sync::oneshot::channel();
    let draining = shutdown::drain(rig.server, phases, || told.send(()).unwrap(), std::future::pending());
    let client = async {
        hears.await.unwrap();
        assert_eq!(Wire::connect(address).await.get("/").await.status, 200);
    };
    let (outcome, ()) = tokio::join!(draining, client);
    assert_eq!(outcome, Outcome::Clean);
}
