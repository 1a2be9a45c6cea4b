//! The choice between two engines, on models that are Rust functions: which is kept, why, and what is told about it.

use std::{collections::BTreeMap, thread};

use bytes::Bytes;

use super::*;
use crate::{
    engine::{Artifact, ArtifactKind, EngineError, Limits, Model, function::FunctionModel},
    registry::{config::ModelConfig, loader::Order, source::Place},
    types::{Batch, BatchingSpec, DType, ModelName, ModelSpec, ServableId, Signature, TensorSpec, Version},
};

type Answer = fn(&[f32], usize) -> Result<Vec<f32>, EngineError>;

/// An engine for which every file is one function of `x` [N,2] to `y` [N,2].
struct Functions {
    name: &'static str,
    load: fn() -> Result<(), LoadError>,
    answer: Answer,
    batch: Batch,
    /// `y`, and perhaps `z`, which is the same.
    outputs: usize,
}

impl Engine for Functions {
    fn name(&self) -> &'static str {
        self.name
    }

    fn load(&self, _: &Artifact, _: &Limits) -> Result<Box<dyn Model>, LoadError> {
        (self.load)()?;
        let shape = vec![if self.batch == Batch::Rows { None } else { Some(1) }, Some(2)];
        let spec = |name: &str| TensorSpec { name: name.into(), dtype: DType::Fp32, shape: shape.clone() };
        let signature = Signature {
            inputs: vec![spec("x")],
            outputs: ["y", "z"].into_iter().take(self.outputs).map(spec).collect(),
            batch: self.batch,
        };
        let (answer, outputs) = (self.answer, self.outputs);
        let model = FunctionModel::new(signature, move |inputs, rows| Ok(vec![answer(&inputs[0], rows)?; outputs]));
        Ok(Box::new(model))
    }
}

fn twice(x: &[f32], _: usize) -> Result<Vec<f32>, EngineError> {
    Ok(x.iter().map(|x| 2.0 * x).collect())
}

/// Far beyond what a function that does nothing takes on a machine that has other things to do.
const SLOW: Duration = Duration::from_millis(30);

fn slowly(x: &[f32], rows: usize) -> Result<Vec<f32>, EngineError> {
    thread::sleep(SLOW);
    twice(x, rows)
}

fn fails(_: &[f32], _: usize) -> Result<Vec<f32>, EngineError> {
    Err(EngineError::new("index out of range"))
}

/// Off by a little more than is allowed.
fn nearly_twice(x: &[f32], _: usize) -> Result<Vec<f32>, EngineError> {
    Ok(x.iter().map(|x| 2.0 * x + if *x > 0.0 { 4e-4 } else { 0.0 }).collect())
}

/// Right for positive numbers only.
fn half_right(x: &[f32], _: usize) -> Result<Vec<f32>, EngineError> {
    Ok(x.iter().map(|x| if *x >= 0.0 { 2.0 * x } else { 7.0 }).collect())
}

fn engine(name: &'static str, answer: Answer) -> Functions {
    Functions { name, load: || Ok(()), answer, batch: Batch::Rows, outputs: 1 }
}

fn refusing(name: &'static str) -> Functions {
    Functions { load: || Err(LoadError::new("model: operator 'Loop' is not supported")), ..engine(name, twice) }
}

fn chosen(ours: Functions, theirs: Functions, spec: ModelSpec, golden: Option<&str>) -> Result<Selection, String> {
    load(&both(ours, theirs), spec, golden)
}

/// Both engines, and time enough for every size.
fn both(ours: Functions, theirs: Functions) -> Engines {
    let engines = Engines::new(Arc::new(ours)).with_onnxruntime(Arc::new(theirs));
    engines.with_budget(Duration::from_secs(3600))
}

fn load(engines: &Engines, spec: ModelSpec, golden: Option<&str>) -> Result<Selection, String> {
    let order = Order {
        id: ServableId { model: ModelName::parse("m").unwrap(), version: Version::new(1).unwrap() },
        folder: "/nowhere".into(),
        place: Place::Folder,
        config: Arc::new(ModelConfig { spec: Arc::new(spec), ..ModelConfig::default() }),
        known: None,
    };
    let artifact = Artifact { kind: ArtifactKind::Onnx, bytes: Bytes::new(), side_files: BTreeMap::new() };
    let goods = Goods { order: &order, artifact: &artifact, golden, probe: None };
    let (candidate, selection) = engines.load(&goods).map_err(|error| error.to_string())?;
    assert_eq!(candidate.engine, selection.kept);
    Ok(selection)
}

