//! How fast the engines are: rows per second of the kinds of models that people serve, through Weir's engine traits (rows copied in,
//! run, answers looked at), against ONNX Runtime by itself on tensors that stay where they are. One thread, and its own processor
//! time, so that what else the machine does counts little; everything is pinned to one core where `taskset` is; rounds are
//! interleaved, and figures are medians. Without the library its columns are empty.
//!
//! `cargo bench --bench engine [-- PART-OF-A-NAME…]`; `WEIR_BENCH_ROUNDS`, `WEIR_BENCH_MS` (of one round) change the effort.
//!
//! | column | what it is |
//! |---|---|
//! | `bare` | ONNX Runtime's own session, rows per second |
//! | `tract`, `onnxruntime` | Weir's engines, compiled for that batch size, as a ratio to `bare` |
//! | `plain` | the engine `tract` without this crate's convolutions and products, as a ratio to `tract` |
//! | `best` | tract when a batch is run as smaller ones where that is faster, as the scheduler does |
//! | `auto` | the engine that `engine = "auto"` takes for the model, again as a ratio to `bare` |

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark")]

use std::{
    collections::BTreeMap,
    env,
    hint::black_box,
    path::Path,
    process::{Command, ExitCode},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use weir::{
    engine::{
        Artifact, ArtifactKind, Engine, InputBuffer, Limits, Model, OutputData, Session, TractEngine,
        onnxruntime::{Opened, open},
    },
    observe::Metrics,
    registry::{
        Engines,
        loader::{Loaded, Loader, Order},
        source::Place,
    },
    scheduler::{Scheduler, SchedulerOptions},
    types::{ModelName, ServableId, Version},
};

#[path = "engine/bare.rs"]
mod bare;
#[path = "engine/families.rs"]
mod families;
#[path = "engine/graph.rs"]
mod graph;
#[path = "support/processor.rs"]
mod processor;

use bare::Bare;
use families::{Family, families};
use processor::on_processor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCHES: [usize; 4] = [1, 8, 32, 256];

/// Set in the process that is pinned.
const PINNED: &str = "WEIR_BENCH_PINNED";

fn main() -> ExitCode {
    if let Some(library) = env::var_os(bare::LIBRARY) {
        bare::serve(Path::new(&library), &families()).unwrap();
        return ExitCode::SUCCESS;
    }
    if env::var_os(PINNED).is_none()
        && let Some(code) = pinned()
    {
        return code;
    }
    let wanted: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut bench = Bench::new();
    println!(
        "{:<24} {:>5} {:>11} {:>11} {:>6} {:>6} {:>6} {:>11} {:>6}  auto",
        "model", "batch", "bare", "tract", "ratio", "best", "plain", "onnxruntime", "ratio"
    );
    for (at, family) in families().iter().enumerate() {
        if wanted.is_empty() || wanted.iter().any(|wanted| family.name.contains(wanted.as_str())) {
            bench.family(at, family);
        }
    }
    ExitCode::SUCCESS
}

/// Runs this benchmark again on one core; `None` when that cannot be done.
fn pinned() -> Option<ExitCode> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let core = allowed.trim().rsplit([',', '-']).next()?;
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(env::current_exe().ok()?).args(env::args_os().skip(1)).env(PINNED, "1");
    let status = command.status().ok()?;
    Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Rows per second of this thread's processor time, of something that answers `rows` at a time.
pub(crate) fn rows_per_second(rows: usize, time: Duration, mut run: impl FnMut()) -> f64 {
    run();
    let (mut runs, mut group) = (0, 1);
    let start = on_processor();
    loop {
        (0..group).for_each(|_| run());
        runs += group;
        let took = on_processor() - start;
        if took >= time {
            return f64::from(runs) * rows as f64 / took.as_secs_f64();
        }
        // Clocks are looked at seldom: what is measured may take a microsecond.
        let left = (time - took).as_secs_f64() / took.as_secs_f64().max(1e-9);
        group = (f64::from(runs) * left.min(1.0)).ceil().max(1.0) as u32;
    }
}

struct Bench {
    onnxruntime: Option<(Opened, Bare)>,
    rounds: usize,
    time: Duration,
}

/// What is measured of one batch size.
struct Figures {
    bare: Option<f64>,
    tract: Option<f64>,
    plain: Option<f64>,
    onnxruntime: Option<f64>,
}

impl Bench {
    fn new() -> Self {
        let number = |name: &str, default| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
        let onnxruntime = match open(None) {
            Ok(opened) => {
                println!("library: {}", opened.library.display());
                let bare = Bare::start(&opened.library).unwrap();
                Some((opened, bare))
            }
            Err(absent) => {
                println!("the columns of ONNX Runtime are skipped: {absent}");
                None
            }
        };
        let time = Duration::from_millis(number("WEIR_BENCH_MS", 40) as u64);
        Self { onnxruntime, rounds: number("WEIR_BENCH_ROUNDS", 9), time }
    }

    fn family(&mut self, at: usize, family: &Family) {
        let load = |engine: &dyn Engine| match engine.load(&artifact(family), &LIMITS) {
            Ok(model) => Some(model),
            Err(error) => {
                println!("{:<24} {}: {error}", family.name, engine.name());
                None
            }
        };
        let tract = load(&TractEngine::new());
        let plain = load(&TractEngine::new().plain());
        let onnxruntime = self.onnxruntime.as_ref().and_then(|(opened, _)| load(&*opened.engine));
        if let (Some(tract), Some(onnxruntime)) = (&tract, &onnxruntime) {
            compare(family, &**tract, &**onnxruntime);
        }
        let chosen = self.chosen(family);
        let mut best = 0_f64;
        let elements: usize = family.inputs.iter().flat_map(|input| &input.row).product();
        for rows in BATCHES.into_iter().filter(|rows| rows * elements <= MAX_ELEMENTS) {
            let ours = [&tract, &plain, &onnxruntime];
            let ours = ours.map(|model| model.as_deref().map(|model| Ours::new(family, model, rows)));
            let figures = self.batch((at, rows), ours);
            best = best.max(figures.tract.unwrap_or_default());
            show((&family.name, rows), &figures, (best, chosen));
        }
    }

    /// What `engine = "auto"` takes.
    fn chosen(&self, family: &Family) -> &'static str {
        let mut engines = Engines::new(Arc::new(TractEngine::new()));
        if let Some((opened, _)) = &self.onnxruntime {
            engines = engines.with_onnxruntime(Arc::clone(&opened.engine));
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("1")).unwrap();
        std::fs::write(folder.path().join("1/model.onnx"), &family.model).unwrap();
        let options = SchedulerOptions { workers: 1, load_budget: Duration::ZERO, ..SchedulerOptions::default() };
        let scheduler = Scheduler::start(options).unwrap();
        let loader =
            Loader { engines, scheduler: Arc::clone(&scheduler), metrics: Metrics::new(), max_bytes: u64::MAX };
        let order = Order {
            id: ServableId { model: ModelName::parse("m").unwrap(), version: Version::ONE },
            folder: folder.path().to_owned(),
            place: Place::Folder,
            config: Arc::default(),
            known: None,
        };
        let engine = match loader.load(&order).unwrap() {
            Loaded::New(servable, _) => servable.engine,
            Loaded::Same => "",
        };
        scheduler.shutdown();
        engine
    }

    fn batch(&mut self, (family, rows): (usize, usize), mut ours: [Option<Ours>; 3]) -> Figures {
        let mut series: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for round in 0..self.rounds {
            for turn in 0..4 {
                let who = (round + turn) % 4;
                let speed = match who {
                    0 => {
                        let bare = self.onnxruntime.as_mut();
                        bare.map(|(_, bare)| bare.measure(family, rows, self.time).unwrap())
                    }
                    _ => ours[who - 1].as_mut().map(|ours| rows_per_second(rows, self.time, || ours.once())),
                };
                series.entry(who).or_default().extend(speed);
            }
        }
        let mut median = |who| {
            let all: &mut Vec<f64> = series.get_mut(&who)?;
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied()
        };
        Figures { bare: median(0), tract: median(1), plain: median(2), onnxruntime: median(3) }
    }
}

