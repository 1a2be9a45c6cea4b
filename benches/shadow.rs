//! What a shadow costs the requests that it sees, every one of them: latencies of a primary without shadow, twice, so that the
//! spread of the machine is known, beside those with a shadow that answers, keeps a core busy, gets stuck, or panics. Every
//! round goes through all of them, so that they meet the same machine. Prints the median of the rounds and their range.
//!
//! `cargo bench --bench shadow`; without `--bench` a short run that shows that it works.

#![expect(clippy::unwrap_used, reason = "a benchmark")]
#![expect(clippy::print_stdout, reason = "its result")]

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weir::{
    compose::Shadow,
    engine::fake::{FakeEngine, POISON, Script},
    observe::{Metrics, RouteSeries},
    registry::Servable,
    scheduler::{Home, Lane, LaneParts, Merging, Scheduler, SchedulerOptions},
    types::{BatchingSpec, DType, ModelName, ModelSpec, ResourceSpec, Rows, ServableId, Tensor, Version},
};

const WIDTH: usize = 30;
/// Rows of what keeps a shadow busy.
const HEAVY: usize = 20_000;

/// What is mirrored, and to whom.
enum Mirrored {
    Nothing,
    Request(Shadow),
    /// Much more than the request, so that the shadow is always busy.
    Heavy(Shadow, Rows),
}

struct Arm {
    name: &'static str,
    mirrored: Mirrored,
    first: f32,
    /// Per round: median, 99th and 99.9th percentile, in microseconds.
    rounds: Vec<[f64; 3]>,
    route: Arc<RouteSeries>,
    script: Script,
    /// Rows mirrored so far.
    sent: Cell<u64>,
}

struct Bench {
    scheduler: Arc<Scheduler>,
    metrics: Arc<Metrics>,
}

impl Bench {
    fn servable(&self, name: &str, script: &Script) -> Arc<Servable> {
        let id = ServableId { model: ModelName::parse(name).unwrap(), version: Version::ONE };
        let series = self.metrics.servable(&id, "fake", "", None);
        let model = FakeEngine::new(script.clone(), WIDTH).model();
        let signature = Arc::new(model.signature().clone());
        let parts = LaneParts {
            id: id.clone(),
            model: model.into(),
            merging: Merging::Proved,
            batching: BatchingSpec::default(),
            resources: ResourceSpec::default(),
            series: Arc::clone(&series),
        };
        let lane = self.scheduler.lane(parts).unwrap();
        while !lane.is_warm() {
            std::thread::yield_now();
        }
        Arc::new(Servable {
            id,
            signature,
            spec: Arc::new(ModelSpec::default()),
            classes: Default::default(),
            engine: "fake",
            selection: Arc::default(),
            digest: "".into(),
            lane,
            series,
            loaded_at: SystemTime::now(),
            load_times: weir::registry::LoadTimes::default(),
            source: "".into(),
            merging: Merging::Proved,
        })
    }

    fn arm(&self, name: &'static str, first: f32, mirrored: impl Fn(Shadow) -> Mirrored) -> Arm {
        let (script, route) = (Script::default(), self.metrics.route(name));
        let servable = self.servable(name, &script);
        let shadow = Shadow::new(&servable, &servable.signature, &route).unwrap();
        Arm { name, mirrored: mirrored(shadow), first, rounds: Vec::new(), route, script, sent: Cell::new(0) }
    }

    fn arms(&self) -> Vec<Arm> {
        let heavy = rows(0.5, HEAVY);
        let arms = vec![
            self.arm("none-A", 0.5, |_| Mirrored::Nothing),
            self.arm("none-B", 0.5, |_| Mirrored::Nothing),
            self.arm("answers", 0.5, Mirrored::Request),
            self.arm("busy", 0.5, |shadow| Mirrored::Heavy(shadow, heavy.clone())),
            self.arm("panics", POISON, Mirrored::Request),
            // The last, because the thread for shadows is stuck from then on; measured in every round all the same.
            self.arm("stuck", 0.5, Mirrored::Request),
        ];
        arms[4].script.panic_on_poison();
        arms
    }
}

fn rows(first: f32, count: usize) -> Rows {
    let mut values = vec![0.5_f32; count * WIDTH];
    values[0] = first;
    Rows {
        inputs: [Tensor::from_vec(DType::Fp32, [count, WIDTH].as_slice().into(), values).unwrap()].into(),
        rows: count,
    }
}

/// One request, and its latency as a caller would see it.
async fn request(primary: &Lane, arm: &Arm) -> Duration {
    let given = rows(0.5, 1);
    let begun = Instant::now();
    let answer = primary.run(given.clone(), None).await.unwrap();
    let answered = Instant::now();
    let rows_sent = match &arm.mirrored {
        Mirrored::Nothing => 0,
        Mirrored::Request(_) => 1,
        Mirrored::Heavy(..) => HEAVY as u64,
    };
    arm.sent.set(arm.sent.get() + rows_sent);
    match &arm.mirrored {
        Mirrored::Nothing => {}
        Mirrored::Request(shadow) if arm.first == POISON => {
            shadow.mirror(&rows(POISON, 1), &answer.outputs, begun, answered);
        }
        Mirrored::Request(shadow) => shadow.mirror(&given, &answer.outputs, begun, answered),
        Mirrored::Heavy(shadow, heavy) => shadow.mirror(heavy, &heavy.inputs, begun, answered),
    }
    begun.elapsed()
}

