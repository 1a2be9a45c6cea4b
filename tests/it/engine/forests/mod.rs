//! Hundreds of random forests in every spelling. The embedded engine answers what somebody gets who follows the trees from the
//! root, and what ONNX Runtime answers; without the library the second half is skipped, with a line that says so.

use grown::{Shape, Tree, aggregated, model, newer, table, transformed};
use older::older;

use super::{mutants::random::Random, *};
use weir::engine::Engine;

mod grown;
mod older;

/// The forests of each test.
const FORESTS: u64 = 200;

/// The answers of an engine to one request.
fn answers(engine: &dyn Engine, file: &Artifact, rows: &Tensor) -> Vec<Tensor> {
    let model = engine.load(file, &LIMITS).unwrap();
    assert_eq!(model.signature().batch, Batch::Rows);
    let mut session = model.plan(Some(rows.shape()[0])).unwrap().session().unwrap();
    run(&mut *session, std::slice::from_ref(rows), model.signature().outputs.len()).unwrap()
}

fn ours(file: &Artifact, rows: &Tensor) -> Vec<Tensor> {
    answers(&TractEngine::new(), file, rows)
}

/// Fails where an answer is not what it should be.
fn check(got: &Tensor, want: &[f64], what: &str) {
    let (tolerance, got) = (Tolerance::of(got.dtype()), floats(got));
    assert_eq!(got.len(), want.len(), "{what}");
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(tolerance.accepts(*got, *want), "{what}: element {at}: want {want}, got {got}");
    }
}

/// What a TreeEnsemble should answer, by the standard.
fn ensemble_answers(trees: &[Tree], rows: &[Vec<f64>], targets: usize, (aggregate, post): (usize, usize)) -> Vec<f64> {
    let answer = |row: &Vec<f64>| {
        let values: Vec<_> =
            aggregated(trees, row, targets, aggregate).into_iter().map(Option::unwrap_or_default).collect();
        // A single value is left as it is.
        if targets == 1 { values } else { transformed(&values, post) }
    };
    rows.iter().flat_map(answer).collect()
}

/// All precisions, aggregates, transforms but the probit, modes and sets, missing values.
#[test]
fn tree_ensembles_answer_what_following_them_gives() {
    for seed in 0..FORESTS {
        let mut random = Random::new(seed);
        let dtype = [DType::Fp32, DType::Fp64, DType::Fp16][seed as usize % 3];
        let (features, targets) = (random.pick(&[1, 3, 300]), random.pick(&[1, 2, 5]));
        let shape = Shape { features, targets, newer: true, small_sets: false, dtype };
        let (trees, rows) = (shape.forest(&mut random), shape.rows(&mut random));
        let how = (random.below(4), random.below(4));
        let file = model(newer(&trees, shape, how), (dtype, features), &[("y", dtype, targets)]);
        let got = ours(&file, &table(dtype, &rows));
        assert_eq!((got[0].dtype(), got[0].shape()), (dtype, &[rows.len(), targets][..]));
        check(&got[0], &ensemble_answers(&trees, &rows, targets, how), &format!("forest {seed} of {dtype}, {how:?}"));
    }
}

