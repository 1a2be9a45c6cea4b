//! How long it takes until a version serves, against bare tract: read, parse, type, and compile the first plan of the same file,
//! with nothing checked. Row proof, golden answers and load probe are left out, as they are bounded by themselves; they are
//! shown beside it. The run on zeros of a model without golden answers is not left out.
//!
//! `cargo bench --bench load [-- NAME …]` prints a table over demo models, exported ones and large ones that are built here; a name
//! that is a path to an `.onnx` file is measured as well. The two sides take turns, and keep what they have loaded, so that neither
//! is given memory that is in use already; the least of the rounds is shown. The last line has the worst ratio.
//!
//! | column | what it is |
//! |---|---|
//! | `bare ms` | plain tract: the file read, decoded, typed with one row, optimised, made a plan |
//! | `engine` | the same without the file through Weir's engine, with its checks and operators |
//! | `serves` | through the loader, from the files to a version that serves; probe, row proof and golden answers left out |
//! | `ratio` | `serves` to `bare ms` |

#![expect(clippy::expect_used, reason = "a benchmark")]

use std::{
    any::Any,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tract_onnx::{
    pb::tensor_proto::DataType,
    prelude::{Framework as _, InferenceModelExt as _},
    tract_hir::{
        infer::Factoid as _,
        internal::{DimLike as _, IntoRunnable as _, ToDim as _},
    },
};
use weir::{
    engine::{Artifact, ArtifactKind, Engine as _, Limits, TractEngine, loading_thread},
    observe::Metrics,
    registry::{
        Engines, LoadTimes,
        config::ModelConfig,
        loader::{Loaded, Loader, Order},
        servable::Servable,
        source::Place,
    },
    scheduler::{Scheduler, SchedulerOptions},
    types::{Batch, ModelName, ServableId, Version},
};

#[path = "engine/families.rs"]
#[expect(dead_code, reason = "they are not run here")]
mod families;
#[path = "engine/graph.rs"]
mod graph;

use graph::Graph;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Models that bare tract can load.
const MODELS: [&str; 14] = [
    "models/breast-cancer-mlp/1",
    "models/digits-cnn/1",
    "models/digits-orientation/1",
    "tests/exporters/torch-mlp/1",
    "tests/exporters/torch-cnn/1",
    "tests/exporters/torch-resnet/1",
    "tests/exporters/torch-mobile/1",
    "tests/exporters/torch-mobile-dynamo/1",
    "tests/exporters/torch-segments/1",
    "tests/exporters/torch-transformer/1",
    "tests/exporters/torch-transformer-dynamo/1",
    "tests/exporters/torch-text/1",
    "tests/exporters/torch-dlrm/1",
    "tests/exporters/torch-gru/1",
];

/// Those of the engines' benchmark that are measured here, too.
const FAMILIES: [&str; 2] = ["MobileNetV3-small", "trees 200x6 classifier"];

/// Makes a model file.
type Build = fn() -> Vec<u8>;

/// Large ones.
const BUILT: [(&str, Build); 3] = [("resnet-18", resnet), ("encoder", encoder), ("dense", dense)];

/// A residual network of 11 million parameters for 64 by 64 pixels.
fn resnet() -> Vec<u8> {
    let mut g = Graph::new(1);
    g.input("x", DataType::Float, &[3, 64, 64]);
    let mut x = g.conv("x", (3, 64, 3), 1, 1);
    let mut from = 64;
    for to in [64, 128, 256, 512] {
        for block in 0..2 {
            let stride = if block == 0 && to > 64 { 2 } else { 1 };
            let same = if stride == 2 { g.conv(&x, (from, to, 1), stride, 1) } else { x.clone() };
            let y = g.conv(&x, (from, to, 3), stride, 1);
            let y = g.relu(&y);
            let y = g.conv(&y, (to, to, 3), 1, 1);
            let y = g.op("Add", &[&y, &same], Vec::new());
            x = g.relu(&y);
            from = to;
        }
    }
    let x = g.op("GlobalAveragePool", &[&x], Vec::new());
    let x = g.op("Flatten", &[&x], Vec::new());
    let y = g.dense(&x, from, 1000);
    g.output("y", &y, DataType::Float, &[1000]);
    g.encode()
}

/// Six layers of what a transformer does between its attentions, over 32 steps of 384 features.
fn encoder() -> Vec<u8> {
    const SIZE: usize = 384;
    let mut g = Graph::new(2);
    g.input("x", DataType::Float, &[32, SIZE]);
    let mut x = "x".to_owned();
    for _ in 0..6 {
        let query = g.projection(&x, SIZE, SIZE);
        let key = g.projection(&x, SIZE, SIZE);
        let value = g.projection(&x, SIZE, SIZE);
        let turned = g.op("Transpose", &[&key], vec![graph::ints("perm", vec![0, 2, 1])]);
        let product = g.op("MatMul", &[&query, &turned], Vec::new());
        let shares = g.op("Softmax", &[&product], vec![graph::int("axis", -1)]);
        let seen = g.op("MatMul", &[&shares, &value], Vec::new());
        let seen = g.projection(&seen, SIZE, SIZE);
        let sum = g.op("Add", &[&x, &seen], Vec::new());
        let wide = g.projection(&sum, SIZE, 4 * SIZE);
        let wide = g.relu(&wide);
        let narrow = g.projection(&wide, 4 * SIZE, SIZE);
        x = g.op("Add", &[&sum, &narrow], Vec::new());
    }
    g.output("y", &x, DataType::Float, &[32, SIZE]);
    g.encode()
}

/// Dense layers of 16 million parameters.
fn dense() -> Vec<u8> {
    const SIZE: usize = 2048;
    let mut g = Graph::new(3);
    g.input("x", DataType::Float, &[SIZE]);
    let mut x = "x".to_owned();
    for _ in 0..4 {
        x = g.dense(&x, SIZE, SIZE);
        x = g.relu(&x);
    }
    g.output("y", &x, DataType::Float, &[SIZE]);
    g.encode()
}

/// Each side is measured so often, at least,
const ROUNDS: usize = 5;
/// and for as long.
const LEAST: Duration = Duration::from_millis(300);

fn main() {
    // As those of the gateway that load. Both sides are measured there.
    let thread = loading_thread("loads".to_owned(), table).expect("a thread");
    thread.join().expect("no panic");
}

fn table() {
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wanted = |path: &str| named.is_empty() || named.iter().any(|name| path.contains(name.as_str()));
    let mut files: Vec<PathBuf> =
        MODELS.iter().filter(|path| wanted(path)).map(|path| root.join(path).join("model.onnx")).collect();
    let built = tempfile::tempdir().expect("a folder for what is built");
    let models = BUILT.iter().filter(|(name, _)| wanted(name)).map(|(name, build)| ((*name).to_owned(), build()));
    let families = families::families().into_iter().filter(|family| FAMILIES.contains(&family.name.as_str()));
    let families = families.filter(|family| wanted(&family.name)).map(|family| (family.name, family.model));
    for (name, model) in models.chain(families) {
        let folder = built.path().join(name);
        std::fs::create_dir(&folder).expect("a folder in it");
        std::fs::write(folder.join("model.onnx"), model).expect("a file in it");
        files.push(folder.join("model.onnx"));
    }
    files.extend(named.iter().map(PathBuf::from).filter(|path| path.is_file()));
    println!("{:<42} {:>9} {:>9} {:>9} {:>9} {:>6}   stages", "model", "bytes", "bare ms", "engine", "serves", "ratio");
    let scheduler = Scheduler::start(SchedulerOptions { load_budget: Duration::ZERO, ..SchedulerOptions::default() });
    let scheduler = scheduler.expect("threads");
    let mut worst = (0.0, String::new());
    for file in files {
        let folder = file.parent().unwrap_or(&file);
        let short = folder.strip_prefix(root).or_else(|_| folder.strip_prefix(built.path()));
        let name = short.unwrap_or(folder).display().to_string();
        match measure(&file, &scheduler) {
            Ok(row) => {
                let ratio = row.serves.as_secs_f64() / row.bare.as_secs_f64();
                let ms = |took: Duration| took.as_secs_f64() * 1e3;
                let (bare, engine, serves) = (ms(row.bare), ms(row.engine), ms(row.serves));
                let Row { bytes, times, .. } = row;
                println!("{name:<42} {bytes:>9} {bare:>9.2} {engine:>9.2} {serves:>9.2} {ratio:>6.2}   {times}");
                if ratio > worst.0 {
                    worst = (ratio, name);
                }
            }
            Err(why) => println!("{name:<42} skipped: {why}"),
        }
    }
    println!("worst: {:.2} ({})", worst.0, worst.1);
    scheduler.shutdown();
}

struct Row {
    bytes: usize,
    bare: Duration,
    /// Weir's engine: load and first plan.
    engine: Duration,
    /// Weir's loader, from the files to a version that serves, without proof and golden answers.
    serves: Duration,
    /// Of the round that served first.
    times: LoadTimes,
}

fn measure(file: &Path, scheduler: &Arc<Scheduler>) -> Result<Row, String> {
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    let onnx = tract_onnx::onnx();
    let engine = TractEngine::new();
    let loader = Loader {
        engines: Engines::new(Arc::new(engine.clone())),
        scheduler: Arc::clone(scheduler),
        metrics: Metrics::new(),
        max_bytes: 1 << 32,
    };
    let mut row = Row {
        bytes: bytes.len(),
        bare: Duration::MAX,
        engine: Duration::MAX,
        serves: Duration::MAX,
        times: LoadTimes::default(),
    };
    let artifact = Artifact { kind: ArtifactKind::Onnx, bytes: bytes.into(), side_files: BTreeMap::new() };
    let mut kept: Vec<Box<dyn Any>> = Vec::new();
    let begun = Instant::now();
    let mut rounds = 0;
    while rounds < ROUNDS || begun.elapsed() < LEAST {
        rounds += 1;
        let (bare, plan) = bare(&onnx, file).map_err(|error| format!("bare tract: {error:#}"))?;
        let (engine, loaded) = weir(&engine, &artifact)?;
        let served = serve(&loader, file)?;
        let times = served.load_times;
        row.bare = row.bare.min(bare);
        row.engine = row.engine.min(engine);
        let serves = times.total() - times.proof - times.golden - times.probe;
        if serves < row.serves {
            (row.serves, row.times) = (serves, times);
        }
        kept.extend([plan, loaded, Box::new(served) as Box<dyn Any>]);
    }
    Ok(row)
}

/// What tract needs for a plan of one row: unknown dimensions become 1, nothing else is looked at.
fn bare(onnx: &tract_onnx::Onnx, file: &Path) -> tract_onnx::prelude::TractResult<(Duration, Box<dyn Any>)> {
    let begun = Instant::now();
    let bytes = std::fs::read(file)?;
    let mut model = onnx.model_for_read(&mut &bytes[..])?;
    for input in 0..model.inputs.len() {
        let mut fact = model.input_fact(input)?.clone();
        let sizes: Vec<_> = fact.shape.dims().map(|dim| dim.concretize().and_then(|dim| dim.to_usize().ok())).collect();
        for axis in (0..sizes.len()).filter(|axis| sizes[*axis].is_none()) {
            fact.shape.set_dim(axis, 1.to_dim());
        }
        model.set_input_fact(input, fact)?;
    }
    let plan = model.into_typed()?.into_decluttered()?.into_optimized()?.into_runnable()?;
    let took = begun.elapsed();
    Ok((took, Box::new(plan)))
}

fn weir(engine: &TractEngine, artifact: &Artifact) -> Result<(Duration, Box<dyn Any>), String> {
    let begun = Instant::now();
    let model = engine.load(artifact, &Limits { max_output_bytes: 1 << 30 }).map_err(|error| error.to_string())?;
    let rows = (model.signature().batch == Batch::Rows).then_some(1);
    let plan = model.plan(rows).map_err(|error| error.to_string())?;
    let took = begun.elapsed();
    Ok((took, Box::new((model, plan))))
}

fn serve(loader: &Loader, file: &Path) -> Result<Servable, String> {
    let mut config = ModelConfig::default();
    let mut spec = (*config.spec).clone();
    spec.model_filename = file.file_name().and_then(|name| name.to_str()).ok_or("no name")?.into();
    config.spec = Arc::new(spec);
    let order = Order {
        id: ServableId { model: ModelName::parse("m").map_err(|error| error.to_string())?, version: Version::ONE },
        folder: file.parent().ok_or("no folder")?.to_owned(),
        place: Place::Bare,
        config: Arc::new(config),
        known: None,
    };
    match loader.load(&order).map_err(|error| error.to_string())? {
        Loaded::New(servable, _) => Ok(*servable),
        Loaded::Same => Err("nothing was loaded before".to_owned()),
    }
}