fn auto(ours: Functions, theirs: Functions) -> Selection {
    chosen(ours, theirs, ModelSpec::default(), None).unwrap()
}

/// What is known of each engine: name, reason, timed sizes.
fn tried(selection: &Selection) -> Vec<(&'static str, Option<&str>, Vec<usize>)> {
    let sizes = |tried: &Tried| tried.costs.iter().map(|(rows, _)| *rows).collect();
    selection.tried.iter().map(|tried| (tried.engine, tried.refused.as_deref(), sizes(tried))).collect()
}

#[test]
fn the_faster_engine_is_kept() {
    let theirs = auto(engine("tract", slowly), engine("onnxruntime", twice));
    assert_eq!(theirs.kept, "onnxruntime");
    assert!(theirs.why.starts_with("it is ") && theirs.why.ends_with(" times as fast"), "{}", theirs.why);
    let all = vec![1, 8, 32];
    assert_eq!(tried(&theirs), [("tract", None, all.clone()), ("onnxruntime", None, all)]);
    let ours = auto(engine("tract", twice), engine("onnxruntime", slowly));
    assert_eq!(ours.kept, "tract");
    assert!(ours.why.starts_with("onnxruntime is 0."), "{}", ours.why);
    assert_eq!(ours.disagreement, None);
    let text = ours.tried[1].to_string();
    assert!(text.starts_with("onnxruntime: 1 row ") && text.contains(" us, 8 rows "), "{text}");
}

#[test]
fn figures_decide() {
    let us = Duration::from_micros;
    let costs = |figures: &[(usize, u64, u64)]| -> Costs {
        figures.iter().map(|(rows, ours, theirs)| (*rows, [us(*ours), us(*theirs)])).collect()
    };
    let decided = |figures: &[(usize, u64, u64)]| verdict(&costs(figures), "onnxruntime");
    assert_eq!(decided(&[(1, 10, 5), (8, 80, 40)]), (true, "it is 2.00 times as fast".to_owned()));
    assert_eq!(decided(&[(1, 100, 98)]), (false, "onnxruntime is 1.02 times as fast".to_owned()), "within the noise");
    assert_eq!(decided(&[(1, 10, 20), (8, 40, 20)]), (false, "onnxruntime is 1.00 times as fast".to_owned()));
    // Eight rows are run as eight times one where that is faster.
    assert_eq!(decided(&[(1, 10, 10), (8, 800, 80)]), (false, "onnxruntime is 1.00 times as fast".to_owned()));
    assert_eq!(decided(&[]), (false, "nothing could be timed".to_owned()));
}

#[test]
fn only_sizes_that_may_be_used_are_timed() {
    let sizes = |limit| {
        let batching = BatchingSpec { max_batch_size: limit, ..BatchingSpec::default() };
        let spec = ModelSpec { batching, ..ModelSpec::default() };
        let selection = chosen(engine("tract", twice), engine("onnxruntime", twice), spec, None).unwrap();
        tried(&selection)[0].2.clone()
    };
    assert_eq!(sizes(BatchLimit::Rows(8)), [1, 8]);
    assert_eq!(sizes(BatchLimit::Whole), [1]);
    let one = |name| Functions { batch: Batch::None, ..engine(name, twice) };
    assert_eq!(tried(&auto(one("tract"), one("onnxruntime")))[1].2, [1]);
}

#[test]
fn dear_sizes_are_left_out_when_there_is_no_time() {
    let ours = Arc::new(engine("tract", slowly));
    let engines = Engines::new(ours).with_onnxruntime(Arc::new(engine("onnxruntime", twice)));
    let selection = load(&engines.with_budget(Duration::ZERO), ModelSpec::default(), None).unwrap();
    assert_eq!(tried(&selection)[0].2, [1]);
    assert_eq!(selection.kept, "onnxruntime", "one size is timed in any case");
}

