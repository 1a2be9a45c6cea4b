//! A route's configuration against what is loaded: every name looked up, every signature checked, every series at hand. Called
//! by `tables` when something changes; requests only ever see the result. The kinds' own checks are in `bodies`.

use std::sync::Arc;

use super::{
    call::{Callee, Leaf, Part},
    change::LiveRoute,
    fit::{Named, places},
    route::{Route, RouteNode},
    world::{Fit, Sources, World},
};
use crate::{
    observe::RouteSeries,
    registry::{ModelEntry, Servable},
    types::{
        Answered, Batch, ClassNames, ModelName, ModelState, PartRef, RouteKind, ServableId, Signature, TensorSpec,
        Version, VersionRef,
    },
};

/// Routes may name routes so deep.
const MAX_DEPTH: usize = 8;
/// Models and routes that one route may name in all, through all the routes that it names.
const MAX_PARTS: usize = 1024;

/// A part and what its route must know of it.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) key: String,
    pub(super) part: Part,
    pub(super) signature: Arc<Signature>,
    optional: Vec<Arc<str>>,
    max_rows: Option<usize>,
    pub(super) class_names: Arc<ClassNames>,
}

impl Draft {
    pub(super) fn named(&self) -> Named<'_> {
        Named { key: &self.key, name: &self.part.name, signature: &self.signature }
    }

    /// The version, when it is a model.
    pub(super) fn servable(&self) -> Option<&Arc<Servable>> {
        match &self.part.callee {
            Callee::Model(leaf) => Some(&leaf.servable),
            Callee::Route(_) => None,
        }
    }
}

/// Compiles the route `name`. The fit tells what is in the way when there is no route.
pub(super) fn compile(world: World<'_>, name: &ModelName) -> (Option<Arc<Route>>, Fit) {
    let mut compiler = Compiler {
        world,
        root: name,
        revision: "".into(),
        stack: Vec::new(),
        parts_left: MAX_PARTS,
        fit: Fit::default(),
        sources: Sources::default(),
    };
    let Some(live) = world.routes.get(name) else { return (None, compiler.fit) };
    if world.snapshot.models.contains_key(name) {
        compiler.problem("name", format!("'{name}' is a model and a route: rename one of them"));
    }
    compiler.revision = live.revision.number.to_string().into();
    compiler.note(name);
    let node = compiler.route(name, live, "");
    let Compiler { revision, fit, sources, .. } = compiler;
    if !fit.problems.is_empty() || !fit.waits_for.is_empty() {
        return (None, fit);
    }
    let route = node.map(|node| {
        let requests = world.metrics.requests(name.as_str(), &revision, "");
        let answered = Answered { model: name.shared(), version: revision, variant: "".into() };
        Arc::new(Route { node, live: live.clone(), answered, requests, sources })
    });
    (route, fit)
}

/// A route at the place where it is being compiled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'s> {
    pub(super) name: &'s ModelName,
    pub(super) live: &'s LiveRoute,
    /// The variant of the outermost split above it, or "".
    pub(super) above: &'s str,
}

/// One compilation, from a route down to its models.
pub(super) struct Compiler<'a> {
    pub(super) world: World<'a>,
    /// The route that is asked.
    pub(super) root: &'a ModelName,
    pub(super) revision: Arc<str>,
    /// The routes on the way down, each with the key that names the next.
    stack: Vec<(ModelName, String)>,
    parts_left: usize,
    fit: Fit,
    sources: Sources,
}

impl<'a> Compiler<'a> {
    /// Takes note of what a name stands for now.
    fn note(&mut self, name: &ModelName) {
        self.sources.note(name, self.world);
    }

    /// Notes what is wrong at `key` of the route that is being compiled.
    pub(super) fn problem(&mut self, key: &str, text: impl std::fmt::Display) {
        let place = self.place();
        self.fit.problems.push(format!("{place}{key}: {text}"));
    }

    /// As [`Compiler::problem`], with the key in the text.
    pub(super) fn said(&mut self, text: String) {
        let place = self.place();
        self.fit.problems.push(format!("{place}{text}"));
    }

    /// Where the route that is being compiled is named, when another names it.
    fn place(&self) -> String {
        self.stack.windows(2).map(|pair| format!("{}: route '{}': ", pair[0].1, pair[1].0)).collect()
    }

    /// Compiles a route at its place; `variant` is that of the outermost split above it, or "".
    fn route(&mut self, name: &ModelName, live: &LiveRoute, variant: &str) -> Option<RouteNode> {
        self.stack.push((name.clone(), String::new()));
        let before = self.fit.problems.len();
        let spec = Arc::clone(&live.spec);
        let drafts: Vec<Option<Draft>> = spec
            .parts()
            .into_iter()
            .map(|(key, part)| {
                let label = self.label(name, live, &key, variant);
                self.part(&key, part, &label)
            })
            .collect();
        // Problems of the texts themselves are said even when a part is missing; whether parts fit is only known of parts.
        let drafts: Option<Vec<Draft>> = drafts.into_iter().collect();
        let node = drafts.and_then(|drafts| self.body(Site { name, live, above: variant }, drafts));
        self.stack.pop();
        node.filter(|_| self.fit.problems.len() == before)
    }

