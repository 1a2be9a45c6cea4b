//! The gRPC side of the data listeners, asked by tonic's own client: health, reflection, settings, limits, what is echoed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost_reflect::DescriptorPool;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Status, codec::CompressionEncoding, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};
use weir::{
    protocol::pb::{self, grpc_inference_service_client::GrpcInferenceServiceClient as Client},
    shutdown::{self, Outcome, Phases},
};

use crate::site::{Plan, Site};

fn request(bytes: usize) -> pb::ModelInferRequest {
    let input = pb::model_infer_request::InferInputTensor {
        name: "x".to_owned(),
        datatype: "UINT8".to_owned(),
        shape: vec![i64::try_from(bytes).unwrap()],
        ..Default::default()
    };
    pb::ModelInferRequest {
        model_name: "nobody".to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![Bytes::from(vec![0; bytes])],
        ..Default::default()
    }
}

/// The request was read and understood, and nobody has the name.
fn is_unknown(status: &Status) -> bool {
    (status.code(), status.message()) == (Code::NotFound, "model 'nobody': not found")
}

async fn call(channel: &Channel, path: &str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    grpc.unary(Request::new(()), path.parse().unwrap(), codec).await.map(|_| ())
}

#[tokio::test]
async fn every_method_of_the_protocol_is_known_and_no_other() {
    let site = Site::open(Plan::default());
    let channel = site.channel().await;
    let pool = DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).unwrap();
    let service = pool.get_service_by_name("inference.GRPCInferenceService").unwrap();
    let methods: Vec<_> = service.methods().filter(|method| !method.is_client_streaming()).collect();
    assert_eq!(methods.len(), 19);
    for method in methods {
        let path = format!("/inference.GRPCInferenceService/{}", method.name());
        let outcome = call(&channel, &path).await;
        let text = outcome.as_ref().err().map_or("", Status::message).to_owned();
        if method.name().contains("SharedMemory") {
            assert_eq!(outcome.unwrap_err().code(), Code::Unimplemented);
            assert_eq!(text, "shared memory: not supported");
        } else {
            assert!(!text.contains("not known"), "{path}: {text}");
        }
    }
    for path in ["/inference.GRPCInferenceService/Nothing", "/inference.Other/ServerLive", "/nothing"] {
        let status = call(&channel, path).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        assert!(status.message().ends_with("not known"), "{path}: {}", status.message());
    }
}

