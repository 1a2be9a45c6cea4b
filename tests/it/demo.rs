//! The demo routes over real sockets: each is called, described, watched and counted exactly as if it were a model, and answers
//! what its parts' recorded answers give offline.

use serde_json::{Value, json};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use weir::protocol::pb;

use crate::{
    array::Array,
    ask::{Answer, Ask, Way, from_body},
    client::{Client, Failed, Http, Refused, channel},
    golden::{Case, agree, rows},
    harness::{Registry, Weir},
};

/// Name, datatype and shape.
type Output = (&'static str, &'static str, &'static [i64]);

/// The routes with their kinds, a model whose golden inputs they take, and their outputs.
const ROUTES: [(&str, &str, &str, &[Output]); 4] = [
    ("digits", "split", "digits-linear/2", DIGIT),
    ("digits-cascade", "cascade", "digits-linear/2", DIGIT),
    ("digits-switch", "switch", "digits-sideways/1", DIGIT),
    ("wine-ensemble", "ensemble", "wine-mlp/1", WINE),
];
const DIGIT: &[Output] = &[("label", "INT64", &[-1]), ("probabilities", "FP32", &[-1, 10])];
const WINE: &[Output] = &[("probabilities", "FP32", &[-1, 3]), ("weir_disagreement", "FP32", &[-1])];

async fn demo() -> Weir {
    Weir::serve(Registry::demo(), &[]).await
}

fn golden(version: &str) -> Vec<Case> {
    rows(&format!("models/{version}/golden.json"))
}

/// A request to a route with golden rows of one of its models.
fn ask(route: &str) -> Ask {
    let (.., model, _) = ROUTES.iter().find(|(name, ..)| *name == route).unwrap();
    Ask::new(route, Case::batch(&golden(model), 0, 5).inputs)
}

fn by_name(version: &str) -> Case {
    let all = golden(version);
    Case::batch(&all, 0, all.len())
}

#[tokio::test]
async fn routes_are_described_as_models_are() {
    let weir = demo().await;
    let Client { mut http, mut grpc } = weir.client();
    let index = weir.client().index().await;
    for (route, kind, _, outputs) in ROUTES {
        let platform = format!("weir_{kind}");
        let reply = http.get(&format!("/v2/models/{route}")).await.json();
        assert_eq!((&reply["name"], &reply["platform"]), (&route.into(), &platform.as_str().into()));
        assert_eq!(reply["versions"], json!(["1"]));
        let input = if kind == "ensemble" { ("features", 13) } else { ("pixels", 64) };
        assert_eq!(reply["inputs"], json!([{"name": input.0, "datatype": "FP32", "shape": [-1, input.1]}]));
        let wanted: Vec<Value> = outputs
            .iter()
            .map(|(name, dtype, shape)| json!({"name": name, "datatype": dtype, "shape": shape}))
            .collect();
        assert_eq!(reply["outputs"], json!(wanted));
        assert_eq!(http.get(&format!("/v2/models/{route}/versions/1")).await.json(), reply);

        let request = pb::ModelMetadataRequest { name: route.to_owned(), version: String::new() };
        let metadata = grpc.model_metadata(request).await.unwrap().into_inner();
        assert_eq!(
            (metadata.name.as_str(), metadata.platform, metadata.versions),
            (route, platform.clone(), vec!["1".to_owned()])
        );
        let names: Vec<_> =
            metadata.outputs.into_iter().map(|output| (output.name, output.datatype, output.shape)).collect();
        let wanted: Vec<_> = outputs
            .iter()
            .map(|(name, dtype, shape)| ((*name).to_owned(), (*dtype).to_owned(), shape.to_vec()))
            .collect();
        assert_eq!(names, wanted);

        let config = http.get(&format!("/v2/models/{route}/config")).await.json();
        assert_eq!((&config["name"], &config["platform"]), (&route.into(), &platform.as_str().into()));
        let request = pb::ModelConfigRequest { name: route.to_owned(), version: "1".to_owned() };
        let over_grpc = grpc.model_config(request).await.unwrap().into_inner().config.unwrap();
        assert_eq!((over_grpc.name.as_str(), over_grpc.platform), (route, platform));
        let text = config["parameters"]["weir_route"]["string_value"].as_str().unwrap();
        assert_eq!(over_grpc.parameters["weir_route"].string_value, text);
        let told: Value = serde_json::from_str(text).unwrap();
        assert_eq!(told["kind"], kind);

        let listed: Vec<_> = index.iter().filter(|entry| entry.name == route).collect();
        let [entry] = listed[..] else { panic!("{route} is listed {} times", listed.len()) };
        assert_eq!((&*entry.version, &*entry.state, &*entry.reason), ("1", "READY", ""));
    }
    let names = http.get("/v2/models").await.json();
    assert!(ROUTES.iter().all(|(route, ..)| names["models"].as_array().unwrap().contains(&json!(route))), "{names}");
}

#[tokio::test]
async fn routes_are_ready_and_healthy() {
    let weir = demo().await;
    let Client { mut http, mut grpc } = weir.client();
    let mut health = HealthClient::new(channel(weir.grpc));
    for (route, ..) in ROUTES {
        for (path, status) in [("ready", 200), ("versions/1/ready", 200), ("versions/2/ready", 404)] {
            assert_eq!(http.get(&format!("/v2/models/{route}/{path}")).await.status, status, "{route} {path}");
        }
        for (version, ready) in [("", true), ("1", true), ("2", false), ("stable", false)] {
            let request = pb::ModelReadyRequest { name: route.to_owned(), version: version.to_owned() };
            assert_eq!(grpc.model_ready(request).await.unwrap().into_inner().ready, ready, "{route} '{version}'");
        }
        let request = HealthCheckRequest { service: route.to_owned() };
        let checked = health.check(request.clone()).await.unwrap().into_inner().status();
        assert_eq!(checked, ServingStatus::Serving, "{route}");
        let mut watched = health.watch(request).await.unwrap().into_inner();
        assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving, "{route}");
    }
}