    /// The variant that models below this part are counted under.
    fn label(&self, name: &ModelName, live: &LiveRoute, key: &str, above: &str) -> Arc<str> {
        let RouteKind::Split(split) = &live.spec.kind else { return above.into() };
        if !above.is_empty() {
            return above.into();
        }
        let index = key.strip_prefix("variant[").and_then(|rest| rest.strip_suffix(']'));
        let arm = index.and_then(|index| index.parse::<usize>().ok()).and_then(|index| split.variants.get(index));
        arm.map_or_else(|| above.into(), |arm| format!("{name}/{}", arm.name).into())
    }

    fn part(&mut self, key: &str, part: &PartRef, variant: &str) -> Option<Draft> {
        if let Some((_, way)) = self.stack.last_mut() {
            *way = key.to_owned();
        }
        let Some(left) = self.parts_left.checked_sub(1) else {
            let text = format!("names more than {MAX_PARTS} models and routes in all");
            if !self.fit.problems.iter().any(|problem| problem.ends_with(&text)) {
                self.problem(key, text);
            }
            return None;
        };
        self.parts_left = left;
        self.note(&part.name);
        let world = self.world;
        match (world.snapshot.models.get(&part.name), world.routes.get(&part.name)) {
            (Some(entry), _) => self.model(key, part, entry, variant),
            (None, Some(live)) => self.inner(key, part, live, variant),
            (None, None) if world.snapshot.started => {
                let known = world.snapshot.models.keys().chain(world.routes.keys()).map(ModelName::as_str);
                let near = crate::spec::nearest_name(part.name.as_str(), known);
                let hint = near.map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
                self.problem(&format!("{key}.model"), format!("no model or route '{}'{hint}", part.name));
                None
            }
            (None, None) => {
                self.fit.waits_for.push(part.name.to_string());
                None
            }
        }
    }

    fn inner(&mut self, key: &str, part: &PartRef, live: &LiveRoute, variant: &str) -> Option<Draft> {
        if part.version != VersionRef::Policy {
            let text =
                format!("'{}' is a route, which is always asked at its live revision: remove the key", part.name);
            self.problem(&format!("{key}.version"), text);
            return None;
        }
        let model_key = format!("{key}.model");
        if let Some(from) = self.stack.iter().position(|(name, _)| *name == part.name) {
            let mut ring: Vec<_> = self.stack.iter().skip(from).map(|(name, _)| name.as_str()).collect();
            ring.push(part.name.as_str());
            let text = format!("a cycle: {}", ring.join(" -> "));
            self.problem(&model_key, text);
            return None;
        }
        if self.stack.len() >= MAX_DEPTH {
            self.problem(&model_key, format!("routes may be {MAX_DEPTH} deep, '{}' would be deeper", part.name));
            return None;
        }
        let node = self.route(&part.name, live, variant)?;
        let optional = node.optional.clone();
        let (signature, max_rows) = (Arc::clone(&node.signature), node.max_rows);
        let class_names = Arc::clone(&node.class_names);
        let version = live.revision.number.to_string().into();
        let part = Part {
            callee: Callee::Route(Box::new(node)),
            inputs: Box::default(),
            outputs: Box::default(),
            name: part.name.shared(),
            version,
        };
        Some(Draft { key: key.to_owned(), part, signature, optional, max_rows, class_names })
    }

    fn model(&mut self, key: &str, part: &PartRef, entry: &Arc<ModelEntry>, variant: &str) -> Option<Draft> {
        let servable = self.servable(key, part, entry)?;
        let scores = servable.series.scores(variant);
        let signature = Arc::clone(&servable.signature);
        let max_rows = servable.spec.max_request_rows;
        let class_names = Arc::clone(servable.classes.names());
        let part = Part {
            name: part.name.shared(),
            version: servable.id.version.to_string().into(),
            callee: Callee::Model(Leaf { servable, scores }),
            inputs: Box::default(),
            outputs: Box::default(),
        };
        Some(Draft { key: key.to_owned(), part, signature, optional: Vec::new(), max_rows, class_names })
    }

