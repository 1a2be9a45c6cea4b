//! An operator of the library's that infers types and shapes as ever, perhaps after a check, and puts other nodes into the
//! typed graph. Used by the operators here that only have that to mend.

use std::fmt;

use tract_onnx::tract_hir::internal::*;

/// What nodes that were added give.
pub(super) type Wired = TractResult<TVec<OutletId>>;

/// What is put into the typed graph.
pub(super) trait Rewire: Clone + fmt::Debug + Send + Sync + 'static {
    /// What has to hold before the library looks at the inputs.
    ///
    /// # Errors
    /// When there are too few of them.
    fn require<'r, 'p: 'r, 's: 'r>(&'s self, _: &mut Solver<'r>, _: &'p [TensorProxy]) -> InferenceResult {
        Ok(())
    }

    /// Adds the nodes for `inputs` under names that begin with `prefix`; `original` knows the library's way.
    ///
    /// # Errors
    /// When it cannot take these inputs.
    fn wire(&self, original: &dyn Expansion, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> Wired;
}

/// An operator with other nodes.
pub(super) fn amended(original: Box<dyn Expansion>, rewire: impl Rewire) -> Box<dyn InferenceOp> {
    expand(Amended { original, rewire })
}

#[derive(Clone, Debug)]
struct Amended<R> {
    original: Box<dyn Expansion>,
    rewire: R,
}

impl<R: Rewire> Expansion for Amended<R> {
    fn name(&self) -> StaticName {
        self.original.as_ref().name()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.original.as_ref().nboutputs()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.rewire.require(s, inputs)?;
        self.original.as_ref().rules(s, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        self.rewire.wire(self.original.as_ref(), prefix, model, inputs)
    }
}
