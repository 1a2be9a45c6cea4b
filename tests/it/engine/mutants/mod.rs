//! Thousands of models that are wrong somewhere: none may end the process that loads it, make it panic, or keep it busy for
//! ever. Each is made from a seed and a model of this repository (`mutate`), loaded on the path that a gateway takes, and asked
//! for an answer, in child processes with 6 GiB of address space, so that a death names its seed.
//!
//! Where the library of the second engine is, some are tried once more by both engines, as with `engine = "auto"`, and must then get
//! the same answer from both.
//!
//! `WEIR_MUTANTS` is how many there are (500 by default), `WEIR_MUTANTS_OF_BOTH` how many of them both engines try,
//! `WEIR_MUTANTS_FROM` the first seed. With `WEIR_MUTANTS_OUT` naming a
//! folder, every mutant that answers is written there with its inputs and outputs; `tests/mutants/compare.py` asks ONNX Runtime
//! the same. `tests/mutants/README.md` has the commands.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, setrlimit};
use weir::{
    observe::Metrics,
    registry::{
        Engines,
        config::ModelConfig,
        loader::{Loaded, Loader, Order},
        source::Place,
    },
    scheduler::{Scheduler, SchedulerOptions},
    types::{ModelName, ServableId, Version},
};

use super::*;
use random::Random;

mod mutate;
pub(super) mod random;
mod values;

/// Address space of a child in bytes.
const MEMORY: u64 = 6 << 30;
/// How many mutants there are unless the environment says otherwise.
const COUNT: u64 = 500;
/// How many of them both engines try.
#[cfg(feature = "onnxruntime")]
const COUNT_OF_BOTH: u64 = 200;
/// Mutants whose answers are known to differ, by seed and source, and why; all others must get the same answer from both engines.
const DIFFERENT: [(u64, &str, &str); 3] = [
    (238, "tests/operators/quantize-by-input-uint8/1", "a float is cast to an integer that cannot be it"),
    (572, "tests/exporters/svc-linear/1", "margins below zero are cast to UINT8"),
    (596, "tests/operators/tree-ensemble-01/1", "onnxruntime reads the number of the transform the other way round"),
];
/// Mutants that one child tries.
const BATCH: u64 = 250;
/// A mutant that takes longer hangs; far more than any takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Elements that an input may have.
const MAX_ELEMENTS: usize = 1 << 20;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

/// The models that mutants are made of, by where they are: (name, folder).
type Sources = [Vec<(String, PathBuf)>; 4];

fn sources() -> Sources {
    let sources = ["models", "tests/exporters", "tests/operators", "tests/fixtures"].map(|folder| {
        let with_model = versions(&root().join(folder)).into_iter().filter(|path| path.join("model.onnx").is_file());
        let name = |folder: &Path| folder.strip_prefix(root()).unwrap().display().to_string();
        with_model.map(|folder| (name(&folder), folder)).collect::<Vec<_>>()
    });
    assert!(sources.iter().map(Vec::len).sum::<usize>() > 250);
    sources
}

#[test]
fn mutants_do_no_harm() {
    try_all(number("WEIR_MUTANTS", COUNT), "tract");
}

/// The library is a stranger's, and how it fails is its own business; but these it refuses or answers, beside the embedded engine.
#[cfg(feature = "onnxruntime")]
#[test]
fn mutants_do_no_harm_where_both_engines_try_them() {
    if onnxruntime::opened().is_some() {
        try_all(number("WEIR_MUTANTS_OF_BOTH", COUNT_OF_BOTH), "auto");
    }
}

