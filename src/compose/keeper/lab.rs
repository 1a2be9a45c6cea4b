//! What the keeper's tests work with: models and a table that are made up, and folders of routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    audit::Audit,
    board::Board,
    choose::Fits,
    inbox::{Inbox, Mail},
    manager::{Manager, Rules, Tools},
    seam::{Compiler, Models},
};
use crate::{
    compose::{Author, Change, ChangeError, Changed, Edit, Expect, Fit, LiveRoute, Revision, RouteSet, RouteState},
    registry::{Pins, WatchMode, Watcher},
    spec::parse_route_toml,
    types::{Error, ModelName, ServableId, VersionRef},
};

pub(super) fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

/// A split of `model` at versions 1 and 2 by these weights.
pub(super) fn split(model: &str, weights: [u32; 2]) -> String {
    let arm = |name, version, weight| {
        format!("[[variant]]\nname = \"{name}\"\nmodel = \"{model}\"\nversion = \"{version}\"\nweight = {weight}\n")
    };
    format!(
        "kind = \"split\" # by hand\nkey = [\"parameter:user\"]\n{}{}",
        arm("a", 1, weights[0]),
        arm("b", 2, weights[1])
    )
}

/// A split with one arm, whatever `model` is.
pub(super) fn alone(model: &str) -> String {
    format!("kind = \"split\"\n[[variant]]\nname = \"only\"\nmodel = \"{model}\"\nweight = 1\n")
}

/// A live route whose text says what [`checked`] makes of it.
pub(super) fn live(_route: &str, number: u64, parts: &str) -> LiveRoute {
    let author = Author { who: "t".into(), why: "".into() };
    let revision = Revision { number, at: SystemTime::UNIX_EPOCH, author, from: 0 };
    LiveRoute { revision, spec: Arc::new(parse_route_toml(&alone("m")).unwrap()), text: parts.into() }
}

pub(super) fn routes(list: &[(&str, &str)]) -> RouteSet {
    Arc::new(list.iter().map(|(route, parts)| (name(route), live(route, 1, parts))).collect())
}

/// `b?` needs a route b that is there, `!` is wrong, `~` waits.
pub(super) fn checked(set: &RouteSet) -> Fits {
    let fit = |live: &LiveRoute| {
        let mut fit = Fit::default();
        for (index, c) in live.text.char_indices() {
            match c {
                '!' => fit.problems.push("wrong".to_owned()),
                '~' => fit.waits_for.push("m/1".to_owned()),
                '?' if !set.contains_key(&live.text[index - 1..index]) => {
                    fit.problems.push(format!("no {}", &live.text[index - 1..index]));
                }
                _ => {}
            }
        }
        fit
    };
    set.iter().map(|(name, live)| (name.clone(), fit(live))).collect()
}

