//! The escalation controllers that are in use. A controller outlives revisions that do not touch what it controls, and is shared
//! by all places that name its cascade: a change elsewhere must not make it forget the load. Called by `bodies`.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use parking_lot::Mutex;

use super::budget::Controller;
use crate::types::{Accept, Escalation, ModelName};

/// What a controller was made for.
#[derive(Clone, Debug, PartialEq)]
struct Purpose {
    route: ModelName,
    accept: Accept,
    escalation: Escalation,
}

/// The controllers that somebody holds.
#[derive(Debug, Default)]
pub(super) struct Controllers(Mutex<Vec<(Purpose, Weak<Controller>)>>);

impl Controllers {
    /// The controller of a cascade's first stage: the one in use, or a new one.
    pub(super) fn get(&self, route: &ModelName, accept: &Accept, escalation: Escalation) -> Arc<Controller> {
        let purpose = Purpose { route: route.clone(), accept: accept.clone(), escalation };
        let mut known = self.0.lock();
        known.retain(|(_, controller)| controller.strong_count() > 0);
        let found = known.iter().find(|(other, _)| *other == purpose).and_then(|(_, controller)| controller.upgrade());
        found.unwrap_or_else(|| {
            let at_least = accept.measure.at_least().unwrap_or(1.0);
            let controller = Arc::new(Controller::new(at_least, escalation, Instant::now()));
            known.push((purpose, Arc::downgrade(&controller)));
            controller
        })
    }
}
