//! Layer 2: configuration text to types, each problem with its line, column, key and the nearest known key. Uses only `types`;
//! reads no files. The registry and the command line hand it text.
//!
//! | file | what it reads |
//! |---|---|
//! | [`model_toml`] | `model.toml`, a model's configuration |
//! | [`config_pbtxt`] | Triton's `config.pbtxt`; `pbtxt_scan` walks it ahead of the parser, `pbtxt_raw` parses it |
//! | [`merge`] | both together: who wins, what is hidden |
//! | [`declared`] | declared inputs and outputs against those of a model |
//! | [`labels`] | class names |
//! | [`golden_json`] | answers that a version must give; `json_elements` reads their tensors |
//! | [`manifest_json`] | digests of a version's files |
//! | [`route_toml`] | `route.toml`, a route's configuration |
//! | `route_keys` | its keys by kind |
//! | `route_split`, `route_cascade`, `route_switch`, `route_ensemble` | what only one kind has |
//! | [`route_text`], [`route_json`] | a route as text and as JSON; JSON as a route |
//! | [`route_edit`] | edits of a `route.toml` that keep its comments |
//! | [`weir_toml`] | the server's configuration |
//! | [`partial`] | what a configuration file sets, key by key |
//! | [`problem`] | what is wrong and where |
//! | `toml_reader`, `toml_tables` | TOML key by key; tables within tables |
//! | `json_text` | JSON errors with a place |
//! | `nearest` | the known key or name that a mistyped one stands for |

pub mod config_pbtxt;
pub mod declared;
pub mod golden_json;
mod json_elements;
mod json_text;
pub mod labels;
pub mod manifest_json;
pub mod merge;
pub mod model_toml;
mod nearest;
pub mod partial;
mod pbtxt_raw;
mod pbtxt_scan;
pub mod problem;
mod route_cascade;
pub mod route_edit;
mod route_ensemble;
pub mod route_json;
mod route_keys;
mod route_split;
mod route_switch;
pub mod route_text;
pub mod route_toml;
mod toml_reader;
mod toml_tables;
pub mod weir_toml;

#[cfg(test)]
mod docs_tests;
#[cfg(test)]
mod route_samples;

pub use merge::{ModelFiles, read_model_files};
pub use model_toml::parse_model_toml;
pub use nearest::nearest_name;
pub use problem::Problem;
pub use route_edit::{with_calibration, with_weights};
pub use route_json::{route_from_json, route_to_json};
pub use route_text::route_to_toml;
pub use route_toml::parse_route_toml;