/// Regressors with base values, and classifiers of three classes and more with labels that are numbers or texts; lists of
/// floats, or tensors of doubles.
#[test]
fn older_spellings_answer_what_following_them_gives() {
    for seed in 0..FORESTS {
        let mut random = Random::new(seed + 10_000);
        let dtype = [DType::Fp32, DType::Fp64][seed as usize % 2];
        let (features, targets) = (random.pick(&[1, 3]), random.pick(&[3, 4]));
        let shape = Shape { features, targets, newer: false, small_sets: false, dtype };
        let (trees, rows) = (shape.forest(&mut random), shape.rows(&mut random));
        let base: Vec<f64> = (0..targets).map(|at| at as f64 / 8.0).collect();
        let what = format!("forest {seed} of {dtype}");
        let table = table(dtype, &rows);
        let (aggregate, post) = (random.below(4), random.below(4));

        let mut attributes = older(&trees, dtype, "target");
        attributes.extend(older::named(aggregate, post));
        attributes.extend([older::numbers("base_values", dtype, &base), crate::onnx::int("n_targets", targets as i64)]);
        let node = grown::ml_node("TreeEnsembleRegressor", &["y"], attributes);
        let got = ours(&model(node, (dtype, features), &[("y", DType::Fp32, targets)]), &table);
        let sums = |row: &Vec<f64>, aggregate| {
            let values = aggregated(&trees, row, targets, aggregate).into_iter().zip(&base);
            values.map(|(value, base)| value.map(|value| value + base)).collect::<Vec<_>>()
        };
        let plain = |sums: Vec<Option<f64>>| sums.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
        let want: Vec<f64> = rows.iter().flat_map(|row| transformed(&plain(sums(row, aggregate)), post)).collect();
        check(&got[0], &want, &format!("{what}: regressor, {aggregate}, {post}"));

        let texts = random.one_in(2);
        let names: Vec<String> = (0..targets).map(|class| format!("class {class}")).collect();
        let mut attributes = older(&trees, dtype, "class");
        attributes.push(if texts {
            grown::texts("classlabels_strings", &names)
        } else {
            crate::onnx::ints("classlabels_int64s", &(0..targets as i64).map(|class| 7 - 3 * class).collect::<Vec<_>>())
        });
        attributes.push(older::post_named(post));
        let node = grown::ml_node("TreeEnsembleClassifier", &["label", "scores"], attributes);
        let label = if texts { DType::Bytes } else { DType::Int64 };
        let outputs = [("label", label, 0), ("scores", DType::Fp32, targets)];
        let got = ours(&model(node, (dtype, features), &outputs), &table);
        let sums: Vec<Vec<Option<f64>>> = rows.iter().map(|row| aggregated(&trees, row, targets, 1)).collect();
        let want: Vec<f64> = sums.iter().flat_map(|sums| transformed(&plain(sums.clone()), post)).collect();
        check(&got[1], &want, &format!("{what}: classifier, {post}"));
        for (row, sums) in sums.iter().enumerate() {
            // The first class of the highest score wins, of those that got any.
            let mut best = 0;
            for class in 1..targets {
                if sums[class] > sums[best] && sums[class].is_some() {
                    best = class;
                }
            }
            let level = sums.iter().flatten().filter(|sum| (**sum - sums[best].unwrap_or(0.0)).abs() < 1e-5).count();
            let got = match got[0].data() {
                Data::Strings(items) => items[row].clone(),
                Data::Plain(_) => {
                    let label = i64::from_le_bytes(got[0].bytes()[row * 8..][..8].try_into().unwrap());
                    format!("class {}", (7 - label) / 3).into()
                }
            };
            assert!(level > 1 || got == names[best], "{what}: row {row}: want {}, got {got:?}: {sums:?}", names[best]);
        }
    }
}

/// The standard numbers SOFTMAX 1 and LOGISTIC 2. ONNX Runtime reads these two the other way round, which docs/engines.md tells.
#[test]
fn two_transforms_have_the_numbers_of_the_standard() {
    let shape = Shape { features: 2, targets: 3, newer: true, small_sets: true, dtype: DType::Fp32 };
    let mut random = Random::new(3);
    let (trees, rows) = (shape.forest(&mut random), shape.rows(&mut random));
    let file = |post| model(newer(&trees, shape, (1, post)), (shape.dtype, 2), &[("y", shape.dtype, 3)]);
    let table = table(shape.dtype, &rows);
    for (post, other) in [(1, 2), (2, 1)] {
        let want = |post| ensemble_answers(&trees, &rows, 3, (1, post));
        check(&ours(&file(post), &table)[0], &want(post), grown::POSTS[post]);
        #[cfg(feature = "onnxruntime")]
        if let Some(opened) = onnxruntime::opened() {
            let what = format!("ONNX Runtime no longer reads {} as {}", grown::POSTS[post], grown::POSTS[other]);
            check(&answers(&*opened.engine, &file(post), &table)[0], &want(other), &what);
        }
        let _ = other;
    }
}

