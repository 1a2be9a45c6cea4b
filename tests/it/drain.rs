//! SIGTERM under load: health turns, whatever was accepted is answered, silent connections delay nothing, and the process ends
//! with 0 well within its deadline; with 3 when the deadline passes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    array::Array,
    ask::{Ask, Way},
    client::{Client, Failed, Http, channel},
    harness::{PATIENCE, Registry, Weir, fixture, until},
};

/// From the signal to the end: notice, work in flight and farewells take about three seconds, the deadline is far beyond.
const SOON: Duration = Duration::from_secs(15);
/// Callers that nearly always have a request in flight.
const SLOW: usize = 8;

fn slow(rows: i64) -> Ask {
    let count = usize::try_from(rows * 4).unwrap();
    Ask::new("slow", vec![Array::f32("x", &[rows, 4], &vec![0.5; count])])
}

/// Batches of one row, so that the work in flight takes its time.
fn registry() -> Registry {
    let registry = Registry::new(&[("quick", fixture("identity-fp32")), ("slow", fixture("slow"))]);
    registry.write("slow/model.toml", "[batching]\nmax_batch_size = 1\n");
    registry
}

/// Connections that say nothing, or not enough.
async fn silent(weir: &Weir) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for address in [weir.http, weir.grpc, weir.ops] {
        held.push(TcpStream::connect(address).await.unwrap());
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"POST /v2/models/quick/infer HTTP/1.1\r\nhost: a\r\ncontent-len").await.unwrap();
        held.push(half);
        let mut preface = TcpStream::connect(address).await.unwrap();
        preface.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        held.push(preface);
    }
    held
}

/// What the callers of a round share.
#[derive(Default)]
struct Round {
    signalled: AtomicBool,
    answered: AtomicU64,
}

/// Asks until the server is gone. What was asked before the signal must be answered; after it a connection may end instead,
/// but nobody is told anything else.
async fn ask_on(mut client: Client, way: Way, ask: Ask, round: Arc<Round>) {
    loop {
        let after = round.signalled.load(SeqCst);
        match client.ask(way, &ask).await {
            Ok(answer) => assert_eq!(answer.outputs[0].shape, ask.inputs[0].shape),
            Err(Failed::Lost(_)) if after => return,
            Err(failed) => panic!("{way:?} {} asked {}: {failed:?}", ask.model, if after { "after" } else { "before" }),
        }
        round.answered.fetch_add(1, SeqCst);
    }
}

async fn in_flight(weir: &Weir) -> f64 {
    weir.metrics().await.sum("weir_inflight_requests", &[])
}

/// Follows gRPC health from SERVING to NOT_SERVING.
async fn health_turns(address: SocketAddr, serving: tokio::sync::oneshot::Sender<()>) {
    let mut health = HealthClient::new(channel(address));
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    serving.send(()).unwrap();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
}

async fn round() {
    // Long enough that what was sent before the signal has arrived before the doors close, also on a busy machine.
    let flags = ["--drain-notice-ms", "1000", "--drain-timeout-ms", "20000"];
    let mut weir = Weir::serve(registry(), &flags).await;
    let held = silent(&weir).await;
    let mut idle = weir.client();
    for way in Way::BOTH {
        idle.answer(way, &slow(1)).await;
    }
    let mut probe = Http::new(weir.http);
    assert_eq!(probe.get("/v2/health/ready").await.status, 200);
    let (serving, is_serving) = tokio::sync::oneshot::channel();
    let (mut health, mut callers, shared) = (JoinSet::new(), JoinSet::new(), Arc::new(Round::default()));
    health.spawn(health_turns(weir.grpc, serving));
    is_serving.await.unwrap();
    for place in 0..SLOW {
        callers.spawn(ask_on(weir.client(), Way::ALL[place % 4], slow(3), Arc::clone(&shared)));
    }
    until("slow requests", PATIENCE, async || (in_flight(&weir).await >= SLOW as f64 / 2.0).then_some(())).await;
    for way in Way::ALL {
        let x = Array::f32("x", &[1, 4], &[1.0, 2.0, 3.0, 4.0]);
        callers.spawn(ask_on(weir.client(), way, Ask::new("quick", vec![x]), Arc::clone(&shared)));
    }
    until("traffic", PATIENCE, async || (shared.answered.load(SeqCst) > 40).then_some(())).await;

    shared.signalled.store(true, SeqCst);
    let began = Instant::now();
    weir.terminate();
    let turned = until("health turns", PATIENCE, async || match probe.send("GET", "/v2/health/ready", &[], "").await {
        Ok(reply) if reply.status == 200 => None,
        Ok(reply) => Some(reply.status.as_u16()),
        Err(failed) => panic!("the doors closed before health turned: {failed:?}"),
    });
    assert_eq!(turned.await, 503);
    let status = weir.ended().await;
    let took = began.elapsed();
    assert_eq!(status.code(), Some(0), "{}", weir.logs());
    assert!(took < SOON, "{took:?} from the signal to the end");
    health.join_all().await;
    callers.join_all().await;
    drop((held, idle));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_under_load() {
    for _ in 0..10 {
        round().await;
    }
}

#[tokio::test]
async fn an_idle_server_ends_at_once() {
    let mut weir = Weir::serve(registry(), &[]).await;
    let held = silent(&weir).await;
    let began = Instant::now();
    weir.terminate();
    assert_eq!(weir.ended().await.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(TcpStream::connect(weir.http).await.is_err());
    drop(held);
}

#[tokio::test]
async fn work_beyond_the_deadline_is_dropped_and_said() {
    let mut weir = Weir::serve(registry(), &["--drain-timeout-ms", "100"]).await;
    let mut client = weir.client();
    let mut callers = JoinSet::new();
    callers.spawn(async move { client.ask(Way::Json, &slow(2000)).await });
    until("a request in flight", PATIENCE, async || (in_flight(&weir).await > 0.0).then_some(())).await;
    let began = Instant::now();
    weir.terminate();
    assert_eq!(weir.ended().await.code(), Some(3), "{}", weir.logs());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert!(callers.join_all().await.remove(0).is_err());
}
