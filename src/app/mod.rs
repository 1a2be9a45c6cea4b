//! Layer 10: puts the layers together. [`App::start`] binds the addresses and builds the layers bottom-up, [`App::run`] serves
//! until a signal and takes them down in the order that loses nothing. Called by the command line.

mod descriptors;
mod engines;
mod options;
pub mod probe;
mod ready_file;
mod start;

pub use engines::{engines, engines_and_library};
pub use options::{LogFormat, ModelControl, ServeOptions, Watch};
pub use start::{Addresses, App, StartError};