/// A TreeEnsemble whose transform ONNX Runtime reads as another one, and golden answers by the standard.
pub(crate) fn misread() -> (Bytes, String) {
    let shape = Shape { features: 2, targets: 3, newer: true, small_sets: true, dtype: DType::Fp32 };
    let trees = shape.forest(&mut Random::new(3));
    let rows = [vec![0.5, -0.5], vec![1.0, 0.0], vec![-1.5, 2.0]];
    let file = model(newer(&trees, shape, (1, 1)), (shape.dtype, 2), &[("y", shape.dtype, 3)]);
    let tensor = |name: &str, width: usize, data: Vec<f64>| serde_json::json!({ "name": name, "datatype": "FP32", "shape": [rows.len(), width], "data": data });
    let answers = ensemble_answers(&trees, &rows, 3, (1, 1));
    let case = serde_json::json!({ "inputs": [tensor("x", 2, rows.concat())], "outputs": [tensor("y", 3, answers)] });
    (file.bytes, serde_json::json!({ "cases": [case] }).to_string())
}

/// What is done to a node.
type Change = dyn Fn(&mut tract_onnx::pb::NodeProto);

#[test]
fn what_is_no_forest_is_refused() {
    let shape = Shape { features: 2, targets: 2, newer: true, small_sets: false, dtype: DType::Fp64 };
    let trees = shape.forest(&mut Random::new(5));
    let refused = |dtype, change: &Change| {
        let mut node = newer(&trees, shape, (1, 0));
        change(&mut node);
        let file = model(node, (dtype, 2), &[("y", dtype, 2)]);
        TractEngine::new().load(&file, &LIMITS).err().map_or_else(String::new, |error| error.to_string())
    };
    let with = |name: &'static str, attribute: tract_onnx::pb::AttributeProto| {
        move |node: &mut tract_onnx::pb::NodeProto| {
            node.attribute.retain(|attribute| attribute.name != name);
            node.attribute.push(attribute.clone());
        }
    };
    assert_eq!(refused(DType::Fp64, &|_| ()), "");
    let one = |name| crate::onnx::int(name, 9);
    let cases: [(DType, Box<Change>, &str); 5] = [
        (DType::Fp32, Box::new(|_| ()), "expected an input of type F64, as the weights have, got F32"),
        (
            DType::Fp64,
            Box::new(with("post_transform", one("post_transform"))),
            "attribute 'post_transform': there is no 9",
        ),
        (
            DType::Fp64,
            Box::new(with("aggregate_function", one("aggregate_function"))),
            "attribute 'aggregate_function': there is no 9",
        ),
        (
            DType::Fp64,
            Box::new(with("tree_roots", crate::onnx::ints("tree_roots", &[99_999]))),
            "there is no such node",
        ),
        (
            DType::Fp64,
            Box::new(|node| node.attribute.retain(|attribute| attribute.name != "leaf_weights")),
            "attribute 'leaf_weights': is missing",
        ),
    ];
    for (dtype, change, want) in cases {
        let text = refused(dtype, &change);
        assert!(text.contains(want) && text.contains("TreeEnsemble"), "want {want}, got {text}");
    }
}

