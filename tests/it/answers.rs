//! What models answer, over the wire: every recorded row of every demo model, alone and in batches of several sizes, and every
//! fixture that has ONNX Runtime's answers.

use std::fs;

use crate::{
    ask::{Ask, Way},
    golden::{Case, agree, cases, rows},
    harness::{Weir, fixture, repository},
};

/// The demo models and their versions.
const DEMO: [(&str, &str); 10] = [
    ("breast-cancer-mlp", "1"),
    ("diabetes-forest", "1"),
    ("digits-cnn", "1"),
    ("digits-linear", "1"),
    ("digits-linear", "2"),
    ("digits-orientation", "1"),
    ("digits-sideways", "1"),
    ("wine-forest", "1"),
    ("wine-linear", "1"),
    ("wine-mlp", "1"),
];

async fn demo() -> Weir {
    let mut models: Vec<_> = DEMO.iter().map(|(model, _)| (*model, format!("models/{model}"))).collect();
    models.dedup();
    Weir::start(&models, &[]).await
}

fn golden(model: &str, version: &str) -> String {
    format!("models/{model}/{version}/golden.json")
}

#[tokio::test]
async fn every_golden_case_of_the_demo_models() {
    let weir = demo().await;
    let mut client = weir.client();
    for (model, version) in DEMO {
        for case in cases(&golden(model, version)) {
            for way in Way::ALL {
                let ask = Ask::new(model, case.inputs.clone()).version(version);
                let answer = client.answer(way, &ask).await;
                assert_eq!((&*answer.model, &*answer.version), (model, version));
                case.check(&answer.outputs, &format!("{model}/{version} {way:?}"));
            }
        }
    }
}

#[tokio::test]
async fn batches_of_any_size_answer_as_their_rows_alone() {
    let weir = demo().await;
    let mut client = weir.client();
    for (model, version) in DEMO {
        let rows = rows(&golden(model, version));
        for way in Way::BOTH {
            let mut alone = Vec::new();
            for row in &rows {
                let answer = client.answer(way, &Ask::new(model, row.inputs.clone()).version(version)).await;
                row.check(&answer.outputs, &format!("{model}/{version} {way:?} alone"));
                alone.push(Case { inputs: row.inputs.clone(), outputs: answer.outputs });
            }
            for size in [1, 2, 7, 16, 17, 64, 100] {
                let want = Case::batch(&alone, size, size);
                let answer = client.answer(way, &Ask::new(model, want.inputs.clone()).version(version)).await;
                want.check(&answer.outputs, &format!("{model}/{version} {way:?} rows alone against {size} together"));
                let recorded = Case::batch(&rows, size, size);
                recorded.check(&answer.outputs, &format!("{model}/{version} {way:?} {size} rows"));
            }
        }
    }
}

#[tokio::test]
async fn labels_and_policy_choose_the_version() {
    let weir = demo().await;
    let mut client = weir.client();
    let case = &cases(&golden("digits-linear", "1"))[0];
    let ask = Ask::new("digits-linear", case.inputs.clone());
    for way in Way::ALL {
        for (asked, answered) in [("", "2"), ("latest", "2"), ("canary", "2"), ("stable", "1"), ("1", "1"), ("2", "2")]
        {
            let answer = client.answer(way, &ask.clone().version(asked)).await;
            assert_eq!(answer.version, answered, "{way:?} '{asked}'");
        }
    }
    assert_eq!(client.answer(Way::Raw, &ask.version("-1")).await.version, "2");
}

#[tokio::test]
async fn every_fixture_answers_as_onnx_runtime() {
    let folder = fs::read_dir(repository("tests/fixtures")).unwrap();
    let mut names: Vec<String> = folder
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("1/expected.json").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() > 30, "{names:?}");
    let weir = Weir::fixtures(&names.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await;
    let mut client = weir.client();
    let mut wrong = Vec::new();
    for name in &names {
        for case in cases(&format!("{}/1/expected.json", fixture(name))) {
            // Half precision has no typed field and no JSON.
            let half = case.inputs.iter().chain(&case.outputs).any(|array| array.dtype == "FP16");
            for way in Way::ALL.into_iter().filter(|way| !half || matches!(way, Way::Raw | Way::Binary)) {
                let outcome = match client.ask(way, &Ask::new(name, case.inputs.clone())).await {
                    Ok(answer) => agree(&answer.outputs, &case.outputs),
                    Err(failed) => Err(format!("{failed:?}")),
                };
                wrong.extend(outcome.err().map(|why| format!("{name} {way:?}: {why}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