#[tokio::test]
async fn the_server_tells_about_itself() {
    let site = Site::open(Plan::default());
    let mut client = Client::new(site.channel().await);
    assert!(client.server_live(pb::ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(pb::ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let about = client.server_metadata(pb::ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(about.name, "weir");
    let ready = pb::ModelReadyRequest { name: "nobody".to_owned(), version: String::new() };
    assert!(!client.model_ready(ready).await.unwrap().into_inner().ready);
    let ready = pb::ModelReadyRequest { name: "echo".to_owned(), version: "1".to_owned() };
    assert!(client.model_ready(ready).await.unwrap().into_inner().ready);
    let bad = pb::ModelReadyRequest { name: "nobody".to_owned(), version: "1e3".to_owned() };
    assert_eq!(client.model_ready(bad).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn settings_are_read_only_here() {
    let site = Site::open(Plan::default());
    let mut client = Client::new(site.channel().await);
    let settings = client.log_settings(pb::LogSettingsRequest::default()).await.unwrap().into_inner().settings;
    assert!(settings.contains_key("log_info"));
    assert!(client.trace_setting(pb::TraceSettingRequest::default()).await.is_ok());
    let value = pb::log_settings_request::SettingValue::default();
    let write = pb::LogSettingsRequest { settings: [("log_info".to_owned(), value)].into() };
    let status = client.log_settings(write).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "settings: given when the server starts, as --log-level and --log-format")
    );
    let status = client.repository_model_load(pb::RepositoryModelLoadRequest::default()).await.unwrap_err();
    assert_eq!(status.message(), "explicit model load / unload is not allowed if polling is enabled");
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_configuration_in_a_load_is_never_taken() {
    let site = Site::open(Plan { explicit: true, ..Plan::default() });
    let mut client = Client::new(site.channel().await);
    let parameter = pb::ModelRepositoryParameter::default();
    let load = pb::RepositoryModelLoadRequest {
        model_name: "nobody".to_owned(),
        parameters: [("config".to_owned(), parameter)].into(),
        ..Default::default()
    };
    assert_eq!(client.repository_model_load(load).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn messages_are_limited_as_every_grpc_server_says_it() {
    let site = Site::open(Plan { max_body: 100_000, ..Plan::default() });
    let mut client = Client::new(site.channel().await);
    assert!(is_unknown(&client.model_infer(request(99_000)).await.unwrap_err()));
    let status = client.model_infer(request(100_001)).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, "body: expected at most 100000 bytes, got more")
    );
    let mut packing = client.clone().send_compressed(CompressionEncoding::Gzip);
    assert!(is_unknown(&packing.model_infer(request(99_000)).await.unwrap_err()));
    let status = packing.model_infer(request(10 << 20)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(is_unknown(&client.model_infer(request(10)).await.unwrap_err()), "the connection is still good");
    assert_eq!(site.budget.used(), 0);
}

#[tokio::test]
async fn streams_report_failures_and_go_on() {
    let site = Site::open(Plan { max_body: 100_000, ..Plan::default() });
    let mut client = Client::new(site.channel().await);
    let with_id = |id: &str| pb::ModelInferRequest { id: id.to_owned(), ..request(10) };
    let requests = tokio_stream::iter(["a", "b", "c"].map(with_id));
    let mut answers = client.model_stream_infer(requests).await.unwrap().into_inner();
    for id in ["a", "b", "c"] {
        let answer = answers.next().await.unwrap().unwrap();
        assert!(answer.error_message.starts_with("model 'nobody'"), "{}", answer.error_message);
        assert_eq!(answer.infer_response.unwrap().id, id);
    }
    assert!(answers.next().await.is_none());

    let mut real = Request::new(tokio_stream::iter([with_id("a"), with_id("b")]));
    real.metadata_mut().insert("triton_grpc_error", "true".parse().unwrap());
    let mut answers = client.model_stream_infer(real).await.unwrap().into_inner();
    assert!(is_unknown(&answers.next().await.unwrap().unwrap_err()));
    assert!(answers.next().await.is_none());

    let mut answers = client.model_stream_infer(tokio_stream::iter([request(200_000)])).await.unwrap().into_inner();
    assert_eq!(answers.next().await.unwrap().unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn messages_that_would_explode_are_refused_in_either_way() {
    let site = Site::open(Plan::default());
    let mut client = Client::new(site.channel().await);
    let bomb = pb::ModelInferRequest { inputs: vec![Default::default(); 400_000], ..request(1) };
    let status = client.model_infer(bomb.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let mut answers = client.model_stream_infer(tokio_stream::iter([bomb, request(1)])).await.unwrap().into_inner();
    assert_eq!(answers.next().await.unwrap().unwrap().error_message, status.message());
    assert!(answers.next().await.unwrap().unwrap().error_message.starts_with("model 'nobody'"));
}

#[tokio::test]
async fn requests_that_are_not_predictions_are_small() {
    let site = Site::open(Plan { max_body: 16 << 20, ..Plan::default() });
    let mut client = Client::new(site.channel().await);
    assert!(is_unknown(&client.model_infer(request(8 << 20)).await.unwrap_err()));
    let asked = pb::ModelReadyRequest { name: "n".repeat(2 << 20), ..Default::default() };
    assert_eq!(client.model_ready(asked).await.unwrap_err().code(), Code::ResourceExhausted);
    let reply = site.wire().await.call("POST", "/v2/repository/index", "", &vec![b' '; 2 << 20]).await;
    assert_eq!(reply.status, 413);
}

#[tokio::test]
async fn deadlines_and_ids() {
    let site = Site::open(Plan::default());
    let mut client = Client::new(site.channel().await);
    let mut bad = Request::new(request(1));
    bad.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = client.model_infer(bad).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let mut named = Request::new(pb::ServerLiveRequest {});
    named.metadata_mut().insert("x-request-id", "abc-1".parse().unwrap());
    assert_eq!(client.server_live(named).await.unwrap().metadata().get("x-request-id").unwrap(), "abc-1");
    let mut named = Request::new(request(1));
    named.metadata_mut().insert("x-request-id", "abc-2".parse().unwrap());
    assert_eq!(client.model_infer(named).await.unwrap_err().metadata().get("x-request-id").unwrap(), "abc-2");
    let mut strange = Request::new(pb::ServerLiveRequest {});
    strange.metadata_mut().insert("grpc-encoding", "zstd".parse().unwrap());
    assert_eq!(client.server_live(strange).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn health_is_checked_and_watched() {
    let site = Site::open(Plan::default());
    let mut client = HealthClient::new(site.channel().await);
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", "inference.GRPCInferenceService", "echo", "echo/1"] {
        let status = client.check(ask(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    for service in ["nobody", "nobody/1", "echo/2", "echo/1/1", "echo/1e3"] {
        assert_eq!(client.check(ask(service)).await.unwrap_err().code(), Code::NotFound, "{service}");
    }
    let mut server = client.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(server.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut nobody = client.watch(ask("nobody")).await.unwrap().into_inner();
    assert_eq!(nobody.next().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);

    // A model that appears is told to those who wait for it.
    std::fs::create_dir_all(site.folder.path().join("nobody/1")).unwrap();
    std::fs::write(site.folder.path().join("nobody/1/model.onnx"), "anything").unwrap();
    let mut status = ServingStatus::ServiceUnknown;
    while status != ServingStatus::Serving {
        let next = nobody.next().await.unwrap().unwrap().status();
        assert_ne!(next, status, "only changes are told");
        status = next;
    }

    let gateway = Arc::clone(&site.gateway);
    let phases = Phases { notice: Duration::ZERO, drain: Duration::from_secs(10) };
    let draining = shutdown::drain(site.server, phases, || gateway.start_draining(), std::future::pending());
    let watched = async {
        for mut stream in [server, nobody] {
            assert_eq!(stream.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
            assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
        }
    };
    let (outcome, ()) = tokio::join!(draining, watched);
    assert_eq!(outcome, Outcome::Clean);
}

const SERVICES: [&str; 4] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "inference.GRPCInferenceService",
];

#[tokio::test]
async fn reflection_in_both_versions() {
    let site = Site::open(Plan::default());
    let channel = site.channel().await;
    let ask = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else { panic!() };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, SERVICES);

    let symbol = "inference.ModelInferRequest".to_owned();
    let ask = v1alpha::ServerReflectionRequest {
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol)),
        ..Default::default()
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(file) = answer else { panic!() };
    assert!(!file.file_descriptor_proto.is_empty());
}
