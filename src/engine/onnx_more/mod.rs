//! Standard operators that the graph library does not have. Called once, by `TractEngine::new`.

use tract_onnx::model::OnnxOpRegister;

/// Adds our operators.
pub(super) fn register(_: &mut OnnxOpRegister) {}
