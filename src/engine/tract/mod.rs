//! The embedded engine: ONNX graphs through the tract crates. `load` reads a model from memory and types it once, `plan`
//! compiles it for one batch size, a session runs a plan. Called through the traits of the parent module.

mod dtype;
mod guard;
mod model;
mod plan;
mod typing;

use std::sync::Arc;

use tract_onnx::{Onnx, pb::ModelProto, prelude::Framework as _};

use super::{Artifact, ArtifactKind, Engine, Limits, LoadError, Model};
use model::TractModel;

/// The embedded engine. Cheap to clone; one per process is enough.
#[derive(Clone)]
pub struct TractEngine {
    onnx: Arc<Onnx>,
}

impl TractEngine {
    /// An engine that knows every operator of tract and those of this crate.
    pub fn new() -> Self {
        Self { onnx: Arc::new(tract_onnx::onnx()) }
    }
}

impl Default for TractEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine for TractEngine {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn load(&self, artifact: &Artifact, limits: &Limits) -> Result<Box<dyn Model>, LoadError> {
        let ArtifactKind::Onnx = artifact.kind;
        let model = guard::on_big_stack("model", || {
            let proto = decode(&self.onnx, artifact)?;
            let typed = typing::typed(&self.onnx, &proto)?;
            TractModel::new(&proto, typed, *limits)
        })?;
        Ok(Box::new(model))
    }
}

fn decode(onnx: &Onnx, artifact: &Artifact) -> Result<ModelProto, LoadError> {
    onnx.proto_model_for_read(&mut &artifact.bytes[..])
        .map_err(|error| LoadError::new(format!("model: not an ONNX file: {}", guard::error_text(&error))))
}