/// Models and the table, as the test wants them.
#[derive(Default)]
pub(super) struct World {
    /// Versions that can be loaded.
    pub(super) present: Mutex<BTreeSet<(String, u64)>>,
    /// Versions that answer.
    pub(super) loaded: Mutex<BTreeSet<(String, u64)>>,
    pub(super) starting: AtomicBool,
    pub(super) published: Mutex<Vec<(RouteSet, bool)>>,
    pub(super) pins: Mutex<Pins>,
    said: AtomicU64,
    /// Who hears that something has changed.
    pub(super) told: Mutex<Vec<Arc<Inbox>>>,
    /// Runs at the next check, as somebody who acts at that moment.
    pub(super) meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl World {
    pub(super) fn new() -> Arc<Self> {
        let world = Arc::new(Self::default());
        world.load("m", &[1, 2]);
        world
    }

    pub(super) fn load(&self, model: &str, versions: &[u64]) {
        self.offer(model, versions);
        self.loaded.lock().extend(versions.iter().map(|version| (model.to_owned(), *version)));
    }

    pub(super) fn offer(&self, model: &str, versions: &[u64]) {
        self.present.lock().extend(versions.iter().map(|version| (model.to_owned(), *version)));
    }

    pub(super) fn pinned(&self) -> Vec<String> {
        let pins = self.pins.lock();
        pins.iter().flat_map(|(model, versions)| versions.iter().map(move |v| format!("{model}/{v}"))).collect()
    }

    fn fit(&self, set: &RouteSet, live: &LiveRoute) -> Fit {
        let mut fit = Fit::default();
        let (present, loaded) = (self.present.lock(), self.loaded.lock());
        for (key, part) in live.spec.parts() {
            let model = part.name.as_str();
            let is_model = |versions: &BTreeSet<(String, u64)>| versions.iter().any(|(name, _)| name == model);
            match &part.version {
                _ if set.contains_key(model) => {}
                _ if !is_model(&present) => fit.problems.push(format!("{key}.model: no model or route '{model}'")),
                VersionRef::Exact(version) => {
                    let id = (model.to_owned(), version.get());
                    fit.needs.insert(ServableId { model: part.name.clone(), version: *version });
                    if !present.contains(&id) {
                        fit.problems.push(format!("{key}.version: model '{model}' has no version {version}"));
                    } else if !loaded.contains(&id) {
                        fit.waits_for.push(format!("{model}/{version}"));
                    }
                }
                _ if is_model(&loaded) => {}
                _ => fit.waits_for.push(model.to_owned()),
            }
        }
        fit
    }
}

impl Compiler for World {
    fn check(&self, routes: &RouteSet) -> BTreeMap<ModelName, Fit> {
        if let Some(meanwhile) = self.meanwhile.lock().take() {
            meanwhile();
        }
        routes.iter().map(|(name, live)| (name.clone(), self.fit(routes, live))).collect()
    }

    fn publish(&self, routes: RouteSet, complete: bool) {
        self.published.lock().push((routes, complete));
    }

    fn started(&self) -> bool {
        !self.starting.load(Ordering::SeqCst)
    }

    fn pins_heard(&self) -> u64 {
        self.said.load(Ordering::SeqCst)
    }
}

impl Models for World {
    fn pin(&self, pins: Pins) -> Result<u64, Error> {
        *self.pins.lock() = pins;
        let number = self.said.fetch_add(1, Ordering::SeqCst) + 1;
        self.told.lock().iter().for_each(|inbox| inbox.models());
        Ok(number)
    }
}

/// Folders of routes and a keeper without its thread.
pub(super) struct Lab {
    pub(super) dir: tempfile::TempDir,
    pub(super) world: Arc<World>,
    pub(super) manager: Manager,
}

impl Lab {
    /// A keeper that has looked at these folders once. Edits count at once.
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(route, text)| put(dir.path(), route, text));
        Self::over(dir, World::new(), Duration::ZERO)
    }

    pub(super) fn over(dir: tempfile::TempDir, world: Arc<World>, settle: Duration) -> Self {
        let mut manager = manager(dir.path(), &world, settle);
        manager.begin().unwrap();
        hear(&mut manager);
        Self { dir, world, manager }
    }

    /// The same folders after a restart.
    pub(super) fn again(self) -> Self {
        let Self { dir, world, .. } = self;
        world.published.lock().clear();
        Self::over(dir, world, Duration::ZERO)
    }

    /// Writes a file by hand, later than the revision that is there.
    pub(super) fn write(&self, route: &str, text: &str) {
        self.tick(route);
        put(self.dir.path(), route, text);
    }

    /// Removes a file by hand, later than the revision that is there.
    pub(super) fn remove(&self, route: &str) {
        self.tick(route);
        fs::remove_file(self.path(route).join("route.toml")).unwrap();
    }

    /// Waits until what is written next is younger than a route's file and revisions by the clock of the disk, which has coarse
    /// ticks: within one tick an edit cannot be told from what a writer that died has left.
    fn tick(&self, route: &str) {
        let changed = |path: &Path| fs::metadata(path).map(|meta| (meta.ctime(), meta.ctime_nsec())).ok();
        let inside = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let (folder, history) = (self.path(route), self.path(route).join(".history"));
        let last = inside(&folder).chain(inside(&history)).filter_map(|path| changed(&path)).max();
        let probe = self.dir.path().join(".probe");
        loop {
            fs::write(&probe, "").unwrap();
            if changed(&probe) > last {
                return;
            }
        }
    }

    pub(super) fn file(&self, route: &str) -> Option<String> {
        fs::read_to_string(self.path(route).join("route.toml")).ok()
    }

    pub(super) fn path(&self, route: &str) -> PathBuf {
        self.dir.path().join(route)
    }

    /// A poll.
    pub(super) fn look(&mut self) {
        look(&mut self.manager);
    }

    pub(super) fn models_change(&mut self) {
        self.manager.turn(Mail { models: true, ..Mail::default() });
        hear(&mut self.manager);
    }

    pub(super) fn state(&self, route: &str) -> Option<Arc<RouteState>> {
        self.manager.tools.board.load().states.get(route).cloned()
    }

    /// The revision that is live; 0 = the route is there and none is.
    pub(super) fn at(&self, route: &str) -> Option<u64> {
        self.state(route).map(|state| state.live.as_ref().map_or(0, |live| live.revision.number))
    }

    pub(super) fn problems(&self, route: &str) -> Vec<String> {
        self.state(route).map_or_else(Vec::new, |state| state.problems.clone())
    }

    /// What requests see.
    pub(super) fn serves(&self, route: &str) -> Option<String> {
        let published = self.world.published.lock();
        published.last().and_then(|(set, _)| set.get(route).map(|live| live.text.to_string()))
    }

    /// Asks for a change; `None` while it waits.
    pub(super) fn ask(&mut self, change: Change) -> (Option<Result<Changed, ChangeError>>, Answer) {
        ask(&mut self.manager, change)
    }

    pub(super) fn change(&mut self, route: &str, edit: Edit, expect: Expect) -> Result<Changed, ChangeError> {
        self.ask(change(route, edit, expect)).0.expect("an answer")
    }

    pub(super) fn put(&mut self, route: &str, text: &str) -> Result<Changed, ChangeError> {
        self.change(route, puts(text), Expect::Any)
    }
}

