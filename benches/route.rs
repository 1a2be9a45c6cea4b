//! What a route costs beyond the models that it asks: models that are functions and cost nearly nothing, on the local lane, one
//! request at a time and 64 at once. `model` is the model asked by itself; what `split`, `cascade early` (the first stage
//! accepts) and `cascade late` (the row goes on to a second stage) take more than that is the route's own.
//!
//! `cargo bench --bench route`

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weir::{
    compose::{Call, Route, RouteFiles, ScoreSink},
    engine::function::FunctionModel,
    observe::Metrics,
    registry::{ModelEntry, Servable, Snapshot, VersionEntry},
    scheduler::{Home, LaneParts, Merging, Scheduler, SchedulerOptions},
    types::{
        Batch, DType, InferRequest, ModelName, ModelSpec, ModelState, NamedTensor, ParamValue, Params, Protocol,
        RequestContext, ServableId, Signature, Tensor, TensorSpec, Version, VersionRef,
    },
};

const WIDTH: usize = 30;

const ROUTES: [(&str, &str); 3] = [
    (
        "split",
        "kind = \"split\"\nkey = [\"parameter:user\"]\n\
         [[variant]]\nname = \"a\"\nmodel = \"sure\"\nweight = 90\n[[variant]]\nname = \"b\"\nmodel = \"unsure\"\nweight = 10\n",
    ),
    (
        "cascade early",
        "kind = \"cascade\"\n[[stage]]\nmodel = \"sure\"\n\
         accept = { output = \"p\", measure = \"max_prob\", at_least = 0.8 }\n[[stage]]\nmodel = \"unsure\"\n",
    ),
    (
        "cascade late",
        "kind = \"cascade\"\n[[stage]]\nmodel = \"unsure\"\n\
         accept = { output = \"p\", measure = \"max_prob\", at_least = 0.8 }\n[[stage]]\nmodel = \"sure\"\n",
    ),
];

fn spec(name: &str, columns: usize) -> TensorSpec {
    TensorSpec { name: name.into(), dtype: DType::Fp32, shape: vec![None, Some(columns)] }
}

fn model(scheduler: &Arc<Scheduler>, metrics: &Metrics, name: &str, p: f32) -> (ModelName, Arc<ModelEntry>) {
    let id = ServableId { model: ModelName::parse(name).unwrap(), version: Version::ONE };
    let signature = Signature { inputs: vec![spec("x", WIDTH)], outputs: vec![spec("p", 2)], batch: Batch::Rows };
    let series = metrics.servable(&id, "function", "", None);
    let model = FunctionModel::new(signature.clone(), move |_, rows| Ok(vec![[1.0 - p, p].repeat(rows)]));
    let spec = ModelSpec::default();
    let parts = LaneParts {
        id: id.clone(),
        model: Arc::new(model),
        merging: Merging::Proved,
        batching: spec.batching.clone(),
        resources: spec.resources.clone(),
        series: Arc::clone(&series),
    };
    let lane = scheduler.lane(parts).unwrap();
    while !lane.is_warm() {
        std::thread::yield_now();
    }
    let servable = Servable {
        id: id.clone(),
        signature: Arc::new(signature),
        spec: Arc::new(spec),
        classes: Default::default(),
        engine: "function",
        selection: Arc::default(),
        digest: "".into(),
        lane,
        series,
        loaded_at: SystemTime::UNIX_EPOCH,
        load_times: weir::registry::LoadTimes::default(),
        source: "".into(),
        merging: Merging::Proved,
    };
    let version = VersionEntry {
        version: Version::ONE,
        state: ModelState::Ready,
        reason: String::new(),
        by_policy: true,
        servable: Some(Arc::new(servable)),
    };
    let entry = ModelEntry {
        name: id.model.clone(),
        spec: Arc::default(),
        reason: String::new(),
        since_start: true,
        versions: vec![version],
        present: vec![Version::ONE],
    };
    (id.model, Arc::new(entry))
}

fn routes(snapshot: &Snapshot, metrics: &Metrics) -> Vec<(String, Arc<Route>)> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in ROUTES {
        let folder = dir.path().join(name.replace(' ', "-"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("route.toml"), text).unwrap();
    }
    let files = RouteFiles::read(dir.path()).unwrap();
    assert!(files.problems.is_empty(), "{:?}", files.problems);
    let compiled = files.compile(snapshot, metrics).into_iter();
    compiled.map(|(name, route)| (name.to_string().replace('-', " "), route.unwrap())).collect()
}

fn request() -> InferRequest {
    let tensor = Tensor::from_vec(DType::Fp32, [1, WIDTH].as_slice().into(), vec![0.5_f32; WIDTH]).unwrap();
    let mut params = Params::default();
    params.set("user", ParamValue::Text("u17".into()));
    InferRequest {
        model: "r".into(),
        version: VersionRef::Policy,
        id: "".into(),
        params,
        inputs: vec![NamedTensor { name: "x".into(), tensor }],
        outputs: Vec::new(),
        context: RequestContext::new(Protocol::Grpc, Instant::now()),
    }
}

async fn ask_model(servable: &Servable) {
    let request = request();
    let rows = servable.signature.accept(&request.inputs, 1000).unwrap();
    black_box(servable.lane.run(rows, None).await.unwrap());
}

async fn ask_route(route: &Route) {
    let request = request();
    let rows = route.accept(&request, 1000).unwrap();
    let reply = route.run(rows, Call::new(&request, &ScoreSink).unwrap()).await.unwrap();
    black_box(reply);
}

fn requests(c: &mut Criterion) {
    let metrics = Metrics::new();
    let options = SchedulerOptions { workers: 1, local_below: Duration::MAX, ..SchedulerOptions::default() };
    let scheduler = Scheduler::start(options).unwrap();
    let models = [model(&scheduler, &metrics, "sure", 0.9), model(&scheduler, &metrics, "unsure", 0.6)];
    let snapshot = Snapshot { models: models.into(), started: true, ..Snapshot::default() };
    let servable = snapshot.resolve("sure", &VersionRef::Policy).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    runtime.block_on(async { Home::install(&tracker, stop.clone()) });
    let mut group = c.benchmark_group("cost per request");
    let mut targets: Vec<(String, Option<Arc<Route>>)> = vec![("model".to_owned(), None)];
    targets.extend(routes(&snapshot, &metrics).into_iter().map(|(name, route)| (name, Some(route))));
    for (name, route) in targets {
        for at_once in [1_usize, 64] {
            group.throughput(Throughput::Elements(at_once as u64));
            group.bench_with_input(BenchmarkId::new(&name, at_once), &at_once, |bencher, at_once| {
                bencher.iter(|| {
                    runtime.block_on(async {
                        let calls = TaskTracker::new();
                        for _ in 0..*at_once {
                            let (route, servable) = (route.clone(), Arc::clone(&servable));
                            calls.spawn(async move {
                                match route {
                                    None => ask_model(&servable).await,
                                    Some(route) => ask_route(&route).await,
                                }
                            });
                        }
                        calls.close();
                        calls.wait().await;
                    });
                });
            });
        }
    }
    group.finish();
    stop.cancel();
    drop(runtime);
    scheduler.shutdown();
}

criterion_group!(benches, requests);
criterion_main!(benches);
