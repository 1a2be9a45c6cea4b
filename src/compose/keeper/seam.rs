//! What the keeper needs of others: somebody who says whether routes fit what is loaded and makes them live, and somebody who
//! keeps versions loaded. The live table and the registry are these; tests make up their own.

use std::collections::BTreeMap;

use crate::{
    compose::{Fit, RouteSet, Tables},
    registry::{Pins, Registry},
    types::{Error, ModelName},
};

/// Compiles routes against what is loaded, and makes them live.
pub trait Compiler: Send + Sync {
    /// How each of these routes would get on. Changes nothing.
    fn check(&self, routes: &RouteSet) -> BTreeMap<ModelName, Fit>;

    /// Makes these the routes. When it returns, every request that begins sees them. `complete` says that what was there at
    /// start-up has been accepted or refused; it stays true.
    fn publish(&self, routes: RouteSet, complete: bool);

    /// Every model that was wanted at start-up has been loaded or refused: what does not fit now is wrong.
    fn started(&self) -> bool;

    /// The number of the last [`Models::pin`] that what is checked against reflects.
    fn pins_heard(&self) -> u64;
}

/// Keeps versions of models loaded.
pub trait Models: Send + Sync {
    /// Versions that live routes name, and versions that routes need before they can become live. Replaces what was said before.
    /// Returns a number, which grows, by which one can tell that it has been heard.
    ///
    /// # Errors
    /// `Overloaded`, `Unavailable` when ending.
    fn pin(&self, pins: Pins) -> Result<u64, Error>;
}

impl Models for Registry {
    fn pin(&self, pins: Pins) -> Result<u64, Error> {
        Registry::pin(self, pins)
    }
}

impl Compiler for Tables {
    fn check(&self, routes: &RouteSet) -> BTreeMap<ModelName, Fit> {
        Tables::check(self, routes)
    }

    fn publish(&self, routes: RouteSet, complete: bool) {
        Tables::publish(self, routes, complete);
    }

    fn started(&self) -> bool {
        self.models_started()
    }

    fn pins_heard(&self) -> u64 {
        Tables::pins_heard(self)
    }
}
