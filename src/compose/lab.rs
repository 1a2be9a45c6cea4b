//! Models that are functions and routes that are texts, for the tests of this layer: everything between a `route.toml` and an
//! answer, without a registry on a disk.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Instant, SystemTime},
};

use smallvec::SmallVec;

use super::{
    call::{Call, Reply},
    change::{Author, LiveRoute, Revision},
    compile::compile,
    controllers::Controllers,
    route::Route,
    sink::ScoreSink,
    world::{Fit, RouteSet, World},
};
use crate::{
    engine::{EngineError, function::FunctionModel},
    observe::Metrics,
    registry::{LoadTimes, ModelEntry, Servable, Snapshot, VersionEntry, classes::Classes},
    scheduler::{LaneParts, Merging, Scheduler, SchedulerOptions},
    spec::parse_route_toml,
    types::{
        Batch, ClassNames, DType, Error, Headers, InferRequest, ModelName, ModelSpec, ModelState, NamedTensor,
        ParamValue, Params, Protocol, RequestContext, ServableId, Signature, Tensor, TensorSpec, Version, VersionRef,
    },
};

pub(super) type Outcome = Result<Vec<Vec<f32>>, EngineError>;

pub(super) struct Lab {
    pub(super) snapshot: Snapshot,
    pub(super) routes: BTreeMap<ModelName, LiveRoute>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) controllers: Controllers,
    scheduler: Arc<Scheduler>,
}

pub(super) fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

/// One FP32 input or output: its name and its columns, 0 = one value per row.
pub(super) fn floats(name: &str, columns: usize) -> TensorSpec {
    let shape = if columns == 0 { vec![None] } else { vec![None, Some(columns)] };
    TensorSpec { name: name.into(), dtype: DType::Fp32, shape }
}

impl Lab {
    pub(super) fn new() -> Self {
        let options = SchedulerOptions { workers: 2, ..SchedulerOptions::default() };
        Self {
            snapshot: Snapshot { started: true, ..Snapshot::default() },
            routes: BTreeMap::new(),
            metrics: Metrics::new(),
            controllers: Controllers::default(),
            scheduler: Scheduler::start(options).unwrap(),
        }
    }

    /// A model `x [rows, 1]` to `p [rows, 2]`: the function says the probability of class 1.
    pub(super) fn binary(&mut self, model: &str, version: u64, p: impl Fn(f32) -> f32 + Send + Sync + 'static) {
        self.model(model, version, (vec![floats("x", 1)], vec![floats("p", 2)]), move |inputs, _| {
            Ok(vec![inputs[0].iter().flat_map(|x| [1.0 - p(*x), p(*x)]).collect()])
        });
    }

    pub(super) fn model(
        &mut self,
        model: &str,
        version: u64,
        (inputs, outputs): (Vec<TensorSpec>, Vec<TensorSpec>),
        function: impl Fn(&[Vec<f32>], usize) -> Outcome + Send + Sync + 'static,
    ) {
        let id = ServableId { model: name(model), version: Version::new(version).unwrap() };
        let signature = Signature { inputs, outputs, batch: Batch::Rows };
        let series = self.metrics.servable(&id, "function", "digest", None);
        let spec = ModelSpec::default();
        let parts = LaneParts {
            id: id.clone(),
            model: Arc::new(FunctionModel::new(signature.clone(), function)),
            merging: Merging::Proved,
            batching: spec.batching.clone(),
            resources: spec.resources.clone(),
            series: Arc::clone(&series),
        };
        let lane = self.scheduler.lane(parts).unwrap();
        // Until then the model is asked by the scheduler, too.
        while !lane.is_warm() {
            std::thread::yield_now();
        }
        let servable = Servable {
            id: id.clone(),
            signature: Arc::new(signature),
            classes: Classes::new(ClassNames::new(), &spec),
            spec: Arc::new(spec),
            engine: "function",
            selection: Arc::default(),
            digest: "d".repeat(64).into(),
            lane,
            series,
            loaded_at: SystemTime::UNIX_EPOCH,
            load_times: LoadTimes::default(),
            source: "".into(),
            merging: Merging::Proved,
        };
        let entry = self.snapshot.models.entry(id.model.clone()).or_insert_with(|| {
            Arc::new(ModelEntry {
                name: id.model.clone(),
                spec: Arc::default(),
                reason: String::new(),
                since_start: true,
                versions: Vec::new(),
                present: Vec::new(),
            })
        });
        let entry = Arc::make_mut(entry);
        entry.present.push(id.version);
        entry.versions.push(VersionEntry {
            version: id.version,
            state: ModelState::Ready,
            reason: String::new(),
            by_policy: true,
            servable: Some(Arc::new(servable)),
        });
    }

