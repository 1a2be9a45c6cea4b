//! The demo cascade over real sockets: for every held-out digit it answers exactly what its rule gives on the recorded answers of
//! ONNX Runtime, however rows are sent together and whoever else is calling, and the large model sees the rows that need it and
//! no others.

use std::sync::Arc;

use serde_json::Value;
use tokio::task::JoinSet;
use weir::protocol::pb;

use crate::{
    array::Array,
    ask::{Answer, Ask, Way, from_body, from_message},
    client::Client,
    golden::{Case, agree, cases},
    harness::{Registry, Weir, repository},
};

const ROUTE: &str = "digits-cascade";
/// The stages, and the version that each is asked in.
const STAGES: [(&str, &str); 2] = [("digits-linear", "2"), ("digits-cnn", "1")];
/// Rows whose measure is so close to the threshold may be answered by either stage: batch sizes change the last bits.
const CLOSE: f64 = 1e-4;

/// Who must answer a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Stage(usize),
    Either,
}

/// A held-out digit, and what both stages say of it.
struct Digit {
    pixels: Array,
    truth: f64,
    said: [Vec<Array>; 2],
    wanted: Wanted,
}

/// The held-out digits.
struct HeldOut(Vec<Digit>);

impl HeldOut {
    /// `threshold`: the largest probability from which on the first stage is sure.
    fn read(threshold: f64) -> Self {
        let recorded = cases("tests/held-out/digits.json");
        let [rows, first, last] = &recorded[..] else { panic!("{} cases", recorded.len()) };
        let (pixels, truth) = (rows.inputs[0].split(), rows.outputs[0].numbers());
        let split = |case: &Case| -> Vec<Vec<Array>> {
            let outputs: Vec<_> = case.outputs.iter().map(Array::split).collect();
            (0..pixels.len()).map(|row| outputs.iter().map(|rows| rows[row].clone()).collect()).collect()
        };
        let (first, last) = (split(first), split(last));
        let digits = pixels.iter().zip(truth).zip(first.into_iter().zip(last));
        let digits = digits.map(|((pixels, truth), (first, last))| {
            let scores = first.iter().find(|output| output.name == "probabilities").unwrap().numbers();
            let above = scores.into_iter().fold(f64::NEG_INFINITY, f64::max) - threshold;
            let wanted = if above.abs() <= CLOSE { Wanted::Either } else { Wanted::Stage(usize::from(above < 0.0)) };
            Digit { pixels: pixels.clone(), truth, said: [first, last], wanted }
        });
        Self(digits.collect())
    }

    /// Rows that this stage must answer.
    fn of(&self, stage: usize) -> Vec<usize> {
        (0..self.0.len()).filter(|row| self.0[*row].wanted == Wanted::Stage(stage)).collect()
    }

    fn ask(&self, rows: &[usize], explain: bool) -> Ask {
        let pixels: Vec<&Array> = rows.iter().map(|row| &self.0[*row].pixels).collect();
        let ask = Ask::new(ROUTE, vec![Array::join(&pixels)]).id(format!("from {}", rows[0]));
        if explain { ask.param("weir_explain", true) } else { ask }
    }

    /// Holds an answer to the rule, and says how many rows each stage answered.
    fn check(&self, rows: &[usize], answer: &Answer) -> [usize; 2] {
        let (path, outputs): (Vec<Array>, Vec<Array>) =
            answer.outputs.iter().cloned().partition(|output| output.name == "weir_path");
        let path = path.first().map(Array::numbers);
        let outputs: Vec<Vec<Array>> = outputs.iter().map(Array::split).collect();
        let mut stages = [0; 2];
        for (place, row) in rows.iter().enumerate() {
            let digit = &self.0[*row];
            let got: Vec<Array> = outputs.iter().map(|rows| rows[place].clone()).collect();
            let told = path.as_ref().map(|path| path[place] as usize);
            let stage = match digit.wanted {
                Wanted::Stage(stage) => stage,
                // All of it from one stage; from the one that is told, when one is.
                Wanted::Either => told.unwrap_or_else(|| usize::from(agree(&got, &digit.said[0]).is_err())),
            };
            assert_eq!(told.unwrap_or(stage), stage, "row {row} was answered by another stage");
            agree(&got, &digit.said[stage]).unwrap_or_else(|why| panic!("row {row} of stage {stage}: {why}"));
            stages[stage] += 1;
        }
        let [first, last] = stages;
        assert_eq!(answer.params["weir_stage_rows"], format!("{first},{last}"), "{:?}", answer.params);
        assert_eq!((&*answer.model, &*answer.version, &answer.params["weir_revision"]), (ROUTE, "1", &1.into()));
        assert_eq!(answer.params.get("weir_degraded"), None);
        assert_eq!(answer.id, format!("from {}", rows[0]));
        stages
    }
}

