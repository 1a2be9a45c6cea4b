//! A route that comes, changes and goes is a model that comes, changes and goes, in everything that either protocol tells:
//! predictions, streams, metadata, configuration, readiness, statistics, the index, health and those who watch it.

use serde_json::json;
use tokio_stream::{StreamExt as _, iter};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use weir::protocol::pb;

use crate::{
    array::Array,
    ask::{Ask, Way, from_message},
    client::{Client, Refused, channel},
    harness::Weir,
    ops_routes::{CHECKOUT, Operator, gateway, split},
};

const NAME: &str = "checkout";

fn ask() -> Ask {
    Ask::new(NAME, vec![Array::f32("pixels", &[2, 64], &[0.5; 128])]).param("user_id", "u1")
}

fn request() -> HealthCheckRequest {
    HealthCheckRequest { service: NAME.to_owned() }
}

/// Nothing has this name, whatever is asked about it.
async fn is_absent(weir: &Weir) {
    let mut client = weir.client();
    for way in Way::ALL {
        let failed = client.refused(way, &ask()).await;
        let http = matches!(way, Way::Json | Way::Binary);
        let wanted = if http { Refused::Http(404) } else { Refused::Grpc(Code::NotFound) };
        assert_eq!((failed.status(), failed.text()), (Some(wanted), "model 'checkout': not found"));
    }
    for path in ["", "/config", "/stats", "/ready", "/versions/1"] {
        let reply = client.http.get(&format!("/v2/models/{NAME}{path}")).await;
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
    }
    let (name, version) = (NAME.to_owned(), String::new());
    let metadata = pb::ModelMetadataRequest { name: name.clone(), version: version.clone() };
    assert_eq!(client.grpc.model_metadata(metadata).await.unwrap_err().code(), Code::NotFound);
    let config = pb::ModelConfigRequest { name: name.clone(), version: version.clone() };
    assert_eq!(client.grpc.model_config(config).await.unwrap_err().code(), Code::NotFound);
    let statistics = pb::ModelStatisticsRequest { name: name.clone(), version: version.clone() };
    assert_eq!(client.grpc.model_statistics(statistics).await.unwrap_err().code(), Code::NotFound);
    let ready = pb::ModelReadyRequest { name, version };
    assert!(!client.grpc.model_ready(ready).await.unwrap().into_inner().ready);
    assert!(client.index().await.iter().all(|entry| entry.name != NAME));
    assert!(!client.http.get("/v2/models").await.json()["models"].as_array().unwrap().contains(&json!(NAME)));
    let health = HealthClient::new(channel(weir.grpc)).check(request()).await;
    assert_eq!(health.unwrap_err().code(), Code::NotFound);
}

/// Everything says that it is there, at this revision, after so many requests.
async fn is_there(weir: &Weir, revision: u64, mut requests: u64) -> u64 {
    let mut client = weir.client();
    let version = revision.to_string();
    for way in Way::ALL {
        let answer = client.answer(way, &ask()).await;
        assert_eq!(
            (&*answer.model, &answer.version, &answer.params["weir_revision"]),
            (NAME, &version, &json!(revision))
        );
        requests += 1;
    }
    requests += streamed(&mut client, &version).await;
    let seen = client.http.get(&format!("/v2/models/{NAME}")).await.json();
    assert_eq!((&seen["versions"], &seen["platform"]), (&json!([version]), &json!("weir_split")));
    let metadata = pb::ModelMetadataRequest { name: NAME.to_owned(), version: version.clone() };
    assert_eq!(client.grpc.model_metadata(metadata).await.unwrap().into_inner().versions, [version.as_str()]);
    let config = client.http.get(&format!("/v2/models/{NAME}/config")).await.json();
    let told = Operator::of(weir).get(&format!("/ops/routes/{NAME}")).await;
    let route: serde_json::Value =
        serde_json::from_str(config["parameters"]["weir_route"]["string_value"].as_str().unwrap()).unwrap();
    assert_eq!(route, told["route"], "the configuration is that of the live revision");
    for path in ["/ready", &format!("/versions/{version}/ready")] {
        assert_eq!(client.http.get(&format!("/v2/models/{NAME}{path}")).await.status, 200);
    }
    // An earlier revision is not asked any more.
    let before = format!("/v2/models/{NAME}/versions/{}/ready", revision - 1);
    assert!([400, 404].contains(&client.http.get(&before).await.status.as_u16()));
    let statistics = client.statistics(NAME).await;
    assert_eq!((statistics.version.as_str(), statistics.inference_count), (version.as_str(), 2 * requests));
    assert_eq!(client.state(NAME, &version).await, Some(("READY".to_owned(), String::new())));
    assert_eq!(client.index().await.iter().filter(|entry| entry.name == NAME).count(), 1);
    let health = HealthClient::new(channel(weir.grpc)).check(request()).await.unwrap();
    assert_eq!(health.into_inner().status(), ServingStatus::Serving);
    requests
}

/// A stream of three requests to the route and one to nobody between them: answered in order, and the stream goes on.
async fn streamed(client: &mut Client, version: &str) -> u64 {
    let asks = [ask().id("1"), ask().id("2"), Ask { model: "nobody".to_owned(), ..ask() }.id("3"), ask().id("4")];
    let messages: Vec<_> = asks.iter().map(|ask| ask.message(true)).collect();
    let mut answers = client.grpc.model_stream_infer(iter(messages)).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        match answer.infer_response.filter(|_| answer.error_message.is_empty()) {
            Some(response) => {
                let answer = from_message(response, true);
                assert_eq!(answer.version, version);
                assert!(answer.params.contains_key("weir_variant"), "{answer:?}");
                seen.push(answer.id);
            }
            None => seen.push(answer.error_message),
        }
    }
    assert_eq!(seen, ["1", "2", "model 'nobody': not found", "4"]);
    3
}

#[tokio::test]
async fn a_route_comes_changes_and_goes_as_a_model_does() {
    let weir = gateway(None, &[]).await;
    let mut health = HealthClient::new(channel(weir.grpc));
    let mut watched = health.watch(request()).await.unwrap().into_inner();
    let mut told = async || watched.message().await.unwrap().unwrap().status();
    assert_eq!(told().await, ServingStatus::ServiceUnknown);
    is_absent(&weir).await;

    // By hand.
    weir.registry.write(&format!("{NAME}/route.toml"), CHECKOUT);
    assert_eq!(told().await, ServingStatus::Serving);
    let requests = is_there(&weir, 1, 0).await;
    // Through the ops API; what it has answered before counts on.
    let mut operator = Operator::of(&weir);
    let path = format!("/ops/routes/{NAME}");
    operator.change(&format!("PUT {path}"), &[("if-match", "\"1\"")], &split(1.0, 1.0).to_string()).await;
    is_there(&weir, 2, requests).await;
    operator.change(&format!("DELETE {path}"), &[("if-match", "\"2\"")], "").await;
    assert_eq!(told().await, ServingStatus::ServiceUnknown, "it was serving all the time before");
    is_absent(&weir).await;
    // Back again, with a number that was not used before.
    operator.change(&format!("POST {path}/rollback"), &[], r#"{"to":1}"#).await;
    assert_eq!(told().await, ServingStatus::Serving);
    is_there(&weir, 4, 0).await;
    assert!(weir.stop().await.success());
}