    /// Makes this text the next revision of a route.
    pub(super) fn route(&mut self, route: &str, text: &str) {
        let spec = parse_route_toml(text).unwrap_or_else(|problems| panic!("{problems:?}"));
        let number = self.routes.get(route).map_or(1, |live| live.revision.number + 1);
        let author = Author { who: "local".into(), why: "".into() };
        let revision = Revision { number, at: SystemTime::UNIX_EPOCH, author, from: number - 1 };
        self.routes.insert(name(route), LiveRoute { revision, spec: Arc::new(spec), text: text.into() });
    }

    pub(super) fn fit(&self, route: &str) -> Fit {
        self.compile(route).1
    }

    pub(super) fn problems(&self, route: &str) -> Vec<String> {
        self.fit(route).problems
    }

    pub(super) fn get(&self, route: &str) -> Arc<Route> {
        let (compiled, fit) = self.compile(route);
        compiled.unwrap_or_else(|| panic!("{fit:?}"))
    }

    fn compile(&self, route: &str) -> (Option<Arc<Route>>, Fit) {
        let routes: RouteSet = Arc::new(self.routes.clone());
        let world =
            World { snapshot: &self.snapshot, routes: &routes, metrics: &self.metrics, controllers: &self.controllers };
        compile(world, &name(route))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.scheduler.shutdown();
    }
}

/// A request with the input `x [rows, 1]`.
pub(super) fn request(values: &[f32]) -> InferRequest {
    let tensor = Tensor::from_vec(DType::Fp32, SmallVec::from_slice(&[values.len(), 1]), values.to_vec()).unwrap();
    InferRequest {
        model: "route".into(),
        version: VersionRef::Policy,
        id: "".into(),
        params: Params::default(),
        inputs: vec![NamedTensor { name: "x".into(), tensor }],
        outputs: Vec::new(),
        context: RequestContext::new(Protocol::Grpc, Instant::now()),
    }
}

/// The same with a parameter.
pub(super) fn with_param(mut request: InferRequest, name: &str, value: ParamValue) -> InferRequest {
    request.params.set(name, value);
    request
}

/// The same with a header.
pub(super) fn with_header(mut request: InferRequest, name: &'static str, value: &'static str) -> InferRequest {
    struct One(&'static str, &'static str);
    impl Headers for One {
        fn get(&self, name: &str) -> Option<&[u8]> {
            (name == self.0).then_some(self.1.as_bytes())
        }
    }
    request.context.headers = Some(Box::new(One(name, value)));
    request
}

/// The same with texts as another input, one per row.
pub(super) fn with_texts(mut request: InferRequest, name: &str, texts: &[&str]) -> InferRequest {
    let items: Vec<bytes::Bytes> = texts.iter().map(|text| bytes::Bytes::copy_from_slice(text.as_bytes())).collect();
    let tensor = Tensor::strings(SmallVec::from_slice(&[texts.len()]), items.into()).unwrap();
    request.inputs.push(NamedTensor { name: name.into(), tensor });
    request
}

/// Asks a route as the gateway would.
pub(super) async fn ask(route: &Route, request: &InferRequest) -> Result<Reply, Error> {
    let rows = route.accept(request, 1000)?;
    route.run(rows, Call::new(request, &ScoreSink)?).await
}

/// The probability of class 1 of every row.
pub(super) fn positives(reply: &Reply) -> Vec<f32> {
    reply.outputs[0].to_f32().unwrap().chunks(2).map(|row| row[1]).collect()
}
