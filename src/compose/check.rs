//! The routes of a folder, checked without serving them: for `weir check` and for tools that need one route and its models.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::SystemTime};

use super::{
    change::{Author, LiveRoute, Revision},
    compile::compile,
    controllers::Controllers,
    route::Route,
    store::{FileText, Store},
    world::{RouteSet, World},
};
use crate::{
    observe::Metrics,
    registry::{Named, Problem, Snapshot, scan, source::ROUTE_TOML},
    spec::parse_route_toml,
    types::{ModelName, VersionRef},
};

/// The routes of a folder, as far as their texts are in order.
#[derive(Debug, Default)]
pub struct RouteFiles {
    /// Those whose text is in order, as revision 1.
    pub routes: RouteSet,
    /// What is wrong with the others.
    pub problems: Vec<Problem>,
}

/// A route, or what is wrong with it.
pub type Compiled = Result<Arc<Route>, Vec<String>>;

impl RouteFiles {
    /// Reads every `route.toml` below `root`.
    ///
    /// # Errors
    /// When the folder itself cannot be read.
    pub fn read(root: &Path) -> std::io::Result<Self> {
        let mut routes = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, folder) in scan(root)?.routes {
            match read(&folder) {
                Ok(live) => {
                    routes.insert(name, live);
                }
                Err(texts) => {
                    problems.extend(texts.into_iter().map(|text| Problem { model: Some(name.clone()), text }));
                }
            }
        }
        Ok(Self { routes: Arc::new(routes), problems })
    }

    /// The models that the routes name, and the versions that they name by number.
    pub fn named(&self) -> Named {
        let mut named = Named::default();
        for (_, part) in self.routes.values().flat_map(|live| live.spec.parts()) {
            named.names.insert(part.name.clone());
            if let VersionRef::Exact(version) = part.version {
                named.pins.entry(part.name.clone()).or_default().insert(version);
            }
        }
        named
    }

    /// Compiles every route against what is loaded: its name, and it or what is wrong with it.
    pub fn compile(&self, loaded: &Snapshot, metrics: &Metrics) -> Vec<(ModelName, Compiled)> {
        let controllers = Controllers::default();
        let world = World { snapshot: loaded, routes: &self.routes, metrics, controllers: &controllers };
        let one = |name: &ModelName| {
            let (route, fit) = compile(world, name);
            let waits = fit.waits_for.iter().map(|what| format!("{what} is not loaded"));
            let problems = fit.problems.iter().cloned().chain(waits).map(|text| format!("{ROUTE_TOML}: {text}"));
            (name.clone(), route.ok_or_else(|| problems.collect()))
        };
        self.routes.keys().map(one).collect()
    }
}

/// What a route's folder says, read as the keeper reads it.
fn read(folder: &Path) -> Result<LiveRoute, Vec<String>> {
    let text = match Store::new(folder.to_owned()).text() {
        Ok(FileText::Text(text)) => text,
        Ok(FileText::Absent) => return Err(vec![format!("{ROUTE_TOML}: not found")]),
        Ok(FileText::Wrong(why)) => return Err(vec![why]),
        Err(error) => return Err(vec![format!("{ROUTE_TOML}: {error}")]),
    };
    let spec = parse_route_toml(&text)
        .map_err(|problems| problems.iter().map(|problem| format!("{ROUTE_TOML}: {problem}")).collect::<Vec<_>>())?;
    let author = Author { who: "file".into(), why: "".into() };
    let revision = Revision { number: 1, at: SystemTime::UNIX_EPOCH, author, from: 0 };
    Ok(LiveRoute { revision, spec: Arc::new(spec), text })
}