/// A gateway with the demo registry, and the digits as its cascade must answer them.
async fn demo() -> (Arc<Weir>, Arc<HeldOut>) {
    serve(Registry::demo()).await
}

async fn serve(registry: Registry) -> (Arc<Weir>, Arc<HeldOut>) {
    let weir = Weir::serve(registry, &[]).await;
    let route = route_of(&mut weir.client()).await;
    let accept = &route["stage"][0]["accept"];
    assert_eq!((&accept["output"], &accept["measure"]), (&"probabilities".into(), &"max_prob".into()));
    let held_out = HeldOut::read(accept["at_least"].as_f64().unwrap());
    assert_eq!(held_out.0.len(), 500);
    assert!(held_out.of(1).len() > 30, "hardly any row goes on: nothing would be shown");
    (Arc::new(weir), Arc::new(held_out))
}

/// The route as the gateway has it.
async fn route_of(client: &mut Client) -> Value {
    let config = client.http.get(&format!("/v2/models/{ROUTE}/config")).await.json();
    serde_json::from_str(config["parameters"]["weir_route"]["string_value"].as_str().unwrap()).unwrap()
}

/// Executions and rows of a stage since start-up, by the statistics of its model.
async fn ran(client: &mut Client, stage: usize) -> (u64, u64) {
    let (name, version) = STAGES[stage];
    let request = pb::ModelStatisticsRequest { name: name.to_owned(), version: version.to_owned() };
    let answer = client.grpc.model_statistics(request).await.unwrap().into_inner();
    (answer.model_stats[0].execution_count, answer.model_stats[0].inference_count)
}

/// The models ran exactly these rows, by their statistics and by the metrics of the route, and nobody else asked them.
async fn check_counts(weir: &Weir, answered: [usize; 2], requests: usize) {
    let mut client = weir.client();
    let [first, last] = answered.map(|rows| rows as u64);
    assert_eq!((ran(&mut client, 0).await.1, ran(&mut client, 1).await.1), (first + last, last));
    let metrics = weir.metrics().await;
    let decided = |stage: &str, decision: &str| {
        metrics.sum("weir_cascade_rows_total", &[("route", ROUTE), ("stage", stage), ("decision", decision)])
    };
    assert_eq!((decided("0", "accepted"), decided("0", "escalated")), (first as f64, last as f64));
    assert_eq!((decided("1", "accepted"), decided("1", "escalated")), (last as f64, 0.0));
    let counted = |model: &str| metrics.sum("weir_requests_total", &[("model", model)]);
    assert_eq!((counted(ROUTE), counted("digits-linear"), counted("digits-cnn")), (requests as f64, 0.0, 0.0));
    let statistics = client.statistics(ROUTE).await;
    let success = statistics.inference_stats.unwrap().success.unwrap().count;
    assert_eq!((statistics.inference_count, success), (first + last, requests as u64));
}

