//! The operators that are put into a graph: they know all sizes and run a kernel. Made by the rules of this folder.

use std::sync::Arc;

use tract_onnx::tract_hir::internal::*;
use weir_kernels::{
    Activation, Added, Conv, Dense, Depthwise, MaxPool, Norm, Products, Sums, scale_rows, softmax, thin_out,
};

/// What an operator runs.
#[derive(Clone, Debug)]
pub(super) enum Kernel {
    Conv(Arc<Conv>),
    Depthwise(Arc<Depthwise>),
    Dense(Arc<Dense>),
    Products(Arc<Products>),
    Softmax(Arc<Softmax>),
    Norm(Arc<Norm>),
    MaxPool(Arc<MaxPool>),
    Sums(Sums),
    Concat(Arc<Vec<usize>>),
    Thinned(Thinned),
    /// Runs of so many numbers, each with a factor of its own.
    Scale(usize),
    /// Nothing but the activation.
    Map,
}

impl Kernel {
    /// Where what it holds is, and its bytes; `None` when that is next to nothing.
    pub(super) fn part(&self) -> Option<(usize, usize)> {
        Some(match self {
            Self::Conv(conv) => (Arc::as_ptr(conv.weights()).addr(), conv.weights().bytes()),
            Self::Depthwise(depthwise) => (Arc::as_ptr(depthwise).addr(), depthwise.bytes()),
            Self::Dense(dense) => (Arc::as_ptr(dense.weights()).addr(), dense.weights().bytes()),
            Self::Products(products) => (Arc::as_ptr(products).addr(), size_of_val(&products.places[..])),
            Self::Softmax(softmax) => (Arc::as_ptr(softmax).addr(), size_of_val(&softmax.starts[..])),
            Self::Norm(_) | Self::MaxPool(_) | Self::Sums(_) | Self::Concat(_) => return None,
            Self::Thinned(_) | Self::Scale(_) | Self::Map => return None,
        })
    }
}

/// A softmax over rows, of what is left after adding a mask.
#[derive(Debug)]
pub(super) struct Softmax {
    pub(super) len: usize,
    /// Where the numbers of the mask start, by row; empty without one.
    pub(super) starts: Vec<usize>,
}

/// Every so many of the middle of three axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thinned {
    pub(super) given: usize,
    pub(super) inner: usize,
    pub(super) step: usize,
}

/// One kernel over images, rows or all there is, with what follows it.
#[derive(Clone, Debug)]
pub(super) struct Fused {
    pub(super) kernel: Kernel,
    pub(super) activation: Activation,
    /// Images of a batch, for convolutions; 1 for the rest.
    pub(super) images: usize,
    pub(super) shape: TVec<usize>,
}

impl Fused {
    /// A kernel that is not followed by anything.
    pub(super) fn alone(kernel: Kernel, shape: &[usize]) -> Self {
        Self { kernel, activation: Activation::Linear, images: 1, shape: shape.into() }
    }

    fn image(&self, image: &[f32], other: Option<&[f32]>, out: &mut [f32]) {
        match &self.kernel {
            Kernel::Conv(conv) => conv.run(image, other, out, self.activation),
            Kernel::Depthwise(depthwise) => depthwise.run(image, out, self.activation),
            Kernel::Dense(dense) => dense.run(image, other, out, self.activation),
            Kernel::Norm(norm) => norm.run(image, out),
            Kernel::MaxPool(pool) => pool.run(image, out),
            Kernel::Sums(sums) => sums.run(image, out),
            Kernel::Thinned(Thinned { given, inner, step }) => thin_out(image, (*given, *inner), *step, out),
            Kernel::Products(products) => {
                if let Some(other) = other {
                    products.run(image, other, out);
                }
            }
            // These are run by `eval` itself.
            Kernel::Softmax(_) | Kernel::Concat(_) | Kernel::Scale(_) | Kernel::Map => {}
        }
    }

