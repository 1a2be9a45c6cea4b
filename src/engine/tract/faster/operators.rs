//! The operators that are put into a graph: they know all sizes and run a kernel. Made by `convolution` and `product`.

use std::sync::Arc;

use tract_onnx::tract_hir::internal::*;

use weir_kernels::{Activation, Conv, Dense, Depthwise};

/// A kernel that works on one piece of its input after the other.
#[derive(Clone, Debug)]
pub(super) enum Kernel {
    Conv(Arc<Conv>),
    Depthwise(Arc<Depthwise>),
    Dense(Arc<Dense>),
}

impl Kernel {
    /// Where its weights are, and their bytes.
    pub(super) fn part(&self) -> (usize, usize) {
        match self {
            Kernel::Conv(conv) => (Arc::as_ptr(conv.weights()).addr(), conv.weights().bytes()),
            Kernel::Depthwise(depthwise) => (Arc::as_ptr(depthwise).addr(), depthwise.bytes()),
            Kernel::Dense(dense) => (Arc::as_ptr(dense.weights()).addr(), dense.weights().bytes()),
        }
    }
}

/// One kernel over images or rows, with what follows it.
#[derive(Clone, Debug)]
pub(super) struct Fused {
    pub(super) kernel: Kernel,
    pub(super) activation: Activation,
    /// Images of a batch; 1 for rows.
    pub(super) images: usize,
    pub(super) shape: TVec<usize>,
}

impl PartialEq for Fused {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.kernel, &other.kernel) {
            (Kernel::Conv(a), Kernel::Conv(b)) => Arc::ptr_eq(a, b),
            (Kernel::Depthwise(a), Kernel::Depthwise(b)) => Arc::ptr_eq(a, b),
            (Kernel::Dense(a), Kernel::Dense(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        same && self.activation == other.activation && self.shape == other.shape
    }
}

impl Eq for Fused {}

impl Op for Fused {
    fn name(&self) -> StaticName {
        match self.kernel {
            Kernel::Conv(_) => "WeirConv",
            Kernel::Depthwise(_) => "WeirDepthwise",
            Kernel::Dense(_) => "WeirDense",
        }
        .into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{:?}", self.activation)])
    }

    op_as_typed_op!();
}

impl EvalOp for Fused {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut output = Tensor::zero::<f32>(&self.shape)?;
        let image = inputs.first().context("input 0: is missing")?.try_as_plain_ram()?;
        let image = image.as_slice::<f32>()?;
        let other = inputs.get(1).map(|other| other.try_as_plain_ram()).transpose()?;
        let other = other.as_ref().map(|other| other.as_slice::<f32>()).transpose()?;
        let mut out = output.try_as_plain_ram_mut()?;
        let out = out.as_slice_mut::<f32>()?;
        let each = out.len() / self.images.max(1);
        let images = image.chunks_exact((image.len() / self.images.max(1)).max(1));
        for (at, (image, out)) in images.zip(out.chunks_exact_mut(each.max(1))).enumerate() {
            let other = other.map(|other| &other[at * each..(at + 1) * each]);
            match &self.kernel {
                Kernel::Conv(conv) => conv.run(image, other, out, self.activation),
                Kernel::Depthwise(depthwise) => depthwise.run(image, out, self.activation),
                Kernel::Dense(dense) => dense.run(image, out, self.activation),
            }
        }
        Ok(tvec![output.into_tvalue()])
    }
}

impl TypedOp for Fused {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec![f32::fact(&self.shape)])
    }

    as_op!();
}
