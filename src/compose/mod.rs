//! Layer 6: what a name means. The [`Table`] is the one snapshot of everything that can be called; a request looks its name up
//! once and uses what it found to its end, whatever is swapped meanwhile. A [`Node`] is what a name stands for: a model, or a
//! route, which sends rows on to models and other routes.
//!
//! | file | what it is |
//! |---|---|
//! | `table`, `tables` | the snapshot, and how it follows the registry and the routes |
//! | `model`, `route` | what answers: a version of a model, a compiled revision of a route |
//! | `compile`, `bodies`, `fit`, `world` | from a route's configuration to what answers, or what is wrong with it |
//! | `calibrate`, `tails` | thresholds of a cascade with a guarantee, pure; the exact tails that it needs |
//! | `call` | what travels along with a request, and what comes back |
//! | `split`, `cascade`, `switch`, `ensemble` | the kinds of routes |
//! | `scatter`, `rows`, `join` | rows to several parts and back in order |
//! | `assign`, `gate`, `budget`, `combine` | the arithmetic of the kinds, pure |
//! | `shadow`, `difference` | a model that only watches, and how far it is off |
//! | `controllers` | escalation controllers that outlive a revision |
//! | `keeper` | follows the files of routes, and turns changes into revisions |
//! | `offline` | one route's file, for a process that serves nothing |
//! | `store` | revisions of a route on disk |
//! | `check` | the routes of a folder, checked without serving them |
//! | `change` | what operators ask of routes and are told |
//! | `sink` | where predictions go besides to their callers |

pub mod assign;
mod bodies;
pub mod budget;
pub mod calibrate;
mod call;
mod cascade;
#[cfg(test)]
mod cascade_tests;
mod change;
mod check;
pub mod combine;
mod compile;
#[cfg(test)]
mod compile_tests;
mod controllers;
mod difference;
mod ensemble;
mod fit;
pub mod gate;
mod join;
pub mod keeper;
#[cfg(test)]
mod kinds_tests;
#[cfg(test)]
mod lab;
mod model;
pub mod offline;
mod route;
mod rows;
mod scatter;
mod shadow;
mod sink;
mod split;
#[cfg(test)]
mod split_tests;
mod store;
mod switch;
mod table;
mod tables;
mod tails;
mod world;

pub use call::{Call, Facts, Reply, SplitFacts};
pub use change::{Author, Change, ChangeError, Changed, Edit, Expect, LiveRoute, Revision, RouteState};
pub use check::{Compiled, RouteFiles};
pub use keeper::{Attempt, Routes, RoutesConfig, RoutesError};
pub use model::Target;
pub use route::Route;
pub use shadow::Shadow;
pub use sink::{Prediction, PredictionSink, ScoreSink};
pub use table::{Callable, ModelNode, Node, RouteSlot, Table};
pub use tables::Tables;
pub use world::{Fit, RouteSet};