/// Every spelling with every number of targets and classes, base values, transforms and types of rows.
#[cfg(feature = "onnxruntime")]
#[test]
fn random_forests_agree_with_onnx_runtime() {
    let Some(opened) = onnxruntime::opened() else { return };
    let mut problems = Vec::new();
    for seed in 0..2 * FORESTS {
        let (file, rows, what) = any_forest(seed);
        let (got, want) = (ours(&file, &rows), answers(&*opened.engine, &file, &rows));
        for (number, (got, want)) in got.iter().zip(&want).enumerate() {
            let differs = (got.dtype(), got.shape()) != (want.dtype(), want.shape());
            // ONNX Runtime transforms in single precision, and of a probit near 1/2 little of that is left.
            let off = match what.contains("PROBIT") {
                true => 2e-3,
                false => 1e-6,
            };
            let near =
                |(got, want): (f64, f64)| got == want || (got - want).abs() < off || (got.is_nan() && want.is_nan());
            let same = match got.dtype().is_float() && !what.contains("NONE") {
                true => floats(got).into_iter().zip(floats(want)).all(near),
                false => Tolerance::first_difference(got, want).is_none(),
            };
            if differs || !same {
                problems.push(format!("forest {seed}, {what}, output {number}:\n  want {want:?}\n  got  {got:?}"));
            }
        }
    }
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), 2 * FORESTS, problems.join("\n"));
}

/// A model, a request, and what it is in words.
#[cfg(feature = "onnxruntime")]
fn any_forest(seed: u64) -> (Artifact, Tensor, String) {
    let mut random = Random::new(seed + 20_000);
    let dtype = random.pick(&[DType::Fp32, DType::Fp64]);
    let features = random.pick(&[1, 3, 40]);
    let (aggregate, mut post) = (random.below(4), random.below(5));
    let operator = ["TreeEnsemble", "TreeEnsembleRegressor", "TreeEnsembleClassifier"][seed as usize % 3];
    let targets = random.pick(&[1, 2, 3, 5]);
    let newer_one = operator == "TreeEnsemble";
    if newer_one && targets > 1 && [1, 2].contains(&post) {
        post = 0;
    }
    // Of two classes ONNX Runtime leaves the second score as it finds it.
    if operator == "TreeEnsembleClassifier" && targets == 2 && post == 4 {
        post = 2;
    }
    let shape = Shape { features, targets, newer: newer_one, small_sets: true, dtype };
    let (trees, rows) = (shape.forest(&mut random), shape.rows(&mut random));
    let what = format!("{operator} of {dtype}, {targets} targets, {}, {aggregate}", grown::POSTS[post]);
    let input = (dtype, features);
    let file = match operator {
        "TreeEnsemble" => model(newer(&trees, shape, (aggregate, post)), input, &[("y", dtype, targets)]),
        "TreeEnsembleRegressor" => {
            let mut attributes = older(&trees, dtype, "target");
            attributes.extend(older::named(aggregate, post));
            attributes.push(crate::onnx::int("n_targets", targets as i64));
            if random.one_in(2) {
                let base: Vec<f64> = (0..targets).map(|at| at as f64 / 4.0 - 0.5).collect();
                attributes.push(older::numbers("base_values", dtype, &base));
            }
            model(grown::ml_node(operator, &["y"], attributes), input, &[("y", DType::Fp32, targets)])
        }
        _ => {
            let mut attributes = older(&trees, dtype, "class");
            attributes.push(older::post_named(post));
            let texts = targets > 1 && random.one_in(3);
            let names: Vec<String> = (0..targets).map(|class| format!("class {class}")).collect();
            attributes.push(if texts {
                grown::texts("classlabels_strings", &names)
            } else {
                crate::onnx::ints("classlabels_int64s", &(0..targets as i64).collect::<Vec<_>>())
            });
            let bases = random.pick(&[0, targets]);
            if bases > 0 {
                let base: Vec<f64> = (0..bases).map(|at| at as f64 / 4.0 - 0.3).collect();
                attributes.push(older::numbers("base_values", dtype, &base));
            }
            let label = if texts { DType::Bytes } else { DType::Int64 };
            let outputs = [("label", label, 0), ("scores", DType::Fp32, targets)];
            model(grown::ml_node(operator, &["label", "scores"], attributes), input, &outputs)
        }
    };
    (file, table(dtype, &rows), what)
}