/// Passes over all digits, in all encodings and in requests of several sizes.
async fn pass(weir: &Weir, held_out: &HeldOut, sizes: &[usize]) -> ([usize; 2], usize) {
    let mut client = weir.client();
    let all: Vec<usize> = (0..held_out.0.len()).collect();
    let (mut answered, mut requests) = ([0; 2], 0);
    for way in Way::ALL {
        for size in sizes {
            let mut stages = [0; 2];
            for (turn, rows) in all.chunks(*size).enumerate() {
                let answer = client.answer(way, &held_out.ask(rows, turn % 2 == 0)).await;
                let names: Vec<_> = answer.outputs.iter().map(|output| &*output.name).collect();
                let wanted: &[&str] = &["label", "probabilities", "weir_path"];
                assert_eq!(names, wanted[..if turn % 2 == 0 { 3 } else { 2 }]);
                held_out.check(rows, &answer).iter().zip(&mut stages).for_each(|(rows, sum)| *sum += rows);
                requests += 1;
            }
            let sure = [0, 1].map(|stage| held_out.of(stage).len());
            assert!(stages[0] >= sure[0] && stages[1] >= sure[1], "{way:?} {size}: {stages:?}, expected {sure:?}");
            stages.iter().zip(&mut answered).for_each(|(rows, sum)| *sum += rows);
        }
    }
    (answered, requests)
}

#[tokio::test]
async fn every_held_out_digit_is_answered_by_the_rule_in_every_encoding() {
    let (weir, held_out) = demo().await;
    let (answered, requests) = pass(&weir, &held_out, &[1, 7, 64, 500]).await;
    check_counts(&weir, answered, requests).await;
}

#[tokio::test]
async fn rows_at_the_threshold_are_answered_by_either_stage_and_never_by_both() {
    // A threshold that a digit's own measure is.
    let held_out = HeldOut::read(0.5);
    let digit = &held_out.0[held_out.of(0)[7]];
    let scores = digit.said[0].iter().find(|output| output.name == "probabilities").unwrap().numbers();
    let threshold = scores.into_iter().fold(0.0, f64::max);
    let registry = Registry::demo();
    let text = format!(
        "kind = 'cascade'\n[[stage]]\nmodel = 'digits-linear'\n\
         accept = {{ output = 'probabilities', measure = 'max_prob', at_least = {threshold} }}\n\
         [[stage]]\nmodel = 'digits-cnn'\n"
    );
    registry.write(&format!("{ROUTE}/route.toml"), text);
    let (weir, held_out) = serve(registry).await;
    assert!(held_out.0.iter().any(|digit| digit.wanted == Wanted::Either));
    let (answered, requests) = pass(&weir, &held_out, &[1, 64]).await;
    check_counts(&weir, answered, requests).await;
}

#[tokio::test]
async fn sixty_four_callers_at_once_get_what_each_would_get_alone() {
    let (weir, held_out) = demo().await;
    let mut callers = JoinSet::new();
    for caller in 0..64 {
        let (weir, held_out) = (Arc::clone(&weir), Arc::clone(&held_out));
        callers.spawn(async move {
            let (mut client, way) = (weir.client(), Way::ALL[caller % 4]);
            // Every caller has rows of its own, in an order of its own, some of them several times in one request.
            let count = held_out.0.len();
            let rows: Vec<usize> = (0..150).map(|step| (caller * 131 + step * (caller % 7 + 1) * 17) % count).collect();
            let (mut answered, mut requests) = ([0; 2], 0);
            for (turn, rows) in rows.chunks([1, 7, 64, 3][caller / 16]).enumerate() {
                let answer = client.answer(way, &held_out.ask(rows, (turn + caller) % 2 == 0)).await;
                held_out.check(rows, &answer).iter().zip(&mut answered).for_each(|(rows, sum)| *sum += rows);
                requests += 1;
            }
            (answered, requests)
        });
    }
    let (mut answered, mut requests) = ([0; 2], 0);
    for (rows, asked) in callers.join_all().await {
        rows.iter().zip(&mut answered).for_each(|(rows, sum)| *sum += rows);
        requests += asked;
    }
    assert_eq!(answered.iter().sum::<usize>(), 64 * 150);
    check_counts(&weir, answered, requests).await;
}

