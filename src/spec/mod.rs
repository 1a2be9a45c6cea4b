//! Layer 2: configuration text to types, each problem with its line, column, key and the nearest known key. Uses only `types`;
//! reads no files. The registry and the command line hand it text.
//!
//! | file | what it reads |
//! |---|---|
//! | [`model_toml`] | `model.toml`, a model's configuration |
//! | [`partial`] | what such a file sets, key by key |
//! | [`problem`] | what is wrong and where |
//! | `toml_reader` | TOML key by key, collecting problems |
//! | `nearest` | the known key that a mistyped one stands for |

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
mod toml_reader;
pub mod weir_toml;

pub use model_toml::parse_model_toml;
pub use problem::Problem;
