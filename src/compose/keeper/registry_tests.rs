//! The keeper with the real registry and the real live table: what routes name is loaded for them, stays loaded as long as they
//! name it, and start-up waits for it.

use std::{fs, path::Path, sync::Arc, time::Duration};

use super::{
    handle::{Routes, RoutesConfig},
    lab::{alone, change, put, puts, split},
};
use crate::{
    compose::{ChangeError, Edit, Expect, Tables},
    engine::fake::{FakeEngine, Script},
    observe::Metrics,
    registry::{Engines, Registry, RegistryConfig, Snapshot},
    scheduler::{Scheduler, SchedulerOptions},
    types::{Version, VersionRef},
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Site {
    dir: tempfile::TempDir,
    registry: Arc<Registry>,
    tables: Arc<Tables>,
    routes: Arc<Routes>,
}

/// A registry with versions 1 to 3 of a model, of which the newest is wanted by itself, and these routes.
fn site(script: &Script, routes: &[(&str, &str)]) -> Site {
    let dir = tempfile::tempdir().unwrap();
    for version in 1..=3 {
        let folder = dir.path().join(format!("m/{version}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("model.onnx"), format!("version {version}")).unwrap();
    }
    routes.iter().for_each(|(route, text)| put(dir.path(), route, text));
    start(dir, script)
}

fn start(dir: tempfile::TempDir, script: &Script) -> Site {
    let settle = Duration::from_millis(10);
    let metrics = Metrics::new();
    let scheduler = Scheduler::start(SchedulerOptions { workers: 1, ..SchedulerOptions::default() }).unwrap();
    let engines = Engines::new(Arc::new(FakeEngine::new(script.clone(), 2)));
    let config = RegistryConfig { settle, ..RegistryConfig::new(dir.path()) };
    let registry = Registry::start(config, engines, scheduler, Arc::clone(&metrics)).unwrap();
    let tables = Tables::new(&registry, metrics, true);
    let config = RoutesConfig { settle, ..RoutesConfig::new(dir.path()) };
    let routes = Routes::start(config, Arc::clone(&tables) as Arc<_>, Arc::clone(&registry)).unwrap();
    Site { dir, registry, tables, routes }
}

fn ready(snapshot: &Snapshot) -> Vec<u64> {
    snapshot.model("m").map_or_else(|_| Vec::new(), |m| m.ready().map(|s| s.id.version.get()).collect())
}

impl Site {
    async fn started(&self) {
        let (mut table, mut routes) = (self.tables.changed(), self.routes.changed());
        let wait = async {
            while !self.tables.load().started() {
                table.changed().await.unwrap();
            }
            while !self.routes.started() {
                routes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("start-up ends");
    }

    async fn until_ready(&self, versions: &[u64]) {
        let wait = self.registry.wait(|snapshot| ready(snapshot) == versions);
        tokio::time::timeout(PATIENCE, wait).await.expect("they are loaded, and no others");
    }

    /// The revision that requests get.
    fn answers(&self, route: &str) -> Option<u64> {
        let revision = |number| VersionRef::Exact(Version::new(number).unwrap());
        let table = self.tables.load();
        let node = table.node(route).ok()?;
        (1..100).find(|number| node.callable(&revision(*number)).is_ok())
    }
}

fn versions(text: &str, a: u64, b: u64) -> String {
    text.replace("version = \"1\"", &format!("version = \"{a}\""))
        .replace("version = \"2\"", &format!("version = \"{b}\""))
}

#[tokio::test]
async fn what_routes_name_is_loaded_for_as_long() {
    let site =
        site(&Script::default(), &[("r", &split("m", [90, 10])), ("outer", &alone("r")), ("bad", &alone("none"))]);
    site.started().await;
    assert_eq!((site.answers("r"), site.answers("outer"), site.answers("bad")), (Some(1), Some(1), None));
    assert_eq!(ready(&site.registry.snapshot()), [1, 2, 3]);
    let problems = &site.routes.get("bad").unwrap().problems;
    assert!(problems[0].starts_with("route.toml: variant[0].model: no model or route 'none'"), "{problems:?}");
    // Only the third and the first are named now.
    let put = |text: &str| change("r", puts(text), Expect::Any);
    let changed = site.routes.change(put(&versions(&split("m", [1, 1]), 1, 3))).await.unwrap();
    assert_eq!((changed.revision, changed.unloads), (2, vec!["m/2".to_owned()]));
    assert_eq!((site.answers("r"), site.answers("outer")), (Some(2), Some(1)));
    site.until_ready(&[1, 3]).await;
    // What has been unloaded is loaded again, what is not there is said.
    let changed = site.routes.change(put(&split("m", [1, 1]))).await.unwrap();
    assert_eq!((changed.revision, changed.loads), (3, vec!["m/2".to_owned()]));
    assert_eq!((site.answers("r"), ready(&site.registry.snapshot())), (Some(3), vec![1, 2, 3]));
    let result = site.routes.change(put(&versions(&split("m", [1, 1]), 1, 9))).await;
    let why = "route.toml: variant[1].version: model 'm' has no version 9, only 1, 2, 3";
    assert_eq!(result, Err(ChangeError::Refused(vec![why.to_owned()])));
    let result = site.routes.change(change("m", puts(&alone("r")), Expect::Any)).await;
    assert!(matches!(&result, Err(ChangeError::Refused(why)) if why[0].contains("a model and a route")), "{result:?}");
    assert!(!site.dir.path().join("m/route.toml").exists());
    let cycle = site.routes.change(change("r", puts(&alone("outer")), Expect::Any)).await;
    assert!(matches!(&cycle, Err(ChangeError::Refused(why)) if why[0].contains("cycle")), "{cycle:?}");
    // A version that live routes name stays when its files go.
    remove(&site.dir.path().join("m/2"));
    site.registry.look_again("m").unwrap();
    site.routes.change(change("outer", Edit::Delete, Expect::Revision(1))).await.unwrap();
    assert!(ready(&site.registry.snapshot()).contains(&2));
    site.routes.change(change("r", Edit::Delete, Expect::Revision(3))).await.unwrap();
    assert_eq!(site.answers("r"), None);
    site.until_ready(&[3]).await;
    site.routes.shutdown();
}

fn remove(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn start_up_waits_for_what_only_routes_name() {
    let script = Script::default();
    let before = site(&script, &[("r", &split("m", [90, 10]))]);
    before.started().await;
    before.routes.shutdown();
    before.registry.shutdown();
    // The second start knows the revision before any model is loaded.
    let site = start(before.dir, &script);
    assert_eq!(site.routes.get("r").unwrap().live.as_ref().unwrap().revision.number, 1);
    site.started().await;
    assert_eq!((site.answers("r"), site.routes.get("r").unwrap().problems.len()), (Some(1), 0));
    assert_eq!(ready(&site.registry.snapshot()), [1, 2, 3]);
}
