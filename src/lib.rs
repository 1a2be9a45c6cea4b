//! Weir: a high-throughput inference serving gateway.
//!
//! Models are ONNX files in a registry directory. They run in-process and are served over gRPC and HTTP (Open Inference
//! Protocol v2) with dynamic batching. With `default-features = false` this crate is the same gateway as a library.
//!
//! Folders are layers; each may use only those above it in this list:
//!
//! | layer | what it knows |
//! |---|---|
//! | [`types`] | the nouns: names, tensors, signatures, requests, errors |
//! | [`observe`] | metrics, histograms, logs |
//! | [`spec`] | configuration text to types |
//! | [`engine`] | loads and runs graphs |
//! | [`scheduler`] | many requests into one batch |
//! | [`registry`] | which models exist, are loaded, are swapped |
//! | [`compose`] | the one snapshot that names resolve in |
//! | [`gateway`] | the one door for every protocol and for embedding |
//! | `protocol` | wire format to types, pure |
//! | `transport` | sockets, listeners, handlers |
//! | `app`, `cli`, `shutdown` | putting it together |

pub mod compose;
pub mod engine;
pub mod gateway;
pub mod observe;
pub mod registry;
pub mod scheduler;
pub mod spec;
pub mod types;

#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod protocol;
#[cfg(feature = "server")]
pub mod shutdown;
#[cfg(feature = "server")]
pub mod transport;

// Raw tensors are little-endian on the wire and are handed to engines as they are.
const _: () = assert!(cfg!(target_endian = "little"), "weir supports little-endian machines only");