fn try_all(count: u64, engine: &str) {
    let first = number("WEIR_MUTANTS_FROM", 0);
    let last = first + count;
    let mut tally = Tally::default();
    let mut from = first;
    while from < last {
        from = watch((from, last.min(from + BATCH)), engine, &mut tally);
    }
    println!(
        "{} mutants with {engine}: {} refused, {} loaded, {} answered",
        last - first,
        tally.refused,
        tally.loaded,
        tally.answered
    );
    tally.slow.iter().for_each(|line| println!("slow: {line}"));
    assert!(tally.harm.is_empty(), "{} did harm:\n{}", tally.harm.len(), tally.harm.join("\n"));
    assert!(tally.answered * 10 > last - first, "only {} answered: the mutations break everything", tally.answered);
}

#[derive(Default)]
struct Tally {
    refused: u64,
    loaded: u64,
    answered: u64,
    slow: Vec<String>,
    harm: Vec<String>,
}

/// Has a child try a range of seeds; returns the seed to go on with.
fn watch((from, to): (u64, u64), engine: &str, tally: &mut Tally) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "engine::mutants::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env("WEIR_MUTANTS_BATCH", format!("{from}..{to}"))
        .env("WEIR_MUTANTS_ENGINE", engine)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let words = std::thread::spawn(move || {
        let mut last = std::collections::VecDeque::new();
        for line in stderr.split(b'\n').map_while(Result::ok) {
            last.push_back(String::from_utf8_lossy(&line).into_owned());
            if last.len() > 6 {
                last.pop_front();
            }
        }
        Vec::from(last).join(" | ")
    });
    let mut current = None;
    let mut next = from;
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        // The harness of the tests writes to the same stream.
        let Some(at) = line.find("mutant ") else { continue };
        let mut words = line[at..].splitn(4, ' ').skip(1);
        let (seed, event, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or(""));
        match event {
            "begins" => {
                next = seed.parse::<u64>().unwrap() + 1;
                current = Some(format!("seed {seed} ({rest})"));
            }
            "refused" => tally.refused += 1,
            "loaded" => tally.loaded += 1,
            "answered" => (tally.loaded, tally.answered) = (tally.loaded + 1, tally.answered + 1),
            "panicked" | "differs" => tally.harm.push(format!("seed {seed}: {event}: {rest}")),
            "slow" => tally.slow.push(format!("seed {seed}: {rest}")),
            other => panic!("{other}"),
        }
        if !matches!(event, "begins" | "slow") {
            current = None;
        }
    }
    let status = child.wait().unwrap();
    let words = words.join().unwrap();
    match current {
        Some(seed) => tally.harm.push(format!("{seed}: {status}: {words}")),
        None if !status.success() => tally.harm.push(format!("after seed {}: {status}: {words}", next - 1)),
        None => assert_eq!(next, to, "the child ended early: {words}"),
    }
    next
}

/// When the mutant that is being tried began, in milliseconds after the child did; 0 between two.
static BEGAN: AtomicU64 = AtomicU64::new(0);

#[test]
#[ignore = "the child of the test above"]
fn child() {
    let Ok(batch) = std::env::var("WEIR_MUTANTS_BATCH") else { return };
    let (from, to) = batch.split_once("..").unwrap();
    let limit = |current| Rlimit { current: Some(current), maximum: Some(current) };
    setrlimit(Resource::As, limit(MEMORY)).unwrap();
    setrlimit(Resource::Core, limit(0)).unwrap();
    let start = Instant::now();
    let since = move || u64::try_from(start.elapsed().as_millis()).unwrap() + 1;
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let began = BEGAN.load(Ordering::Acquire);
            if began > 0 && since() > began + u64::try_from(PATIENCE.as_millis()).unwrap() {
                eprintln!("hangs");
                #[expect(clippy::disallowed_methods, reason = "what hangs cannot be asked to return")]
                std::process::exit(99);
            }
        }
    });
    let bench = Bench::new();
    for seed in from.parse().unwrap()..to.parse::<u64>().unwrap() {
        let begun = Instant::now();
        BEGAN.store(since(), Ordering::Release);
        let event = bench.attempt(seed);
        BEGAN.store(0, Ordering::Release);
        if begun.elapsed() > Duration::from_secs(5) {
            say(seed, &format!("slow {:.1?}", begun.elapsed()));
        }
        say(seed, &event);
    }
    bench.scheduler.shutdown();
}