fn percentiles(mut times: Vec<Duration>) -> [f64; 3] {
    times.sort_unstable();
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e6;
    [at(0.5), at(0.99), at(0.999)]
}

/// The median over rounds, and the range.
fn over(rounds: &[[f64; 3]], which: usize) -> String {
    let mut values: Vec<f64> = rounds.iter().map(|round| round[which]).collect();
    values.sort_unstable_by(f64::total_cmp);
    format!("{:8.1} ({:.1} to {:.1})", values[values.len() / 2], values[0], values[values.len() - 1])
}

fn print(lane: &str, arms: &[Arm]) {
    println!("\n{lane} lane: microseconds per request, median of rounds (range)");
    println!("{:10} {:>28} {:>28} {:>28}   mirrored rows", "shadow", "p50", "p99", "p99.9");
    for arm in arms {
        let [p50, p99, p999] = [0, 1, 2].map(|which| over(&arm.rounds, which));
        let seen = arm.route.report().shadow.map_or_else(String::new, |shadow| {
            let (compared, shadow) = (shadow.agree + shadow.differ, shadow);
            format!("{compared} compared, {} failed, {} dropped", shadow.failed, shadow.dropped)
        });
        println!("{:10} {p50:>28} {p99:>28} {p999:>28}   {seen}", arm.name);
    }
}

fn measure(lane: &str, local_below: Duration, (rounds, requests): (usize, usize)) {
    let options = SchedulerOptions { workers: 1, local_below, ..SchedulerOptions::default() };
    let bench = Bench { scheduler: Scheduler::start(options).unwrap(), metrics: Metrics::new() };
    let primary = bench.servable("primary", &Script::default());
    let mut arms = bench.arms();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    runtime.block_on(async { Home::install(&tracker, stop.clone()) });
    let once = |arm: &Arm, requests: usize| {
        let times = (0..requests).map(|_| runtime.block_on(request(&primary.lane, arm))).collect();
        percentiles(times)
    };
    // Warm up, without the one that gets stuck.
    arms.iter().take(5).for_each(|arm| {
        once(arm, requests / 10);
        settle(arm);
    });
    for _ in 0..rounds {
        for arm in &mut arms {
            // Every round has its own stuck run: it is let go afterwards, so that the others are measured with a thread
            // that works, and is over long before it would count as stuck for good.
            if arm.name == "stuck" {
                arm.script.close();
            }
            let figures = once(arm, requests);
            arm.rounds.push(figures);
            arm.script.open();
            settle(arm);
        }
    }
    print(lane, &arms);
    stop.cancel();
    drop(runtime);
    bench.scheduler.shutdown();
}

/// Waits until the arm's shadow has nothing left to do, so that the next one meets an idle machine.
fn settle(arm: &Arm) {
    let told = || arm.route.report().shadow.map(|shadow| shadow.agree + shadow.differ + shadow.failed + shadow.dropped);
    let sent = arm.sent.get();
    while told().is_some_and(|told| told < sent) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What handing over costs by itself: taken, and refused because the shadow is stuck and its queue full.
fn hand_over(times: usize) {
    let bench = Bench { scheduler: Scheduler::start(SchedulerOptions::default()).unwrap(), metrics: Metrics::new() };
    let script = Script::default();
    let (servable, route) = (bench.servable("next", &script), bench.metrics.route("hand-over"));
    let shadow = Shadow::new(&servable, &servable.signature, &route).unwrap();
    let given = rows(0.5, 1);
    let mirror = || shadow.mirror(&given, &given.inputs, Instant::now(), Instant::now());
    let per_call = |times: usize, taken: Duration| taken.as_secs_f64() * 1e9 / times as f64;
    let mut taken = Duration::ZERO;
    for _ in 0..times {
        std::thread::sleep(Duration::from_micros(200));
        let begun = Instant::now();
        mirror();
        taken += begun.elapsed();
    }
    println!("\nhand-over that is taken: {:.0} ns", per_call(times, taken));
    script.close();
    (0..300).for_each(|_| mirror());
    let begun = Instant::now();
    (0..times * 10).for_each(|_| mirror());
    println!(
        "hand-over that is refused because the shadow is stuck and its queue full: {:.0} ns",
        per_call(times * 10, begun.elapsed())
    );
    script.open();
    bench.scheduler.shutdown();
}

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let size = if full { (21, 20_000) } else { (3, 200) };
    measure("local", Duration::MAX, size);
    measure("pool", Duration::ZERO, size);
    hand_over(if full { 5_000 } else { 50 });
}