pub(super) type Answer = oneshot::Receiver<Result<Changed, ChangeError>>;

/// Asks for a change; `None` while it waits.
pub(super) fn ask(manager: &mut Manager, change: Change) -> (Option<Result<Changed, ChangeError>>, Answer) {
    let (reply, mut answer) = oneshot::channel();
    manager.turn(Mail { changes: [(change, reply)].into(), ..Mail::default() });
    hear(manager);
    (answer.try_recv().ok(), answer)
}

/// A poll.
pub(super) fn look(manager: &mut Manager) {
    manager.look(Instant::now());
    manager.turn(Mail::default());
    hear(manager);
}

/// What a keeper without a thread is told by others.
pub(super) fn hear(manager: &mut Manager) {
    loop {
        let mail = manager.tools.inbox.take(Some(Instant::now()));
        if mail.is_empty() {
            return;
        }
        manager.turn(mail);
    }
}

pub(super) fn manager(dir: &Path, world: &Arc<World>, settle: Duration) -> Manager {
    let hour = Duration::from_secs(3600);
    let audit = dir.join(".audit.jsonl");
    let rules = Rules { dir: dir.to_owned(), watch: WatchMode::Poll, poll_interval: hour, settle, patience: hour };
    let tools = Tools {
        inbox: Arc::new(Inbox::default()),
        board: Arc::new(Board::new()),
        compiler: Arc::clone(world) as Arc<dyn Compiler>,
        audit: Arc::new(Audit::new(Some(&audit)).unwrap()),
        watcher: Watcher::new(WatchMode::Off, || ()),
    };
    world.told.lock().push(Arc::clone(&tools.inbox));
    Manager::new(rules, tools, Arc::clone(world) as Arc<dyn Models>)
}

pub(super) fn put(dir: &Path, route: &str, text: &str) {
    fs::create_dir_all(dir.join(route)).unwrap();
    fs::write(dir.join(route).join("route.toml"), text).unwrap();
}

pub(super) fn change(route: &str, edit: Edit, expect: Expect) -> Change {
    let author = Author { who: "anna".into(), why: "a reason".into() };
    Change { route: name(route), edit, expect, author, dry_run: false }
}

pub(super) fn puts(text: &str) -> Edit {
    Edit::Put(parse_route_toml(text).unwrap())
}

pub(super) fn weighs(weights: &[(&str, f64)]) -> Edit {
    Edit::Weights(weights.iter().map(|(name, weight)| ((*name).into(), *weight)).collect())
}