#[tokio::test]
async fn rows_of_different_callers_go_on_together() {
    let (weir, held_out) = demo().await;
    let hard = held_out.of(1);
    let mut callers = JoinSet::new();
    for caller in 0..64 {
        let (weir, held_out, hard) = (Arc::clone(&weir), Arc::clone(&held_out), hard.clone());
        callers.spawn(async move {
            let mut client = weir.client();
            for step in 0..20 {
                let rows = [hard[(caller + step * 7) % hard.len()]];
                let answer = client.answer(Way::Raw, &held_out.ask(&rows, false)).await;
                assert_eq!(held_out.check(&rows, &answer), [0, 1]);
            }
        });
    }
    callers.join_all().await;
    let (executions, rows) = ran(&mut weir.client(), 1).await;
    assert_eq!(rows, 64 * 20);
    assert!(executions < rows, "{executions} executions for {rows} requests of one row: nothing was batched again");
}

#[tokio::test]
async fn what_happened_is_in_headers_and_metadata_too() {
    let (weir, held_out) = demo().await;
    let mut client = weir.client();
    let (easy, hard) = (held_out.of(0), held_out.of(1));
    let mixed = [easy[0], hard[0], hard[1], easy[1], easy[2]];
    for (rows, told) in [(&mixed[..], "3,2"), (&easy[..4], "4,0"), (&hard[..3], "0,3")] {
        let ask = held_out.ask(rows, true);
        for binary in [false, true] {
            let reply = client.ask_http(binary, &ask).await.unwrap();
            assert_eq!((reply.header("x-weir-stage-rows"), reply.header("x-weir-revision")), (Some(told), Some("1")));
            held_out.check(rows, &from_body(reply.status, &reply.headers, &reply.body));
        }
        for raw in [false, true] {
            let answer = client.grpc.model_infer(ask.message(raw)).await.unwrap();
            let header = |name| answer.metadata().get(name).map(|value| value.to_str().unwrap());
            assert_eq!((header("x-weir-stage-rows"), header("x-weir-revision")), (Some(told), Some("1")));
            held_out.check(rows, &from_message(answer.into_inner(), raw));
        }
    }
    // Outputs that were not asked for are not there, and what decides is looked at all the same.
    for way in Way::ALL {
        let ask = held_out.ask(&mixed, true).wants(&[("label", 0)]);
        let answer = client.answer(way, &ask).await;
        let names: Vec<_> = answer.outputs.iter().map(|output| &*output.name).collect();
        assert_eq!(names, ["label", "weir_path"]);
        assert_eq!(answer.output("weir_path"), &path(&[0, 1, 1, 0, 0]));
        let labels = mixed.map(|row| held_out.0[row].said[usize::from(hard.contains(&row))][0].numbers()[0]);
        assert_eq!(answer.output("label").numbers(), labels);
    }
}

fn path(stages: &[i32]) -> Array {
    let shape = [i64::try_from(stages.len()).unwrap()];
    Array::new("weir_path", "INT32", &shape, stages.iter().flat_map(|stage| stage.to_le_bytes()).collect())
}

#[tokio::test]
async fn the_readme_shows_what_is_measured() {
    let (weir, held_out) = demo().await;
    let all: Vec<usize> = (0..held_out.0.len()).collect();
    let mut client = weir.client();
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    for model in ["digits-linear", ROUTE, "digits-cnn"] {
        let before = ran(&mut client, 1).await.1;
        let ask = Ask { model: model.to_owned(), ..held_out.ask(&all, false) };
        let labels = client.answer(Way::Raw, &ask).await.output("label").numbers();
        let right = labels.iter().zip(&held_out.0).filter(|(label, digit)| **label == digit.truth).count();
        let share = |rows: f64| rows / all.len() as f64;
        let runs = share((ran(&mut client, 1).await.1 - before) as f64);
        let line = format!("| `{model}` | {:.3} | {:.1} % |\n", share(right as f64), runs * 100.0);
        assert!(readme.contains(&line), "the README does not have the line\n{line}");
    }
}
