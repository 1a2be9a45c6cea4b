//! The embedded engine: ONNX graphs through the tract crates. `load` reads a model from memory and types it once, `plan`
//! compiles it for one batch size with what is slow in it replaced, a session runs a plan. Called through the traits of the
//! parent module.

mod agreement;
mod dtype;
mod faster;
mod model;
mod plan;
mod probing;
mod session;
mod sizes;
mod typing;

use std::sync::Arc;

use tract_onnx::{
    Onnx,
    pb::{ModelProto, NodeProto},
    prelude::Framework as _,
};

use super::{
    Artifact, ArtifactKind, Engine, Limits, LoadError, Model, guard, onnx_fixes, onnx_ml, onnx_more, precheck, rewrite,
};
use model::TractModel;
use plan::Options;

/// The embedded engine. Cheap to clone; one per process is enough.
#[derive(Clone)]
pub struct TractEngine {
    onnx: Arc<Onnx>,
    faster: bool,
}

impl TractEngine {
    /// An engine that knows every operator of tract and those of this crate.
    pub fn new() -> Self {
        let mut onnx = tract_onnx::onnx();
        onnx_fixes::register(&mut onnx.op_register);
        onnx_more::register(&mut onnx.op_register);
        onnx_ml::register(&mut onnx.op_register);
        Self { onnx: Arc::new(onnx), faster: true }
    }

    /// The same without this crate's convolutions and products, for comparison.
    #[must_use]
    pub fn plain(self) -> Self {
        Self { faster: false, ..self }
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
            let mut proto = decode(&self.onnx, artifact)?;
            let known = |op: &str| self.onnx.op_register.0.contains_key(op);
            let runs = |node: &NodeProto| precheck::in_domain(node) && known(&node.op_type);
            let takes =
                |node: &NodeProto| precheck::in_domain(node) && (known(&node.op_type) || rewrite::knows(&node.op_type));
            rewrite::inline(&mut proto)?;
            precheck::check(&mut proto, &artifact.side_files, &takes)?;
            if rewrite::spell_out(&mut proto)? {
                precheck::check(&mut proto, &artifact.side_files, &runs)?;
            }
            proto.graph.iter_mut().for_each(rewrite::tell_apart);
            let typed = typing::typed(&self.onnx, &proto)?;
            TractModel::new(&proto, typed, Options::new(*limits, self.faster))
        })?;
        Ok(Box::new(model))
    }
}

fn decode(onnx: &Onnx, artifact: &Artifact) -> Result<ModelProto, LoadError> {
    let decoded = onnx.proto_model_for_read(&mut &artifact.bytes[..]);
    match decoded {
        Ok(proto) if proto.graph.is_some() => Ok(proto),
        // Some texts decode, to nothing.
        Ok(_) => Err(precheck::not_a_model(&artifact.bytes, "has no graph")),
        Err(error) => Err(precheck::not_a_model(&artifact.bytes, &guard::error_text(&error))),
    }
}
