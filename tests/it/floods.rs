//! HTTP/2 frames that cost the sender nothing and a careless server much. Whatever becomes of the flood's own connection, others
//! are answered meanwhile and nothing stays behind.

use std::time::Duration;

use crate::{
    site::{Plan, Site},
    wire::Wire,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// HPACK for POST, http, `/x`, content type gRPC: literals without indexing, so that every block is complete in itself.
const HEADERS: &[u8] = b"\x83\x86\x04\x02/x\x01\x01t\x0f\x10\x10application/grpc";

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

fn data(stream: u32) -> Vec<u8> {
    frame(0, 0, stream, b"")
}

fn headers(stream: u32, flags: u8) -> Vec<u8> {
    frame(1, flags, stream, HEADERS)
}

fn reset(stream: u32) -> Vec<u8> {
    frame(3, 0, stream, &8_u32.to_be_bytes())
}

fn repeat(times: u32, each: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..times).flat_map(each).collect()
}

/// Sends a flood while a canary asks on other connections.
async fn survives(name: &str, flood: Vec<u8>) {
    let site = Site::open(Plan::default());
    let settings = frame(4, 0, 0, b"");
    let mut attacker = Wire::connect(site.data).await;
    attacker.send([PREFACE, &settings, &flood].concat()).await;
    for _ in 0..5 {
        let reply = tokio::time::timeout(Duration::from_secs(5), async {
            Wire::connect(site.data).await.get("/v2/models/echo").await
        });
        assert_eq!(reply.await.expect(name).status, 200, "{name}");
    }
    drop(attacker);
    site.until(name, |site| site.gateway.metrics().inflight() == 0 && site.budget.used() == 0).await;
}

#[tokio::test]
async fn streams_that_are_opened_and_reset() {
    let pair = |i| [headers(2 * i + 1, END_HEADERS), reset(2 * i + 1)].concat();
    survives("rapid reset", repeat(20_000, pair)).await;
    let ended = |i| headers(2 * i + 1, END_HEADERS | END_STREAM);
    survives("more streams than are allowed at once", repeat(20_000, ended)).await;
}

#[tokio::test]
async fn frames_without_end() {
    let opened = headers(1, 0);
    let continued = repeat(20_000, |_| frame(9, 0, 1, b"\x00\x01a\x01b"));
    survives("continuation", [opened, continued].concat()).await;
    let opened = headers(1, END_HEADERS);
    survives("empty data", [opened, repeat(50_000, |_| data(1))].concat()).await;
    survives("ping", repeat(20_000, |_| frame(6, 0, 0, &[0; 8]))).await;
    survives("settings", repeat(20_000, |_| frame(4, 0, 0, b""))).await;
    survives("empty window update", repeat(20_000, |_| frame(8, 0, 0, &[0; 4]))).await;
    survives("priority", repeat(20_000, |i| frame(2, 0, 2 * i + 1, &[0; 5]))).await;
}

#[tokio::test]
async fn a_declared_length_takes_no_memory_and_an_unfinished_body_ends() {
    let site = Site::open(Plan { patience: Duration::from_millis(200), ..Plan::default() });
    let path = b"/inference.GRPCInferenceService/ModelInfer";
    let mut block = b"\x83\x86\x04".to_vec();
    block.push(u8::try_from(path.len()).unwrap());
    block.extend_from_slice(path);
    block.extend_from_slice(b"\x01\x01t\x0f\x10\x10application/grpc");
    let open = |i: u32| {
        let stream = 2 * i + 1;
        // A message of 1 MB is announced, and nothing follows.
        [frame(1, END_HEADERS, stream, &block), frame(0, 0, stream, b"\0\0\x0f\0\0")].concat()
    };
    let mut attacker = Wire::connect(site.data).await;
    attacker.send([PREFACE, &frame(4, 0, 0, b""), &repeat(200, open)].concat()).await;
    let mut client =
        weir::protocol::pb::grpc_inference_service_client::GrpcInferenceServiceClient::new(site.channel().await);
    let refused = |site: &Site| site.gateway.metrics().render().contains("code=\"deadline_exceeded\"} 200");
    site.until("all were given up", |site| {
        assert!(site.budget.used() < 10_000, "only what has come counts");
        refused(site)
    })
    .await;
    assert!(client.server_live(weir::protocol::pb::ServerLiveRequest {}).await.unwrap().into_inner().live);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_does_not_hold_up_the_others() {
    let site = Site::open(Plan::default());
    // Windows of zero: every answer waits in the server.
    let settings = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let streams = repeat(200, |i| headers(2 * i + 1, END_HEADERS | END_STREAM));
    let mut attacker = Wire::connect(site.data).await;
    attacker.send([PREFACE, &settings, &streams].concat()).await;
    for _ in 0..10 {
        let reply = async { site.wire().await.get("/v2").await };
        assert_eq!(
            tokio::time::timeout(Duration::from_secs(5), reply).await.expect("a canary is answered").status,
            200
        );
    }
}
