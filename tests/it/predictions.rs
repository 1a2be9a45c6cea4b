//! Predictions through the data listeners: one request and its answer in either protocol, callers that leave, deadlines, streams,
//! compression, and a shutdown with requests in flight.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tokio_util::task::TaskTracker;
use tonic::{Code, codec::CompressionEncoding};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use weir::{
    engine::fake::POISON,
    protocol::pb::{self, grpc_inference_service_client::GrpcInferenceServiceClient as Client},
    shutdown::{self, Outcome, Phases},
    types::VersionRef,
};

use crate::{
    site::{Plan, Site, WIDTH},
    wire::{PATIENCE, Reply},
};

const INFER: &str = "/v2/models/echo/infer";

fn message(value: f32, rows: usize) -> pb::ModelInferRequest {
    let input = pb::model_infer_request::InferInputTensor {
        name: "x".to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![i64::try_from(rows).unwrap(), i64::try_from(WIDTH).unwrap()],
        ..Default::default()
    };
    pb::ModelInferRequest {
        model_name: "echo".to_owned(),
        id: format!("id-{value}"),
        inputs: vec![input],
        raw_input_contents: vec![raw(value, rows)],
        ..Default::default()
    }
}

fn raw(value: f32, rows: usize) -> Bytes {
    value.to_le_bytes().repeat(rows * WIDTH).into()
}

fn body(value: f32, rows: usize) -> Vec<u8> {
    let data = vec![value; rows * WIDTH];
    let input = serde_json::json!({"name": "x", "datatype": "FP32", "shape": [rows, WIDTH], "data": data});
    serde_json::json!({"id": format!("id-{value}"), "inputs": [input]}).to_string().into_bytes()
}

fn values(reply: &Reply) -> Vec<f64> {
    let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    answer["outputs"][0]["data"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn inflight(site: &Site) -> u64 {
    site.gateway.metrics().inflight()
}

#[tokio::test]
async fn the_same_answer_in_every_form() {
    let site = Site::open(Plan::default());
    let mut wire = site.wire().await;
    let reply = wire.call("POST", INFER, "", &body(1.5, 2)).await;
    assert_eq!((reply.status, values(&reply)), (200, vec![4.0; 8]));
    let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(
        (&answer["model_name"], &answer["model_version"], &answer["id"]),
        (&"echo".into(), &"1".into(), &"id-1.5".into())
    );

    let bare = wire.call("POST", INFER, "inference-header-content-length: 0\r\n", &raw(1.5, 1)).await;
    assert_eq!((bare.status, bare.header("content-type")), (200, Some("application/octet-stream")));
    let json: usize = bare.header("inference-header-content-length").unwrap().parse().unwrap();
    assert_eq!(bare.body[json..], raw(4.0, 1));

    let mut client = Client::new(site.channel().await);
    let answer = client.model_infer(message(1.5, 2)).await.unwrap().into_inner();
    assert_eq!((&*answer.id, &answer.raw_output_contents[..]), ("id-1.5", &[raw(4.0, 2)][..]));
    site.until("nothing is in flight", |site| inflight(site) == 0 && site.budget.used() == 0).await;
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask() {
    let site = Site::open(Plan::default());
    let mut wire = site.wire().await;
    let plain = wire.call("POST", INFER, "", &body(1.0, 500)).await;
    for coding in ["gzip", "deflate"] {
        let packed = wire.call("POST", INFER, &format!("accept-encoding: {coding}\r\n"), &body(1.0, 500)).await;
        assert_eq!((packed.status, packed.header("content-encoding")), (200, Some(coding)));
        assert!(packed.body.len() < plain.body.len() / 4);
        let mut unpacked = Vec::new();
        let read = match coding {
            "gzip" => std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed.body[..]), &mut unpacked),
            _ => std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&packed.body[..]), &mut unpacked),
        };
        read.unwrap();
        assert_eq!(unpacked, plain.body);
    }
    let channel = site.channel().await;
    let mut mute = Client::new(channel.clone()).accept_compressed(CompressionEncoding::Gzip);
    let answer = mute.model_infer(message(1.0, 500)).await.unwrap();
    assert_eq!(answer.metadata().get("grpc-encoding"), None, "the request was not compressed");
    let mut asking = mute.send_compressed(CompressionEncoding::Gzip);
    let answer = asking.model_infer(message(1.0, 500)).await.unwrap();
    assert_eq!(answer.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(answer.into_inner().raw_output_contents, [raw(3.0, 500)]);
}