#[tokio::test]
async fn a_watched_route_that_cannot_answer_any_more_says_so() {
    let weir = Weir::serve(Registry::demo(), &["--settle-ms", "0", "--poll-interval-ms", "20"]).await;
    let mut health = HealthClient::new(channel(weir.grpc));
    let request = HealthCheckRequest { service: "digits-switch".to_owned() };
    let mut watched = health.watch(request).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    // In one step: while a folder is emptied file by file, the gateway may write the end of the route into its history.
    let folder = |name: &str| weir.registry.path().join(name);
    std::fs::rename(folder("digits-switch"), folder(".gone")).unwrap();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    assert_eq!(Http::new(weir.http).get("/v2/models/digits-switch/ready").await.status, 404);
    weir.client().answer(Way::Raw, &ask("digits")).await;
}

#[tokio::test]
async fn the_live_revision_is_the_only_version() {
    let weir = demo().await;
    let mut client = weir.client();
    for (route, ..) in ROUTES {
        for way in Way::ALL {
            for version in ["", "1", "-1", "latest"] {
                let answer = client.answer(way, &ask(route).version(version)).await;
                assert_eq!((&*answer.model, &*answer.version), (route, "1"), "{way:?} '{version}'");
                assert_eq!(answer.params["weir_revision"], 1);
            }
            let http = matches!(way, Way::Json | Way::Binary);
            for (version, status, code) in
                [("2", 404, Code::NotFound), ("stable", 404, Code::NotFound), ("1e3", 400, Code::InvalidArgument)]
            {
                let failed = client.refused(way, &ask(route).version(version)).await;
                let wanted = if http { Refused::Http(status) } else { Refused::Grpc(code) };
                assert_eq!(failed.status(), Some(wanted), "{route} {way:?} '{version}': {failed:?}");
                let Failed::Told { text, .. } = failed else { panic!("lost") };
                assert!(text.contains(version), "{text}");
            }
        }
        for path in ["", "/config", "/stats", "/ready"] {
            let reply = client.http.get(&format!("/v2/models/{route}/versions/2{path}")).await;
            assert_eq!(reply.status, 404, "{route}{path}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn requests_to_routes_are_counted_as_theirs() {
    let weir = demo().await;
    let mut client = weir.client();
    for (place, (route, ..)) in ROUTES.into_iter().enumerate() {
        for way in Way::ALL.into_iter().cycle().take(4 + place) {
            client.answer(way, &ask(route)).await;
        }
        client.refused(Way::Raw, &Ask::new(route, vec![Array::f32("wrong", &[1, 1], &[0.0])])).await;
        let (requests, rows) = (4 + place as u64, 5 * (4 + place as u64));
        let over_grpc = client.statistics(route).await;
        let reply = client.http.get(&format!("/v2/models/{route}/stats")).await.json();
        let over_http = &reply["model_stats"][0];
        assert_eq!((&*over_grpc.name, &*over_grpc.version, over_grpc.inference_count), (route, "1", rows));
        assert_eq!((&over_http["name"], &over_http["inference_count"]), (&route.into(), &rows.into()));
        let success = over_grpc.inference_stats.unwrap().success.unwrap();
        assert_eq!(success.count, requests);
        assert_eq!(over_http["inference_stats"]["success"]["count"], requests);
        assert!(success.ns > 0);
        let metrics = weir.metrics().await;
        let counted = |code: &str| metrics.sum("weir_requests_total", &[("model", route), ("code", code)]);
        assert_eq!((counted("ok"), counted("invalid_argument")), (requests as f64, 1.0), "{route}");
    }
}

/// The variant that operators are told a key gets.
async fn assigned(ops: &mut Http, key: &str) -> String {
    let reply = ops.get(&format!("/ops/routes/digits/assignment?key={key}")).await.json();
    reply["variant"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
}

#[tokio::test]
async fn the_split_gives_every_user_their_version() {
    let weir = demo().await;
    let (mut client, mut ops) = (weir.client(), Http::new(weir.ops));
    let recorded = [by_name("digits-linear/1"), by_name("digits-linear/2")];
    assert_eq!(recorded[0].inputs, recorded[1].inputs);
    let check = |answer: &Answer, variant: &str, sticky: bool| {
        let version = if variant == "canary" { 1 } else { 0 };
        let told = |name: &str| &answer.params[name];
        assert_eq!((told("weir_variant"), told("weir_sticky")), (&variant.into(), &sticky.into()));
        assert_eq!(
            (told("weir_model"), told("weir_version")),
            (&"digits-linear".into(), &(version + 1).to_string().into())
        );
        let (path, outputs): (Vec<_>, Vec<_>) = answer.outputs.iter().cloned().partition(|o| o.name == "weir_path");
        agree(&outputs, &recorded[version].outputs).unwrap();
        assert!(path.iter().all(|path| path.numbers().iter().all(|arm| *arm == version as f64)), "{path:?}");
    };
    let request = || Ask::new("digits", recorded[0].inputs.clone());
    let mut seen = [0, 0];
    for user in 0..60 {
        let user = format!("u{user}");
        let variant = assigned(&mut ops, &user).await;
        seen[usize::from(variant == "canary")] += 1;
        for way in Way::ALL {
            let ask = request().param("user_id", user.as_str()).param("weir_explain", true);
            check(&client.answer(way, &ask).await, &variant, true);
        }
        let (body, _) = request().body(false);
        let headers = [("content-type", "application/json"), ("X-User-Id", &*user)];
        let reply = client.http.send("POST", "/v2/models/digits/infer", &headers, body).await.unwrap();
        assert_eq!((reply.header("x-weir-variant"), reply.header("x-weir-sticky")), (Some(&*variant), Some("true")));
        check(&from_body(reply.status, &reply.headers, &reply.body), &variant, true);
        let mut message = tonic::Request::new(request().message(true));
        message.metadata_mut().insert("x-user-id", user.parse().unwrap());
        let answer = client.grpc.model_infer(message).await.unwrap();
        assert_eq!(answer.metadata().get("x-weir-variant").unwrap().to_str().unwrap(), variant);
    }
    assert!(seen[0] > seen[1] && seen[1] > 0, "90 to 10, but {seen:?}");
    // Who is nobody gets one at random, and is told so.
    let answer = client.answer(Way::Json, &request()).await;
    let variant = answer.params["weir_variant"].as_str().unwrap().to_owned();
    check(&answer, &variant, false);
}

#[tokio::test]
async fn the_switch_sends_every_digit_to_its_specialist() {
    let weir = demo().await;
    let mut client = weir.client();
    // Upright and turned digits in one request, in turns of two and one.
    let (upright, turned) = (golden("digits-linear/2"), golden("digits-sideways/1"));
    let mut mixed = Vec::new();
    for (upright, turned) in upright.chunks_exact(2).zip(&turned) {
        mixed.extend_from_slice(upright);
        mixed.push(turned.clone());
    }
    let cases: Vec<f64> = (0..mixed.len()).map(|row| if row % 3 == 2 { 0.0 } else { 1.0 }).collect();
    let mixed = Case::batch(&mixed, 0, cases.len());
    for way in Way::ALL {
        let ask = Ask::new("digits-switch", mixed.inputs.clone());
        mixed.check(&client.answer(way, &ask).await.outputs, &format!("{way:?}"));
        let answer = client.answer(way, &ask.param("weir_explain", true)).await;
        assert_eq!(answer.output("weir_path").numbers(), cases);
        mixed.check(&answer.outputs[..2], &format!("{way:?} explained"));
    }
}

#[tokio::test]
async fn the_ensemble_is_the_mean_of_its_members() {
    let weir = demo().await;
    let mut client = weir.client();
    let members = ["wine-forest/1", "wine-linear/1", "wine-mlp/1"].map(by_name);
    assert!(members.iter().all(|member| member.inputs == members[0].inputs));
    let said = members.each_ref().map(|member| member.outputs[1].numbers());
    let mean: Vec<f64> = (0..said[0].len()).map(|at| said.iter().map(|values| values[at]).sum::<f64>() / 3.0).collect();
    // The mean total variation distance of the members from their mean.
    let apart = |row: usize| -> f64 {
        (row * 3..row * 3 + 3)
            .flat_map(|at| said.iter().map(|values| (values[at] - mean[at]).abs()).collect::<Vec<_>>())
            .sum::<f64>()
            / 6.0
    };
    let rows = mean.len() / 3;
    let apart: Vec<f32> = (0..rows).map(|row| apart(row) as f32).collect();
    assert!(apart.iter().any(|apart| *apart > 0.01), "members that say the same show nothing: {apart:?}");
    let mean: Vec<f32> = mean.into_iter().map(|value| value as f32).collect();
    let count = i64::try_from(rows).unwrap();
    let wanted = [Array::f32("probabilities", &[count, 3], &mean), Array::f32("weir_disagreement", &[count], &apart)];
    for way in Way::ALL {
        let ask = Ask::new("wine-ensemble", members[0].inputs.clone());
        let answer = client.answer(way, &ask).await;
        agree(&answer.outputs, &wanted).unwrap_or_else(|why| panic!("{way:?}: {why}"));
        assert_eq!(answer.params.keys().map(String::as_str).collect::<Vec<_>>(), ["weir_revision"]);
        let answer = client.answer(way, &ask.param("weir_explain", true)).await;
        assert_eq!(answer.output("weir_path").numbers(), vec![3.0; rows]);
    }
}
