//! Convolutions of 32-bit floats over images or series, channels first. Called by the parent.

use std::sync::Arc;

use tract_onnx::tract_core::ops::{
    cnn::{Conv, KernelFormat, PoolSpec},
    nn::DataFormat,
};
use tract_onnx::tract_hir::internal::*;

use super::{
    MAX_SCRATCH, Replaced,
    follow::Chain,
    operators::{Fused, Kernel},
    packings::{Form, Packings},
    patch,
};
use weir_kernels::{self as kernels, ConvWeights, Depthwise, Window, WindowAxis};

/// Output channels of a group below which the matrix kernel would mostly multiply by nothing.
const MIN_OUTPUTS: usize = 4;

/// Replaces a convolution and what follows it.
///
/// # Errors
/// When the graph does not hold together.
pub(super) fn replace(packings: &Packings, graph: &TypedModel, node: &TypedNode, op: &Conv) -> Replaced {
    let Some(seen) = See::new(graph, node, op)? else { return Ok(None) };
    if seen.window.scratch_len(op.input_channels()) > MAX_SCRATCH {
        return Ok(None);
    }
    let channel_axis = seen.shape.len() - op.pool_spec.rank() - 1;
    let mut chain = Chain::new(graph, node, channel_axis..channel_axis + 1, seen.bias.clone());
    let depthwise = op.group == op.output_channels() && op.group == op.input_channels() && op.group > 1;
    chain.follow(!depthwise)?;
    let kernel = if depthwise {
        let weights = seen.weights.try_as_plain_ram()?;
        Kernel::Depthwise(Arc::new(Depthwise::new(seen.axes, weights.as_slice::<f32>()?, &chain.bias)))
    } else if op.output_channels() / op.group >= MIN_OUTPUTS && kernels::has_wide_vectors() {
        let form = Form { axes: (0..seen.weights.rank()).collect(), groups: op.group };
        let outputs = op.output_channels() / op.group;
        let pack = |weights: &[f32]| ConvWeights::new(weights, op.group, outputs);
        let weights = packings.conv(&seen.weights, form, pack)?;
        Kernel::Conv(Arc::new(kernels::Conv::new(seen.window, weights, chain.bias.clone())))
    } else {
        return Ok(None);
    };
    let fused = Fused { kernel, activation: chain.activation, images: seen.images, shape: seen.shape };
    patch(graph, &chain.inputs(node.inputs[0]), chain.end, fused)
}

/// What is to be known of a convolution.
struct See {
    axes: [WindowAxis; 2],
    window: Window,
    weights: Arc<Tensor>,
    bias: Vec<f32>,
    images: usize,
    shape: TVec<usize>,
}

impl See {
    /// `None` when the kernels cannot do it.
    fn new(graph: &TypedModel, node: &TypedNode, op: &Conv) -> TractResult<Option<Self>> {
        let [image, weights, bias] = node.inputs[..] else { return Ok(None) };
        let (image, weights, bias) = (graph.outlet_fact(image)?, graph.outlet_fact(weights)?, graph.outlet_fact(bias)?);
        let output = graph.outlet_fact(OutletId::new(node.id, 0))?;
        let floats = [image, weights, bias, output].iter().all(|fact| fact.datum_type == f32::datum_type());
        let spec = &op.pool_spec;
        let first = matches!(spec.data_format, DataFormat::NCHW | DataFormat::CHW);
        let plain = op.q_params.is_none() && op.kernel_fmt == KernelFormat::OIHW && matches!(spec.rank(), 1 | 2);
        if !(floats && first && plain) || image.konst.is_some() {
            return Ok(None);
        }
        let (Some(weights), Some(bias)) = (&weights.konst, &bias.konst) else { return Ok(None) };
        let (Some(sizes), Some(shape)) = (image.shape.as_concrete(), output.shape.as_concrete()) else {
            return Ok(None);
        };
        let sizes = spec.data_format.shape(sizes)?;
        let bias = match bias.try_as_plain_ram()?.as_slice::<f32>()? {
            [one] => vec![*one; op.output_channels()],
            many => many.to_vec(),
        };
        if spec.strides().iter().chain(spec.dilations().iter()).any(|step| *step == 0) {
            return Ok(None);
        }
        let axes = axes(&op.pool_spec, sizes.hw_dims());
        let window = Window::new(axes[0], axes[1]);
        let images = sizes.n().copied().unwrap_or(1);
        let whole = images * op.output_channels() * window.output_len() == shape.iter().product::<usize>();
        let given = bias.len() == op.output_channels() && window.output_len() > 0 && images > 0;
        let seen = Self { axes, window, weights: Arc::clone(weights), bias, images, shape: shape.into() };
        Ok((whole && given).then_some(seen))
    }
}

/// Rows and columns; a series is an image of one row.
pub(super) fn axes(spec: &PoolSpec, sizes: &[usize]) -> [WindowAxis; 2] {
    let (strides, dilations) = (spec.strides(), spec.dilations());
    let axes = spec.computed_padding(sizes).into_iter().enumerate().map(|(axis, padding)| WindowAxis {
        input: sizes[axis],
        kernel: spec.kernel_shape[axis],
        stride: strides[axis],
        dilation: dilations[axis],
        pad_before: padding.pad_before,
        pad_after: padding.pad_after,
    });
    let mut axes: Vec<_> = axes.collect();
    let one = WindowAxis::pointwise(1);
    let x = axes.pop().unwrap_or(one);
    [axes.pop().unwrap_or(one), x]
}
