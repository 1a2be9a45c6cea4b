//! A gateway in this process whose models are functions, over a real directory of models and routes. For what no model on a
//! disk does when it is told to: answer who it is, take its time, get stuck, panic.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use weir::{
    compose::{Author, Change, ChangeError, Changed, Edit, Expect, Routes, RoutesConfig},
    engine::{Artifact, Engine, EngineError, Limits, LoadError, Model, fake::Script, function::FunctionModel},
    gateway::{Gateway, GatewayOptions},
    observe::Metrics,
    registry::{Engines, Registry, RegistryConfig, WatchMode},
    scheduler::{Scheduler, SchedulerOptions},
    types::{
        Batch, DType, Error, InferRequest, InferResponse, ModelName, NamedTensor, ParamValue, Params, Protocol,
        RequestContext, Signature, Tensor, TensorSpec, Version, VersionRef,
    },
};

use crate::{
    harness::PATIENCE,
    site::{Plan, Site},
};

/// Values of every output, from those of every input and the number of rows.
pub(super) type Outcome = Result<Vec<Vec<f32>>, EngineError>;

/// Inputs or outputs: names with their columns, 0 = one value per row.
type Columns<'a> = &'a [(&'a str, usize)];

/// A version of a model.
pub(super) struct Made {
    name: &'static str,
    version: u64,
    toml: &'static str,
    model: FunctionModel,
}

impl Made {
    pub(super) fn new(
        name: &'static str,
        version: u64,
        (inputs, outputs): (Columns<'_>, Columns<'_>),
        function: impl Fn(&[Vec<f32>], usize) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        let spec = |(name, columns): &(&str, usize)| {
            let columns = (*columns > 0).then_some(Some(*columns));
            TensorSpec {
                name: (*name).into(),
                dtype: DType::Fp32,
                shape: std::iter::once(None).chain(columns).collect(),
            }
        };
        let all = |list: Columns<'_>| list.iter().map(spec).collect();
        let signature = Signature { inputs: all(inputs), outputs: all(outputs), batch: Batch::Rows };
        Self { name, version, toml: "versions = \"all\"\n", model: FunctionModel::new(signature, function) }
    }

    /// With this `model.toml`.
    pub(super) fn configured(self, toml: &'static str) -> Self {
        Self { toml, ..self }
    }

    fn text(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }
}

/// Loads the functions by the text of their model files.
struct Functions(HashMap<String, FunctionModel>);

impl Engine for Functions {
    fn name(&self) -> &'static str {
        "functions"
    }

    fn load(&self, artifact: &Artifact, _limits: &Limits) -> Result<Box<dyn Model>, LoadError> {
        let text = String::from_utf8_lossy(&artifact.bytes).into_owned();
        let model = self.0.get(&text).ok_or_else(|| LoadError::new(format!("no function '{text}'")))?;
        Ok(Box::new(model.clone()))
    }
}

/// The gateway. Dropping it ends its threads.
pub(super) struct Lab {
    pub(super) gateway: Arc<Gateway>,
    scheduler: Arc<Scheduler>,
    folder: tempfile::TempDir,
}

impl Lab {
    /// Every batch is run by one of two workers.
    pub(super) async fn start(models: Vec<Made>, routes: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: String, text: &str| write(folder.path(), &path, text);
        for made in &models {
            put(format!("{}/{}/model.onnx", made.name, made.version), &made.text());
            put(format!("{}/model.toml", made.name), made.toml);
        }
        routes.iter().for_each(|(name, text)| put(format!("{name}/route.toml"), text));
        let ids: Vec<_> = models.iter().map(|made| (made.name, made.version)).collect();
        let functions = models.into_iter().map(|made| (made.text(), made.model)).collect();
        let metrics = Metrics::new();
        let options = SchedulerOptions { workers: 2, local_below: Duration::ZERO, ..SchedulerOptions::default() };
        let scheduler = Scheduler::start(options).unwrap();
        let config =
            RegistryConfig { watch: WatchMode::Off, settle: Duration::ZERO, ..RegistryConfig::new(folder.path()) };
        let engines = Engines::new(Arc::new(Functions(functions)));
        let registry = Registry::start(config, engines, Arc::clone(&scheduler), Arc::clone(&metrics)).unwrap();
        let gateway =
            Gateway::new(registry, metrics, GatewayOptions { expects_routes: true, ..GatewayOptions::default() });
        let poll_interval = Duration::from_millis(10);
        let config = RoutesConfig {
            watch: WatchMode::Poll,
            settle: Duration::ZERO,
            poll_interval,
            ..RoutesConfig::new(folder.path())
        };
        gateway.follow_routes(config).unwrap();
        let lab = Self { gateway, scheduler, folder };
        lab.until("everything is loaded", || {
            let warm = |(name, version): &(&str, u64)| {
                let version = VersionRef::Exact(Version::new(*version).unwrap());
                lab.gateway.registry().resolve(name, &version).is_ok_and(|servable| servable.lane.is_warm())
            };
            // The routes are live a moment before their keeper shows them.
            lab.gateway.started() && lab.routes().started() && ids.iter().all(warm)
        })
        .await;
        for (name, _) in routes {
            let state = lab.routes().get(name).unwrap();
            assert!(state.live.is_some(), "{name}: {:?}", state.problems);
        }
        lab
    }

    pub(super) fn routes(&self) -> &Arc<Routes> {
        self.gateway.routes().unwrap()
    }

    /// Waits until a condition holds.
    pub(super) async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < PATIENCE, "never: {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) async fn change(&self, route: &str, edit: Edit) -> Result<Changed, ChangeError> {
        let route = ModelName::parse(route).unwrap();
        let author = Author { who: "test".into(), why: "".into() };
        self.routes().change(Change { route, edit, expect: Expect::Any, author, dry_run: false }).await
    }

    pub(super) async fn ask(&self, request: InferRequest) -> Result<InferResponse, Error> {
        let mut ticket = self.gateway.begin(Protocol::Grpc);
        let answer = self.gateway.infer(request, &mut ticket).await;
        ticket.finish(answer.as_ref());
        answer
    }

    /// The value of a metric with these labels, as they are written.
    pub(super) fn metric(&self, series: &str) -> Option<f64> {
        let text = self.gateway.metrics().render();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }

    /// Listens for both protocols and for operators.
    pub(super) fn listen(&self) -> Site {
        Site::listen(Arc::clone(&self.gateway), Plan::default(), Script::default(), tempfile::tempdir().unwrap())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(routes) = self.gateway.routes() {
            routes.shutdown();
        }
        self.gateway.registry().shutdown();
        self.scheduler.shutdown();
        // The directory goes last.
        let _ = &self.folder;
    }
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A request with the input `x` [rows, 1].
pub(super) fn request(model: &str, x: &[f32]) -> InferRequest {
    let tensor = Tensor::from_vec(DType::Fp32, [x.len(), 1].as_slice().into(), x.to_vec()).unwrap();
    InferRequest {
        model: model.into(),
        version: VersionRef::Policy,
        id: "".into(),
        params: Params::default(),
        inputs: vec![NamedTensor { name: "x".into(), tensor }],
        outputs: Vec::new(),
        context: RequestContext::new(Protocol::Grpc, Instant::now()),
    }
}

/// The same with a parameter.
pub(super) fn with(mut request: InferRequest, name: &str, value: ParamValue) -> InferRequest {
    request.params.set(name, value);
    request
}

/// The same with texts as another input, one per row.
pub(super) fn with_texts(mut request: InferRequest, name: &str, texts: &[String]) -> InferRequest {
    let items: Vec<Bytes> = texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
    let tensor = Tensor::strings([texts.len()].as_slice().into(), items.into()).unwrap();
    request.inputs.push(NamedTensor { name: name.into(), tensor });
    request
}

/// The values of an output.
pub(super) fn floats(answer: &InferResponse, name: &str) -> Vec<f32> {
    let found = answer.outputs.iter().find(|output| *output.name == *name);
    found.unwrap_or_else(|| panic!("no output {name}: {answer:?}")).tensor.to_f32().unwrap()
}

/// Per row the index of the stage or arm that answered.
pub(super) fn path(answer: &InferResponse) -> Vec<usize> {
    let found = answer.outputs.iter().find(|output| &*output.name == "weir_path");
    let bytes = found.unwrap_or_else(|| panic!("no path: {answer:?}")).tensor.bytes().clone();
    let values = bytes.as_chunks::<4>().0.iter().map(|chunk| i32::from_le_bytes(*chunk));
    values.map(|value| usize::try_from(value).unwrap()).collect()
}

/// A response parameter as text.
pub(super) fn told(answer: &InferResponse, name: &str) -> Option<String> {
    answer.params.get(name).map(ToString::to_string)
}