/// One line, at once.
fn say(seed: u64, what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nmutant {seed} {}", what.replace('\n', " ")).unwrap();
    out.flush().unwrap();
}

/// Where mutants are tried: what a gateway has, without its listeners.
struct Bench {
    sources: Sources,
    scheduler: Arc<Scheduler>,
    loader: Loader,
    folder: tempfile::TempDir,
    out: Option<PathBuf>,
}

impl Bench {
    fn new() -> Self {
        let options = SchedulerOptions { workers: 1, load_budget: Duration::ZERO, ..SchedulerOptions::default() };
        let scheduler = Scheduler::start(options).unwrap();
        let engines = Engines::new(Arc::new(TractEngine::new()));
        #[cfg(feature = "onnxruntime")]
        let engines = match std::env::var("WEIR_MUTANTS_ENGINE").as_deref() {
            Ok("auto") => {
                let opened = onnxruntime::opened().unwrap();
                engines.with_onnxruntime(opened.engine).with_budget(Duration::ZERO)
            }
            _ => engines,
        };
        let loader = Loader { engines, scheduler: Arc::clone(&scheduler), metrics: Metrics::new(), max_bytes: 1 << 30 };
        let out = std::env::var_os("WEIR_MUTANTS_OUT").map(PathBuf::from);
        Self { sources: sources(), scheduler, loader, folder: tempfile::tempdir().unwrap(), out }
    }

    /// Makes the mutant of a seed, loads it as a gateway does, and asks it; what became of it.
    fn attempt(&self, seed: u64) -> String {
        let mut random = Random::new(seed);
        // Exported models are what people have; those made for one operator are many and alike.
        let group = &self.sources[random.pick(&[0, 1, 1, 1, 2, 2, 3])];
        let (name, source) = &group[random.below(group.len())];
        say(seed, &format!("begins {name}"));
        let mutant = mutate::mutant(&fs::read(source.join("model.onnx")).unwrap(), &mut random);
        self.place(source, &mutant);
        let order = Order {
            id: ServableId { model: ModelName::parse("m").unwrap(), version: Version::ONE },
            folder: self.folder.path().to_owned(),
            place: Place::Bare,
            config: Arc::new(ModelConfig::default()),
            known: None,
        };
        match self.loader.load(&order) {
            Ok(Loaded::New(servable, _)) => {
                if let Some(text) = &servable.selection.disagreement
                    && !DIFFERENT.iter().any(|(known, of, _)| (*known, *of) == (seed, name.as_str()))
                {
                    return format!("differs {name}: {text}");
                }
            }
            Ok(Loaded::Same) => panic!("nothing was loaded before"),
            // An engine's own panics are contained by the engine; this one was not.
            Err(error) if error.to_string().contains("loading panicked") => return format!("panicked {error}"),
            Err(error) => return format!("refused {error}"),
        }
        match self.ask(source, seed, &mutant) {
            Ok(()) => "answered".to_owned(),
            Err(error) => format!("loaded {error}"),
        }
    }

