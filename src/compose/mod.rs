//! Layer 6: what a name means. The [`Table`] is the one snapshot of everything that can be called; a request looks its name up
//! once and uses what it found to its end, whatever is swapped meanwhile. A [`Node`] is what a name stands for.

pub mod assign;
pub mod budget;
pub mod calibrate;
mod change;
pub mod combine;
mod difference;
pub mod gate;
mod model;
mod shadow;
mod sink;
#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "what follows the files is not there yet"))]
mod store;
mod table;
mod tails;

pub use change::{Author, Change, ChangeError, Changed, Edit, Expect, LiveRoute, Revision, RouteState};
pub use model::Target;
pub use shadow::Shadow;
pub use sink::{Prediction, PredictionSink, ScoreSink};
pub use table::{ModelNode, Node, Table};