    /// The version that a part names, or why there is none.
    fn servable(&mut self, key: &str, part: &PartRef, entry: &Arc<ModelEntry>) -> Option<Arc<Servable>> {
        let name = &part.name;
        let version = match &part.version {
            VersionRef::Policy => {
                return match entry.resolve(&VersionRef::Policy) {
                    Ok(servable) => Some(servable),
                    Err(_) => {
                        self.not_ready(&format!("{key}.model"), name.to_string(), entry, None);
                        None
                    }
                };
            }
            VersionRef::Exact(version) => *version,
            VersionRef::Label(label) => match entry.spec.labels.get(label) {
                Some(version) => *version,
                None => {
                    self.problem(&format!("{key}.version"), format!("model '{name}' has no label '{label}'"));
                    return None;
                }
            },
        };
        let id = ServableId { model: name.clone(), version };
        self.fit.needs.insert(id.clone());
        match entry.resolve(&VersionRef::Exact(version)) {
            Ok(servable) => Some(servable),
            Err(_) => {
                self.not_ready(&format!("{key}.version"), id.to_string(), entry, Some(version));
                None
            }
        }
    }

    /// Something that is there and does not answer: it is being loaded, or it was refused, or it is not there after all.
    fn not_ready(&mut self, key: &str, what: String, entry: &ModelEntry, version: Option<Version>) {
        let concerned = |known: Version| version.is_none_or(|version| version == known);
        let mut known = entry.versions.iter().filter(|known| concerned(known.version));
        let loading = known.clone().any(|known| known.state == ModelState::Loading);
        let present = version.is_some_and(|version| entry.present.contains(&version));
        let refused = known.find(|known| known.state == ModelState::Unavailable && !known.reason.is_empty());
        match (refused, version) {
            _ if loading => self.fit.waits_for.push(what),
            (Some(refused), _) => {
                let text = format!("{what} cannot be loaded: {}", refused.reason);
                self.problem(key, text);
            }
            (None, Some(_)) if present => self.fit.waits_for.push(what),
            (None, Some(version)) => {
                let there: Vec<_> = entry.present.iter().map(ToString::to_string).collect();
                let text = format!("model '{}' has no version {version}, only {}", entry.name, there.join(", "));
                self.problem(key, text);
            }
            (None, None) if entry.reason.is_empty() => self.fit.waits_for.push(what),
            (None, None) => self.problem(key, format!("model '{}' is not in order: {}", entry.name, entry.reason)),
        }
    }

    /// The limits, keys and places that every kind has in common.
    pub(super) fn common(
        &mut self,
        name: &ModelName,
        drafts: &mut [Draft],
        keys: &[Arc<str>],
        inputs: Vec<TensorSpec>,
    ) -> Common {
        let mut optional: Vec<Arc<str>> = Vec::new();
        let needed = |name: &Arc<str>| inputs.iter().any(|input| input.name == *name);
        for name in drafts.iter().flat_map(|draft| &draft.optional).chain(keys) {
            if !needed(name) && !optional.contains(name) {
                optional.push(Arc::clone(name));
            }
        }
        let slots: Vec<Arc<str>> =
            inputs.iter().map(|input| Arc::clone(&input.name)).chain(optional.iter().cloned()).collect();
        for draft in drafts.iter_mut() {
            let places = match &draft.part.callee {
                Callee::Model(_) => places(draft.signature.inputs.iter().map(|input| &input.name), &slots),
                Callee::Route(route) => places(route.slots(), &slots),
            };
            draft.part.inputs = places.unwrap_or_default();
        }
        let max_rows = drafts.iter().filter_map(|draft| draft.max_rows).min();
        let series = self.world.metrics.route(name.as_str());
        Common { inputs, optional, slots, max_rows, series }
    }

    /// All parts must agree on whether dimension 0 is rows; kinds that look at rows need them.
    pub(super) fn batch(&mut self, drafts: &[Draft], by_rows: bool) -> Batch {
        let rows = |draft: &Draft| draft.signature.batch == Batch::Rows;
        let mixed = drafts.iter().any(rows) && !drafts.iter().all(rows);
        for draft in drafts.iter().filter(|draft| !rows(draft) && (mixed || by_rows)) {
            let text = format!("'{}' has no batch dimension: rows cannot be told apart", draft.part.name);
            self.problem(&format!("{}.model", draft.key), text);
        }
        drafts.first().map_or(Batch::Rows, |draft| draft.signature.batch)
    }

    /// A model that is asked some rows of a request must answer them as it would within the request.
    pub(super) fn independent<'d>(&mut self, drafts: impl Iterator<Item = &'d Draft>) {
        for draft in drafts {
            let rows = draft.signature.batch == Batch::Rows;
            let servable = draft.servable().filter(|_| rows);
            if let Some(why) = servable.and_then(|servable| servable.merging.off_because()) {
                let text = format!("'{}' cannot be asked single rows of a request: {why}", draft.part.name);
                self.problem(&format!("{}.model", draft.key), text);
            }
        }
    }
}

/// What every compiled route has.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) optional: Vec<Arc<str>>,
    pub(super) slots: Vec<Arc<str>>,
    pub(super) max_rows: Option<usize>,
    pub(super) series: Arc<RouteSeries>,
}