    /// Puts a mutant where the loader reads it, with the files that its source has beside it.
    fn place(&self, source: &Path, mutant: &[u8]) {
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for entry in fs::read_dir(source).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json" && extension != "onnx") {
                fs::copy(&path, self.folder.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        fs::write(self.folder.path().join("model.onnx"), mutant).unwrap();
    }

    fn ask(&self, source: &Path, seed: u64, mutant: &[u8]) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let model = TractEngine::new().load(&artifact(self.folder.path()), &LIMITS).map_err(|error| text(&error))?;
        let signature = model.signature();
        let inputs = known(source, signature).or_else(|| generated(seed, signature)).ok_or("no inputs for it")?;
        let rows = (signature.batch == Batch::Rows).then(|| inputs[0].shape()[0]);
        let plan = model.plan(rows).map_err(|error| text(&error))?;
        let mut session = plan.session().map_err(|error| text(&error))?;
        let outputs = run(&mut *session, &inputs, signature.outputs.len()).map_err(|error| text(&error))?;
        if let Some(out) = &self.out {
            fs::create_dir_all(out).unwrap();
            let name = |index: usize, specs: &[TensorSpec]| specs[index].name.to_string();
            let list = |tensors: &[Tensor], specs: &[TensorSpec]| -> Vec<Value> {
                tensors.iter().enumerate().map(|(at, tensor)| record(&name(at, specs), tensor)).collect()
            };
            let record = serde_json::json!({
                "source": source.strip_prefix(root()).unwrap(),
                "inputs": list(&inputs, &signature.inputs),
                "outputs": list(&outputs, &signature.outputs),
            });
            fs::write(out.join(format!("{seed}.json")), record.to_string()).unwrap();
            fs::write(out.join(format!("{seed}.onnx")), mutant).unwrap();
        }
        Ok(())
    }
}

/// A tensor for the other side: numbers as hexadecimal digits of their little-endian bytes, so that every bit arrives.
fn record(name: &str, tensor: &Tensor) -> Value {
    let data = match tensor.data() {
        Data::Plain(bytes) => Value::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        Data::Strings(items) => items.iter().map(|item| String::from_utf8_lossy(item).into_owned()).collect(),
    };
    serde_json::json!({ "name": name, "datatype": tensor.dtype().to_string(), "shape": tensor.shape(), "data": data })
}

/// Inputs that the source is known to take, when the mutant may take them as well.
fn known(source: &Path, signature: &Signature) -> Option<Vec<Tensor>> {
    let files = ["expected.json", "golden.json"].map(|name| fs::read(source.join(name)).ok());
    let answers: Value = serde_json::from_slice(&files.into_iter().flatten().next()?).unwrap();
    let cases = answers["cases"].as_array()?;
    cases.iter().rev().find_map(|case| {
        let given = case["inputs"].as_array().unwrap();
        let fitting = |spec: &TensorSpec| {
            let tensor = given.iter().find(|tensor| tensor["name"] == *spec.name).map(tensor)?;
            let fits = tensor.dtype() == spec.dtype
                && tensor.shape().len() == spec.shape.len()
                && spec.shape.iter().zip(tensor.shape()).all(|(spec, size)| spec.is_none_or(|spec| spec == *size));
            fits.then_some(tensor)
        };
        let inputs: Vec<_> = signature.inputs.iter().map(fitting).collect::<Option<_>>()?;
        (!inputs.is_empty() || signature.batch == Batch::None).then_some(inputs)
    })
}

/// Small numbers and short words; `None` for inputs that are too large.
fn generated(seed: u64, signature: &Signature) -> Option<Vec<Tensor>> {
    let mut random = Random::new(!seed);
    let tensor = |spec: &TensorSpec| {
        let shape: Shape = spec.shape.iter().map(|size| size.unwrap_or(3)).collect();
        let count = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size))?;
        if count > MAX_ELEMENTS {
            return None;
        }
        if spec.dtype == DType::Bytes {
            let items: Arc<[Bytes]> = (0..count).map(|_| Bytes::from(random.pick(&["a", "b", "c d"]))).collect();
            return Tensor::strings(shape, items).ok();
        }
        let mut bytes = Vec::new();
        for _ in 0..count {
            let value = match spec.dtype {
                dtype if dtype.is_float() => Value::from((random.below(4001) as f64 - 2000.0) / 1000.0),
                DType::Bool => Value::from(random.one_in(2)),
                _ => Value::from(random.below(3)),
            };
            push(&mut bytes, if spec.dtype == DType::Bf16 { return None } else { spec.dtype }, &value);
        }
        Tensor::plain(spec.dtype, shape, bytes.into()).ok()
    };
    let mut tensor = tensor;
    signature.inputs.iter().map(&mut tensor).collect()
}