    /// What works where its input lies, which is not copied when nobody else reads it.
    fn in_place(&self, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut inputs = inputs.into_iter();
        let mut tensor = inputs.next().context("input 0: is missing")?.into_tensor();
        let mut numbers = tensor.try_as_plain_ram_mut()?;
        let numbers = numbers.as_slice_mut::<f32>()?;
        let other = inputs.next();
        let other = other.as_ref().map(|other| other.try_as_plain_ram()).transpose()?;
        let other = other.as_ref().map(|other| other.as_slice::<f32>()).transpose()?;
        match &self.kernel {
            Kernel::Softmax(kernel) => {
                let Softmax { len, starts } = &**kernel;
                softmax(numbers, *len, other.map(|numbers| Added { numbers, starts }));
            }
            Kernel::Scale(len) => scale_rows(numbers, *len, other.context("input 1: is missing")?),
            _ => self.activation.run(numbers),
        }
        Ok(tvec![tensor.into_tvalue()])
    }
}

/// Writes pieces of the inputs in turn; `lens` are the sizes of the pieces.
fn concat(inputs: &[TValue], lens: &[usize], out: &mut [f32]) -> TractResult<()> {
    let step: usize = lens.iter().sum();
    let mut start = 0;
    for (input, len) in inputs.iter().zip(lens.iter().copied()) {
        let input = input.try_as_plain_ram()?;
        let pieces = input.as_slice::<f32>()?.chunks_exact(len.max(1));
        for (out, piece) in out.chunks_exact_mut(step.max(1)).zip(pieces) {
            out[start..start + len].copy_from_slice(piece);
        }
        start += len;
    }
    Ok(())
}

impl PartialEq for Fused {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.kernel, &other.kernel) {
            (Kernel::Conv(a), Kernel::Conv(b)) => Arc::ptr_eq(a, b),
            (Kernel::Depthwise(a), Kernel::Depthwise(b)) => Arc::ptr_eq(a, b),
            (Kernel::Dense(a), Kernel::Dense(b)) => Arc::ptr_eq(a, b),
            (Kernel::Products(a), Kernel::Products(b)) => Arc::ptr_eq(a, b),
            (Kernel::Softmax(a), Kernel::Softmax(b)) => Arc::ptr_eq(a, b),
            (Kernel::Norm(a), Kernel::Norm(b)) => Arc::ptr_eq(a, b),
            (Kernel::MaxPool(a), Kernel::MaxPool(b)) => Arc::ptr_eq(a, b),
            (Kernel::Sums(a), Kernel::Sums(b)) => a == b,
            (Kernel::Concat(a), Kernel::Concat(b)) => a == b,
            (Kernel::Thinned(a), Kernel::Thinned(b)) => a == b,
            (Kernel::Scale(a), Kernel::Scale(b)) => a == b,
            (Kernel::Map, Kernel::Map) => true,
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
            Kernel::Products(_) => "WeirProducts",
            Kernel::Softmax(_) => "WeirSoftmax",
            Kernel::Norm(_) => "WeirNorm",
            Kernel::MaxPool(_) => "WeirMaxPool",
            Kernel::Sums(_) => "WeirSums",
            Kernel::Concat(_) => "WeirConcat",
            Kernel::Thinned(_) => "WeirThinned",
            Kernel::Scale(_) => "WeirScale",
            Kernel::Map => "WeirMap",
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
        if matches!(self.kernel, Kernel::Softmax(_) | Kernel::Scale(_) | Kernel::Map) {
            return self.in_place(inputs);
        }
        let mut output = Tensor::zero::<f32>(&self.shape)?;
        let mut out = output.try_as_plain_ram_mut()?;
        let out = out.as_slice_mut::<f32>()?;
        if let Kernel::Concat(lens) = &self.kernel {
            concat(&inputs, lens, out)?;
            return Ok(tvec![output.into_tvalue()]);
        }
        let image = inputs.first().context("input 0: is missing")?.try_as_plain_ram()?;
        let image = image.as_slice::<f32>()?;
        let other = inputs.get(1).map(|other| other.try_as_plain_ram()).transpose()?;
        let other = other.as_ref().map(|other| other.as_slice::<f32>()).transpose()?;
        if self.images == 1 {
            self.image(image, other, out);
            return Ok(tvec![output.into_tvalue()]);
        }
        let each = out.len() / self.images.max(1);
        let images = image.chunks_exact((image.len() / self.images.max(1)).max(1));
        for (at, (image, out)) in images.zip(out.chunks_exact_mut(each.max(1))).enumerate() {
            self.image(image, other.map(|other| &other[at * each..(at + 1) * each]), out);
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