/// How often each engine is run, and what it counts for, with so many milliseconds left and runs that take so long in turn.
fn in_turn(left: u64, first: [u64; 2], runs: &[u64]) -> ([u64; 2], [u64; 2]) {
    let ms = Duration::from_millis;
    let (clock, mut runs, mut counts) = (std::cell::Cell::new(ms(left)), runs.iter().cycle(), [0; 2]);
    let run = |which: usize| {
        let took = ms(*runs.next().unwrap());
        clock.set(clock.get().saturating_sub(took));
        counts[which] += 1;
        Ok::<_, ()>(took)
    };
    let best = trial::in_turn(first.map(ms), &|| clock.get(), run).unwrap();
    (counts, best.map(|best| u64::try_from(best.as_millis()).unwrap()))
}

#[test]
fn no_run_is_begun_that_does_not_end_in_time() {
    assert_eq!(in_turn(0, [7, 3], &[1]), ([0, 0], [7, 3]), "nothing but the first runs");
    assert_eq!(in_turn(9, [7, 3], &[7]), ([1, 0], [7, 3]), "half a round does not count");
    assert_eq!(in_turn(10, [9, 4], &[6, 2]), ([1, 1], [6, 2]), "what has been seen once is expected again");
    assert_eq!(in_turn(100, [7, 3], &[6, 3, 6, 90]), ([2, 2], [6, 3]), "a run that is slow for once is the last");
    assert_eq!(in_turn(1000, [7, 3], &[7, 3]), ([3, 3], [7, 3]), "enough for figures");
    assert_eq!(in_turn(1000, [0, 0], &[0]), ([50, 50], [0, 0]));
}

#[test]
fn ratios_are_told_by_size() {
    let us = Duration::from_micros;
    let tried = |engine, costs: &[(usize, Duration)]| Tried {
        engine,
        took: Duration::ZERO,
        refused: None,
        costs: costs.to_vec(),
    };
    let ours = tried("tract", &[(1, us(36)), (8, us(204))]);
    let selection = |theirs| Selection { tried: vec![ours.clone(), theirs], ..Selection::default() };
    let ratios = selection(tried("onnxruntime", &[(1, us(9)), (8, us(408))])).ratios();
    assert_eq!(ratios.as_deref(), Some("onnxruntime: 1 row 4.00, 8 rows 0.50"));
    assert_eq!(selection(tried("onnxruntime", &[])).ratios(), None);
}

#[test]
fn where_engines_disagree_onnx_runtime_is_the_reference() {
    let selection = auto(engine("tract", half_right), engine("onnxruntime", slowly));
    let why = "the engines disagree, and onnxruntime is the reference";
    assert_eq!((selection.kept, &*selection.why), ("onnxruntime", why));
    let text = selection.disagreement.clone().unwrap();
    let refused = format!("its answers differ from those of onnxruntime: {text}");
    assert_eq!(tried(&selection), [("tract", Some(&*refused), vec![]), ("onnxruntime", None, vec![])]);
    assert!(text.starts_with("output 'y', row ") && text.contains(": tract says 7, onnxruntime says -"), "{text}");
    let whole = Functions { batch: Batch::None, ..engine("onnxruntime", twice) };
    let selection = auto(engine("tract", twice), whole);
    let text = "dimension 0 is a batch for one, is not for the other";
    assert_eq!((selection.kept, selection.disagreement.as_deref()), ("onnxruntime", Some(text)));
}

