//! A keeper of one split that does what it is told: what the ops API of routes is tested with.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use crate::transport::ops::routes::Keeper;
use crate::{
    compose::{Author, Change, ChangeError, Changed, Edit, Expect, LiveRoute, Revision, RouteState},
    spec::parse_route_toml,
    types::ModelName,
};

pub(in crate::transport::ops) const TOML: &str = r#"kind = "split"
key = ["parameter:user_id"]
[[variant]]
name = "control"
model = "fraud"
version = 1
weight = 90
[[variant]]
name = "candidate"
model = "fraud"
version = 2
weight = 10
"#;

/// Keeps `checkout` at a revision, and what was asked of it.
pub(in crate::transport::ops) struct Fake {
    pub(in crate::transport::ops) state: Mutex<Option<RouteState>>,
    pub(in crate::transport::ops) asked: Mutex<Vec<Change>>,
    /// Others who change the route before this many changes are looked at.
    pub(in crate::transport::ops) rivals: Mutex<u64>,
    /// What the next change is refused with.
    pub(in crate::transport::ops) refuse: Mutex<Option<ChangeError>>,
}

pub(in crate::transport::ops) fn at_revision(number: u64) -> RouteState {
    let author = Author { who: "ann".into(), why: "first look".into() };
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_631_000_250);
    let live = LiveRoute {
        revision: Revision { number, at, author, from: number - 1 },
        spec: Arc::new(parse_route_toml(TOML).unwrap()),
        text: TOML.into(),
    };
    let name = ModelName::parse("checkout").unwrap();
    RouteState { name, live: Some(live), problems: Vec::new(), writable: true }
}

impl Fake {
    pub(in crate::transport::ops) fn at(revision: u64) -> Self {
        let state = Mutex::new(Some(at_revision(revision)));
        Self { state, asked: Mutex::default(), rivals: Mutex::default(), refuse: Mutex::default() }
    }

    pub(in crate::transport::ops) fn empty() -> Self {
        let fake = Self::at(1);
        *fake.state.lock().unwrap() = None;
        fake
    }

    pub(in crate::transport::ops) fn live(&self) -> Option<u64> {
        Some(self.state.lock().unwrap().as_ref()?.live.as_ref()?.revision.number)
    }

    pub(in crate::transport::ops) fn asked(&self) -> Change {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

impl Keeper for Fake {
    fn list(&self) -> Vec<Arc<RouteState>> {
        self.state.lock().unwrap().iter().cloned().map(Arc::new).collect()
    }

    fn get(&self, name: &str) -> Option<Arc<RouteState>> {
        self.list().into_iter().find(|state| state.name.as_str() == name)
    }

    fn history(&self, name: &str) -> Result<Vec<Revision>, ChangeError> {
        let live = self.get(name).and_then(|state| Some(state.live.as_ref()?.revision.clone()));
        let live = live.ok_or_else(|| ChangeError::NotFound(format!("route '{name}': not found")))?;
        Ok(vec![Revision { number: 1, from: 0, ..live.clone() }, live])
    }

    fn revision(&self, name: &str, number: u64) -> Result<(Revision, String), ChangeError> {
        let found = self.history(name)?.into_iter().find(|revision| revision.number == number);
        let missing = || ChangeError::NotFound(format!("route '{name}': no revision {number}"));
        found.map(|revision| (revision, TOML.to_owned())).ok_or_else(missing)
    }

    async fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        self.asked.lock().unwrap().push(change.clone());
        if let Some(error) = self.refuse.lock().unwrap().take() {
            return Err(error);
        }
        let rivals = self.rivals.lock().unwrap().checked_sub(1);
        if let Some(rivals) = rivals {
            *self.rivals.lock().unwrap() = rivals;
            *self.state.lock().unwrap() = Some(at_revision(self.live().unwrap_or(0) + 1));
        }
        let live = self.live();
        let holds = match change.expect {
            Expect::Any => true,
            Expect::Absent => live.is_none(),
            Expect::Revision(revision) => live == Some(revision),
        };
        if !holds {
            return Err(ChangeError::Stale { text: format!("route '{}': changed", change.route), live });
        }
        let revision = live.unwrap_or(0) + 1;
        if !change.dry_run {
            *self.state.lock().unwrap() = (change.edit != Edit::Delete).then(|| at_revision(revision));
        }
        let weights = vec![("control".into(), 80.0), ("candidate".into(), 20.0)];
        let (loads, unloads, problems) = (vec!["fraud/3".to_owned()], Vec::new(), Vec::new());
        Ok(Changed { route: change.route, revision, weights, moved: 0.1, loads, unloads, problems })
    }
}