fn show((name, rows): (&str, usize), figures: &Figures, (best, chosen): (f64, &str)) {
    let speed = |speed: Option<f64>| speed.map_or_else(|| "-".to_owned(), |speed| format!("{speed:.0}"));
    let ratio = |speed: Option<f64>| match (speed, figures.bare) {
        (Some(speed), Some(bare)) => format!("{:.2}", speed / bare),
        _ => "-".to_owned(),
    };
    let Figures { bare, tract, plain, onnxruntime } = *figures;
    let less = plain.zip(tract).map_or_else(|| "-".to_owned(), |(plain, tract)| format!("{:.2}", plain / tract));
    let best = tract.map(|_| best);
    let auto = if chosen == "tract" { best } else { onnxruntime };
    println!(
        "{name:<24} {rows:>5} {:>11} {:>11} {:>6} {:>6} {less:>6} {:>11} {:>6}  {chosen} {}",
        speed(bare),
        speed(tract),
        ratio(tract),
        ratio(best),
        speed(onnxruntime),
        ratio(onnxruntime),
        ratio(auto),
    );
}

/// Numbers of an input, beyond which a batch says nothing new and takes long.
const MAX_ELEMENTS: usize = 1 << 23;

const LIMITS: Limits = Limits { max_output_bytes: 1 << 28 };

fn artifact(family: &Family) -> Artifact {
    Artifact { kind: ArtifactKind::Onnx, bytes: Bytes::from(family.model.clone()), side_files: BTreeMap::new() }
}

/// One of Weir's engines, with a session for one batch size.
struct Ours {
    session: Box<dyn Session>,
    inputs: Vec<(Vec<usize>, Vec<u8>)>,
    outputs: usize,
}

impl Ours {
    fn new(family: &Family, model: &dyn Model, rows: usize) -> Self {
        let session = model.plan(Some(rows)).unwrap().session().unwrap();
        let inputs = family.inputs.iter().map(|input| (input.shape(rows), input.bytes(rows))).collect();
        Self { session, inputs, outputs: model.signature().outputs.len() }
    }

    fn once(&mut self) {
        for (at, (shape, bytes)) in self.inputs.iter().enumerate() {
            let InputBuffer::Plain(buffer) = self.session.input(at, shape).unwrap() else { panic!("texts") };
            buffer.copy_from_slice(bytes);
        }
        self.session.run().unwrap();
        for at in 0..self.outputs {
            black_box(self.session.output(at).unwrap());
        }
    }

    fn floats(&mut self) -> Vec<f32> {
        self.once();
        let last = self.session.output(self.outputs - 1).unwrap();
        let OutputData::Plain(bytes) = last.data else { panic!("texts") };
        bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
    }
}

/// Figures of wrong answers mean nothing.
fn compare(family: &Family, tract: &dyn Model, onnxruntime: &dyn Model) {
    let [a, b] = [tract, onnxruntime].map(|model| Ours::new(family, model, 8).floats());
    let far = a.iter().zip(&b).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f32::max);
    assert!(a.len() == b.len() && far < 1e-3, "{}: the engines differ by {far}", family.name);
}
