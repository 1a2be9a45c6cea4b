//! A gateway as a process of its own: the real binary on a registry made of fixtures, on any free ports, stopped by SIGTERM and
//! killed when a test ends early. Used by every module that tests the whole.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, Http};

/// Start-up of a debug build with dozens of models on a busy machine stays far below.
const START: Duration = Duration::from_secs(60);
/// For conditions that hold in well under a second when the machine has nothing else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any drain deadline in these tests.
const STOP: Duration = Duration::from_secs(40);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// A file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// `tests/fixtures/<name>`, as a source for [`Registry::model`].
pub(crate) fn fixture(name: &str) -> String {
    format!("tests/fixtures/{name}")
}

/// Waits until `look` finds something.
pub(crate) async fn until<T>(what: &str, patience: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < patience, "never: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// A registry directory that a test may change. Clones are the same directory, for several gateways over it.
#[derive(Clone)]
pub(crate) struct Registry(Arc<TempDir>);

impl Registry {
    /// Copies of models: (name, folder of this repository with version folders in it).
    pub(crate) fn new<S: AsRef<str>>(models: &[(&str, S)]) -> Self {
        let registry = Self(Arc::new(tempfile::tempdir().unwrap()));
        for (name, source) in models {
            registry.model(name, source.as_ref());
        }
        registry
    }

    /// A copy of the demo registry: every model, and every route at its first revision.
    pub(crate) fn demo() -> Self {
        let folders = fs::read_dir(repository("models")).unwrap().map(|entry| entry.unwrap());
        let folders = folders.filter(|entry| entry.path().is_dir() && entry.file_name() != "__pycache__");
        let names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
        let models: Vec<_> = names.iter().map(|name| (name.as_str(), format!("models/{name}"))).collect();
        Self::new(&models)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn model(&self, name: &str, source: &str) {
        copy(&repository(source), &self.path().join(name));
    }

    /// Writes a file below the registry, with its folders.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Publishes a version as a careful person does: copied beside its place, then renamed.
    pub(crate) fn publish(&self, name: &str, version: u64, model: &Path) {
        let hidden = self.path().join(name).join(format!(".{version}"));
        fs::create_dir_all(&hidden).unwrap();
        fs::copy(model, hidden.join("model.onnx")).unwrap();
        fs::rename(&hidden, self.path().join(name).join(version.to_string())).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
            let entry = entry.unwrap();
            // Revisions that a gateway made of the routes in place; a copy counts its own.
            if entry.file_name() != ".history" {
                copy(&entry.path(), &to.join(entry.file_name()));
            }
        }
    } else {
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

/// A running gateway.
pub(crate) struct Weir {
    child: Child,
    work: TempDir,
    pub(crate) registry: Registry,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) ops: SocketAddr,
}

#[derive(Deserialize)]
struct Ready {
    http: SocketAddr,
    grpc: SocketAddr,
    ops: SocketAddr,
}

impl Weir {
    /// A gateway over copies of models, and when its start-up has ended.
    pub(crate) async fn start<S: AsRef<str>>(models: &[(&str, S)], flags: &[&str]) -> Self {
        Self::serve(Registry::new(models), flags).await
    }

    /// A gateway over fixtures under their own names.
    pub(crate) async fn fixtures(names: &[&str], flags: &[&str]) -> Self {
        let models: Vec<_> = names.iter().map(|name| (*name, fixture(name))).collect();
        Self::start(&models, flags).await
    }

    pub(crate) async fn serve(registry: Registry, flags: &[&str]) -> Self {
        Self::serve_as(registry, flags, |_| {}).await
    }

    /// A gateway that is started differently: with another environment.
    pub(crate) async fn serve_as(registry: Registry, flags: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let work = tempfile::tempdir().unwrap();
        let ready_file = work.path().join("ready.json");
        let log = |name: &str| fs::File::create(work.path().join(name)).unwrap();
        let mut command = weir();
        command.arg("serve").arg(registry.path()).args(["--http-port", "0", "--grpc-port", "0", "--ops-port", "0"]);
        command.arg("--ready-file").arg(&ready_file).args(flags).current_dir(work.path());
        change(&mut command);
        let mut child = command.stdout(log("stdout")).stderr(log("stderr")).spawn().unwrap();
        let began = Instant::now();
        let ready = loop {
            // The file comes by rename: it is there whole or not at all.
            if let Ok(text) = fs::read_to_string(&ready_file) {
                break serde_json::from_str::<Ready>(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            }
            let ended = child.try_wait().unwrap();
            if ended.is_some() || began.elapsed() > START {
                drop(child.kill());
                panic!("did not start ({ended:?}):\n{}", logs(work.path()));
            }
            tokio::time::sleep(LOOK).await;
        };
        Self { child, work, registry, http: ready.http, grpc: ready.grpc, ops: ready.ops }
    }

    /// A caller with connections of its own.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.http, self.grpc)
    }

    /// Everything written to standard output and standard error so far.
    pub(crate) fn logs(&self) -> String {
        logs(self.work.path())
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// SIGKILL: the process ends wherever it is.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the end of the process. Nothing in it may have panicked.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.ended().await
    }

    /// Waits for the end of the process. Nothing in it may have panicked.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.check_logs();
                return status;
            }
            assert!(began.elapsed() < STOP, "still running:\n{}", self.logs());
            tokio::time::sleep(LOOK).await;
        }
    }

    fn check_logs(&self) {
        let logs = self.logs();
        // As the log says it, and as the standard hook would.
        let panicked = ["\"message\":\"panicked", "panicked at"].iter().any(|words| logs.contains(words));
        assert!(!panicked, "{logs}");
    }

    /// All metrics at one moment.
    pub(crate) async fn metrics(&self) -> Metrics {
        let reply = Http::new(self.ops).get("/metrics").await;
        assert_eq!(reply.status, 200);
        Metrics::parse(std::str::from_utf8(&reply.body).unwrap())
    }

    /// Waits until a model's batch sizes are compiled.
    pub(crate) async fn warm(&self, model: &str) {
        until("batch sizes are compiled", Duration::from_secs(60), async || {
            let seen = self.ops_model(model).await;
            let versions = seen["versions"].as_array().cloned().unwrap_or_default();
            let warm = !versions.is_empty() && versions.iter().all(|version| version["batching"]["warm"] == true);
            warm.then_some(())
        })
        .await;
    }

    /// What operators see of a model.
    pub(crate) async fn ops_model(&self, name: &str) -> Value {
        Http::new(self.ops).get(&format!("/ops/models/{name}")).await.json()
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            let logs = self.logs();
            let start = logs.char_indices().rev().nth(6000).map_or(0, |(at, _)| at);
            eprintln!("the server's last words:\n{}", &logs[start..]);
        } else {
            self.check_logs();
        }
    }
}

fn logs(work: &Path) -> String {
    let read = |name| fs::read(work.join(name)).unwrap_or_default();
    String::from_utf8_lossy(&[read("stdout"), read("stderr")].concat()).into_owned()
}

/// The binary, without what the environment of the test would tell it.
pub(crate) fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WEIR_")) {
        command.env_remove(name);
    }
    // Which of two engines is faster depends on the machine.
    command.env("WEIR_ONNXRUNTIME_LIB", "off").stdin(Stdio::null());
    command
}

/// One scrape.
pub(crate) struct Metrics(Vec<(String, BTreeMap<String, String>, f64)>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').unwrap();
            // No label value in these tests has a comma or a quote in it.
            let pairs = labels.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
                let (label, value) = pair.split_once('=').unwrap();
                (label.to_owned(), value.trim_matches('"').to_owned())
            });
            (name.to_owned(), pairs.collect(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        };
        Self(lines.map(sample).collect())
    }

    /// The sum of the series of a name that have these labels; 0 when there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| found.get(*label).is_some_and(|found| found == value))
        };
        self.0.iter().filter(|(series, found, _)| series == name && has(found)).map(|(.., value)| value).sum()
    }
}