#[test]
fn golden_rows_are_what_counts_where_there_are_some() {
    let golden = |x: &str, y: &str| {
        let tensor = |name, data| format!(r#"[{{"name":"{name}","shape":[2,2],"datatype":"FP32","data":{data}}}]"#);
        format!(r#"{{"cases":[{{"inputs":{},"outputs":{}}}]}}"#, tensor("x", x), tensor("y", y))
    };
    let choose = |golden: &str| {
        chosen(engine("tract", slowly), engine("onnxruntime", half_right), ModelSpec::default(), Some(golden)).unwrap()
    };
    assert_eq!(choose(&golden("[1, 2, 3, 4]", "[2, 4, 6, 8]")).kept, "onnxruntime");
    let selection = choose(&golden("[1, 2, 3, -4]", "[2, 4, 6, -8]"));
    let refused = "golden.json: case 0, output 'y', element 3: expected -8, got 7";
    assert_eq!(tried(&selection)[1].1, Some(refused));
    assert_eq!((selection.kept, &*selection.why), ("tract", "no other can serve it"));
}

#[test]
fn what_is_golden_is_not_compared_again() {
    let two = |answer: Answer, name| Functions { outputs: 2, ..engine(name, answer) };
    let tensor =
        |name: &str, data: &str| format!(r#"{{"name":"{name}","shape":[1,2],"datatype":"FP32","data":{data}}}"#);
    let golden =
        |outputs: String| format!(r#"{{"cases":[{{"inputs":[{}],"outputs":[{outputs}]}}]}}"#, tensor("x", "[1, -2]"));
    let choose = |golden: String| {
        let engines = both(two(twice, "tract"), two(nearly_twice, "onnxruntime"));
        load(&engines, ModelSpec::default(), Some(&golden)).unwrap()
    };
    // Each is near enough to the golden answers, if not to each other.
    let (y, z) = (tensor("y", "[2.0002, -4]"), tensor("z", "[2.0002, -4]"));
    assert_eq!(choose(golden(format!("{y},{z}"))).disagreement, None);
    let open = choose(golden(y)).disagreement.unwrap();
    assert!(open.starts_with("output 'z', row 0, element 0: tract says 2, "), "{open}");
}

#[test]
fn an_engine_that_cannot_leaves_it_to_the_other() {
    let selection = auto(refusing("tract"), engine("onnxruntime", twice));
    assert_eq!((selection.kept, &*selection.why), ("onnxruntime", "no other can serve it"));
    let refused = "model.onnx: operator 'Loop' is not supported";
    assert_eq!(tried(&selection), [("tract", Some(refused), vec![]), ("onnxruntime", None, vec![])]);
    assert_eq!(selection.tried[0].to_string(), format!("tract: refused: {refused}"));
    let panics = Functions { load: || panic!("here"), ..engine("onnxruntime", twice) };
    let selection = auto(engine("tract", slowly), panics);
    assert_eq!(tried(&selection)[1].1, Some("loading panicked; the log says where"));
    let selection = auto(engine("tract", fails), engine("onnxruntime", twice));
    assert_eq!((selection.kept, tried(&selection)[0].1), ("onnxruntime", Some("run: index out of range")));
    let selection = auto(engine("tract", slowly), engine("onnxruntime", fails));
    assert_eq!((selection.kept, tried(&selection)[1].1), ("tract", Some("run: index out of range")));
    let both = chosen(refusing("tract"), refusing("onnxruntime"), ModelSpec::default(), None);
    assert_eq!(both.unwrap_err(), refused, "the same is not said twice");
    let other = Functions { load: || Err(LoadError::new("graph: no")), ..engine("onnxruntime", twice) };
    let both = chosen(refusing("tract"), other, ModelSpec::default(), None).unwrap_err();
    assert_eq!(both, format!("{refused}; onnxruntime: model.onnx: graph: no"));
}

#[test]
fn what_cannot_be_compared_stays_where_it_was() {
    let selection = auto(engine("tract", fails), engine("onnxruntime", fails));
    let why = "the engines were not compared: what was tried cannot be run: run: index out of range";
    assert_eq!((selection.kept, &*selection.why), ("tract", why));
}

#[test]
fn the_configuration_is_obeyed() {
    let asks = |choice| ModelSpec { engine: choice, ..ModelSpec::default() };
    let one = |choice| chosen(engine("tract", slowly), engine("onnxruntime", slowly), asks(choice), None).unwrap();
    for (choice, name) in [(EngineChoice::Tract, "tract"), (EngineChoice::OnnxRuntime, "onnxruntime")] {
        let selection = one(choice);
        assert_eq!((selection.kept, &*selection.why), (name, "the configuration says so"));
        assert_eq!(tried(&selection), [(name, None, vec![])]);
    }
    let alone = Engines::new(Arc::new(engine("tract", twice)));
    assert_eq!(&*load(&alone, ModelSpec::default(), None).unwrap().why, "there is no other");
    let absent = load(&alone, asks(EngineChoice::OnnxRuntime), None).unwrap_err();
    assert_eq!(absent, "model.toml: engine: onnxruntime is not in this build");
    let elsewhere = alone.without_onnxruntime("onnxruntime: no library was found");
    let absent = load(&elsewhere, asks(EngineChoice::OnnxRuntime), None).unwrap_err();
    assert_eq!(absent, "model.toml: engine: onnxruntime: no library was found");
}