#[tokio::test]
async fn callers_that_leave_take_their_requests_along() {
    let site = Site::open(Plan { pool: true, ..Plan::default() });
    site.script.close();
    let mut wire = site.wire().await;
    let head = format!("POST {INFER} HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n", body(1.0, 1).len());
    wire.send(head).await;
    wire.send(body(1.0, 1)).await;
    let mut client = Client::new(site.channel().await);
    {
        let call = client.model_infer(message(1.0, 1));
        let both = site.until("both are in flight", |site| inflight(site) == 2);
        tokio::select! { _ = call => panic!("answered"), () = both => {} }
    }
    drop(wire);
    // The model still runs: what goes is what waits for it.
    site.until("nothing is in flight", |site| inflight(site) == 0 && site.budget.used() == 0).await;
    site.script.open();
    assert!(client.model_infer(message(1.0, 1)).await.is_ok());
    let metrics = site.gateway.metrics().render();
    for protocol in ["grpc", "http"] {
        let line = format!("protocol=\"{protocol}\",code=\"cancelled\"}} 1");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn rows_that_wait_leave_with_their_caller_and_not_with_the_next_batch() {
    let site = Site::open(Plan { pool: true, ..Plan::default() });
    // What is compiled off the path is run too, and would count as a worker.
    site.until("all sizes are compiled", |site| {
        let servable = site.gateway.registry().resolve("echo", &VersionRef::Policy);
        servable.is_ok_and(|servable| servable.lane.is_warm())
    })
    .await;
    site.script.close();
    let tracker = TaskTracker::new();
    let call = || {
        let (address, tracker) = (site.data, &tracker);
        tracker.spawn(async move {
            let channel = tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap();
            Client::new(channel.connect().await.unwrap()).model_infer(message(1.0, 1)).await
        })
    };
    let mut blocked = Vec::new();
    for busy in 1..=2 {
        blocked.push(call());
        site.until("a worker is busy", |site| site.script.running() == busy).await;
    }
    let waits = |rows: usize| {
        move |site: &Site| {
            let line = format!("weir_queue_rows{{model=\"echo\"}} {rows}\n");
            site.gateway.metrics().render().contains(&line)
        }
    };
    let waiting: Vec<_> = (0..4).map(|_| call()).collect();
    let mut wire = site.wire().await;
    let head = format!("POST {INFER} HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n", body(1.0, 1).len());
    wire.send([head.as_bytes(), &body(1.0, 1)].concat()).await;
    site.until("five wait", waits(5)).await;
    drop(wire);
    site.until("who closed the connection is gone", waits(4)).await;
    waiting.iter().for_each(|call| call.abort());
    site.until("who reset the stream is gone", waits(0)).await;
    // Nothing has been run meanwhile.
    assert_eq!(site.script.running(), 2);
    site.script.open();
    for call in blocked {
        assert!(call.await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn health_that_is_watched_hears_of_a_circuit() {
    let site = Site::open(Plan::default());
    let mut health = HealthClient::new(site.channel().await);
    let request = HealthCheckRequest { service: "echo".to_owned() };
    let mut watched = health.watch(request).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut client = Client::new(site.channel().await);
    for _ in 0..5 {
        assert_eq!(client.model_infer(message(POISON, 1)).await.unwrap_err().code(), Code::Internal);
    }
    let heard = tokio::time::timeout(PATIENCE, watched.message()).await.expect("it is heard");
    assert_eq!(heard.unwrap().unwrap().status(), ServingStatus::NotServing);
    // After the pause one is let through, and all is well.
    let again = tokio::time::timeout(PATIENCE, async {
        while client.model_infer(message(1.0, 1)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        watched.message().await
    });
    assert_eq!(again.await.expect("that too").unwrap().unwrap().status(), ServingStatus::Serving);
}

#[tokio::test]
async fn deadlines_end_the_wait() {
    let site = Site::open(Plan { pool: true, ..Plan::default() });
    site.script.close();
    let start = Instant::now();
    let reply = site.wire().await.call("POST", INFER, "request-timeout-ms: 50\r\n", &body(1.0, 1)).await;
    assert_eq!(reply.status, 504, "{}", reply.text());
    assert_eq!(grpc_status_with_timeout(&site, "50m").await, "4");
    assert!(start.elapsed() < Duration::from_secs(10));
    site.script.open();
    let late = site.wire().await.call("POST", INFER, "request-timeout-ms: 0\r\n", &body(1.0, 1)).await;
    assert_eq!(late.status, 504);
    assert_eq!(grpc_status_with_timeout(&site, "0n").await, "4");
}

/// Without tonic's client, which would read the header too and give up by itself.
async fn grpc_status_with_timeout(site: &Site, timeout: &str) -> String {
    let stream = TokioIo::new(TcpStream::connect(site.data).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    TaskTracker::new().spawn(connection);
    let message = message(1.0, 1).encode_to_vec();
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(&message);
    let request = http::Request::post("http://test/inference.GRPCInferenceService/ModelInfer")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", timeout)
        .body(Full::new(Bytes::from(framed)))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    answer.headers()["grpc-status"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn streams_keep_the_order_of_their_requests() {
    let site = Site::open(Plan { pool: true, ..Plan::default() });
    let mut client = Client::new(site.channel().await);
    let requests = (0_u8..100).map(|i| {
        if i % 10 == 7 {
            pb::ModelInferRequest { model_version: "9".to_owned(), ..message(7.0, 1) }
        } else {
            message(f32::from(i), 1)
        }
    });
    let requests: Vec<_> = requests.collect();
    let mut answers = client.model_stream_infer(tokio_stream::iter(requests)).await.unwrap().into_inner();
    for i in 0_u8..100 {
        let answer = answers.next().await.unwrap().unwrap();
        if i % 10 == 7 {
            assert!(answer.error_message.contains("version 9"), "{}", answer.error_message);
        } else {
            let response = answer.infer_response.unwrap();
            assert_eq!(
                (answer.error_message, response.raw_output_contents),
                (String::new(), vec![raw(f32::from(2 * i + 1), 1)])
            );
        }
    }
    assert!(answers.next().await.is_none());
    site.until("nothing is in flight", |site| inflight(site) == 0 && site.budget.used() == 0).await;
}

#[tokio::test]
async fn a_shutdown_answers_predictions_in_flight_and_ends_idle_streams() {
    let site = Site::open(Plan { pool: true, ..Plan::default() });
    site.script.close();
    let mut wire = site.wire().await;
    let head = format!("POST {INFER} HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n", body(1.0, 1).len());
    wire.send(head).await;
    wire.send(body(1.0, 1)).await;
    let mut client = Client::new(site.channel().await);
    let (_open, requests) = tokio::sync::mpsc::channel(1);
    let mut idle = client
        .clone()
        .model_stream_infer(tokio_stream::wrappers::ReceiverStream::new(requests))
        .await
        .unwrap()
        .into_inner();
    let mut held = Box::pin(client.model_infer(message(2.0, 1)));
    let both = site.until("both are in flight", |site| inflight(site) == 2);
    tokio::select! { _ = &mut held => panic!("answered"), () = both => {} }

    let Site { server, gateway, script, .. } = site;
    let phases = Phases { notice: Duration::ZERO, drain: Duration::from_secs(15) };
    let draining = shutdown::drain(server, phases, || gateway.start_draining(), std::future::pending());
    let clients = async {
        assert_eq!(idle.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
        script.open();
        assert_eq!(values(&wire.reply(false).await), [3.0; 4]);
        assert_eq!(held.await.unwrap().into_inner().raw_output_contents, [raw(5.0, 1)]);
    };
    let (outcome, ()) = tokio::join!(draining, clients);
    assert_eq!(outcome, Outcome::Clean);
}
