//! Listening sockets and the acceptor. Addresses are bound first, before any model is loaded; one acceptor thread takes
//! connections from all of them and deals them round-robin to the I/O threads, because SO_REUSEPORT spreads few connections
//! unevenly and gRPC clients have few. Made by the application, ended by `shutdown`.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::Handler,
    io_thread::{self, Accepted, Phase},
    limits::Limits,
};

/// Connections that the kernel may hold for us.
const BACKLOG: i32 = 4096;
/// Pause after a failed accept (out of descriptors, mostly): the listener must neither end nor spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// At most one warning about refused or failed connections in this time.
const WARN_EVERY: Duration = Duration::from_secs(5);
/// When the kernel starts to ask a silent peer whether it is alive, and how often it asks again.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));

/// A bound address that nobody answers on yet.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    /// Binds and listens. Port 0 takes any free port.
    ///
    /// # Errors
    /// What the system says, for instance that the address is in use.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let (time, interval) = KEEPALIVE;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time).with_interval(interval))?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address that was bound, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address to tell others on this machine: an unspecified address is written as loopback.
    pub fn reachable(&self) -> SocketAddr {
        let ip = match self.address {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            other => other.ip(),
        };
        SocketAddr::new(ip, self.address.port())
    }
}

/// Threads that serve one kind of listener.
#[derive(Clone, Debug)]
pub struct Crew {
    inboxes: Arc<[mpsc::Sender<Accepted>]>,
    slots: Arc<Semaphore>,
}

/// All listeners and their threads. Dropping it ends them without ceremony; [`crate::shutdown::drain`] is the polite way.
#[derive(Debug)]
pub struct Server {
    phase: watch::Sender<Phase>,
    stop_accepting: CancellationToken,
    doors: Vec<(Endpoint, Crew)>,
    done: (mpsc::Sender<usize>, mpsc::Receiver<usize>),
    threads: usize,
}

impl Server {
    /// Room for `threads` I/O threads in all.
    pub fn new(threads: usize) -> Self {
        Self {
            phase: watch::Sender::new(Phase::Serving),
            stop_accepting: CancellationToken::new(),
            doors: Vec::new(),
            done: mpsc::channel(threads.max(1)),
            threads: 0,
        }
    }

    /// Starts `threads` I/O threads that answer with `handler` and serve at most `connections` connections together.
    ///
    /// # Errors
    /// When the system gives no thread or no event queue.
    pub fn crew<H: Handler>(
        &mut self,
        (name, threads): (&str, usize),
        handler: &H,
        limits: &Limits,
        connections: usize,
    ) -> io::Result<Crew> {
        let inboxes: Vec<_> = (0..threads.max(1))
            .map(|i| {
                let (phase, done) = (self.phase.subscribe(), self.done.0.clone());
                io_thread::start(format!("{name}-{i}"), handler.clone(), limits.clone(), phase, done)
            })
            .collect::<io::Result<_>>()?;
        self.threads += inboxes.len();
        Ok(Crew { inboxes: inboxes.into(), slots: Arc::new(Semaphore::new(connections)) })
    }

    /// Cancelled when the server stops accepting: streams that would go on end then.
    pub fn stopping(&self) -> CancellationToken {
        self.stop_accepting.clone()
    }

    /// Lets a crew answer on an address, from [`Server::start`] on.
    pub fn open(&mut self, endpoint: Endpoint, crew: &Crew) {
        self.doors.push((endpoint, crew.clone()));
    }

    /// Starts the acceptor.
    ///
    /// # Errors
    /// When the system gives no thread or no event queue.
    pub fn start(&mut self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (doors, stop) = (std::mem::take(&mut self.doors), self.stop_accepting.clone());
        thread::Builder::new().name("weir-accept".to_owned()).spawn(move || {
            runtime.block_on(async {
                let tracker = TaskTracker::new();
                for (endpoint, crew) in doors {
                    tracker.spawn(accept(endpoint, crew, stop.clone()));
                }
                tracker.close();
                tracker.wait().await;
            });
        })?;
        Ok(())
    }

    /// Stops accepting and tells every connection to finish what is in flight. Returns at once.
    pub fn finish(&self) {
        self.stop_accepting.cancel();
        self.phase.send_if_modified(|phase| forward(phase, Phase::Finishing));
    }

    /// Drops what is still in flight. Returns at once.
    pub fn abort(&self) {
        self.finish();
        self.phase.send_if_modified(|phase| forward(phase, Phase::Aborting));
    }

    /// Waits until all threads have ended after [`Server::finish`] or [`Server::abort`]; gives the number of requests that
    /// were aborted. May be dropped and called again.
    pub async fn ended(&mut self, aborted: &mut usize) {
        while self.threads > 0 {
            let Some(of_thread) = self.done.1.recv().await else { return };
            self.threads -= 1;
            *aborted += of_thread;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.abort();
    }
}

fn forward(phase: &mut Phase, to: Phase) -> bool {
    let moves = *phase < to;
    if moves {
        *phase = to;
    }
    moves
}

/// Accepts until told to stop, then takes what the kernel has already accepted for us, so that nobody who got a connection
/// is hung up on.
async fn accept(endpoint: Endpoint, crew: Crew, stop: CancellationToken) {
    let address = endpoint.address;
    let listener = match tokio::net::TcpListener::from_std(endpoint.listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%address, %error, "cannot listen");
            return;
        }
    };
    let mut dealer = Dealer { crew, next: 0, quiet_until: Instant::now() };
    loop {
        let stopping = stop.is_cancelled();
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = stop.cancelled(), if !stopping => continue,
            () = std::future::ready(()), if stopping => return,
        };
        match accepted {
            Ok((stream, peer)) => dealer.deal(stream, peer).await,
            Err(error) => {
                dealer.warn(format_args!("accepting on {address} failed, trying again: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Hands connections to a crew's threads in turn.
struct Dealer {
    crew: Crew,
    next: usize,
    quiet_until: Instant,
}

impl Dealer {
    async fn deal(&mut self, stream: tokio::net::TcpStream, peer: SocketAddr) {
        let Ok(permit) = Arc::clone(&self.crew.slots).try_acquire_owned() else {
            self.warn(format_args!("connection limit reached, hanging up on {}", peer.ip()));
            return;
        };
        // The stream leaves this thread's event queue for that of the thread which will serve it.
        let Ok(stream) = stream.set_nodelay(true).and_then(|()| stream.into_std()) else { return };
        let mut accepted = Accepted { stream, peer, permit };
        for _ in 0..self.crew.inboxes.len() {
            accepted = match self.turn().try_send(accepted) {
                Ok(()) => return,
                Err(refused) => refused.into_inner(),
            };
        }
        // All inboxes are full: the kernel's queue holds the others until a thread has caught up.
        let _ = self.turn().send(accepted).await;
    }

    fn turn(&mut self) -> &mpsc::Sender<Accepted> {
        self.next = (self.next + 1) % self.crew.inboxes.len();
        &self.crew.inboxes[self.next]
    }

    fn warn(&mut self, what: std::fmt::Arguments<'_>) {
        let now = Instant::now();
        if now >= self.quiet_until {
            self.quiet_until = now + WARN_EVERY;
            tracing::warn!("{what}");
        }
    }
}
