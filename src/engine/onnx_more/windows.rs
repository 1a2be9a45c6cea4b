//! Operators over windows: LpPool, Col2Im and MaxUnpool.

use tract_onnx::{model::ParsingContext, pb::NodeProto, tract_hir::internal::*};

use super::{
    super::operator::{Built, Fact, Known, Operator, ints, need, node, ranked},
    moves::{indices, place, strides},
};

/// How windows lie on the dimensions that they go over.
#[derive(Clone, Debug)]
struct Windows {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    /// Before and after each dimension.
    pads: Vec<(usize, usize)>,
}

impl Windows {
    /// Those of a node whose kernel has this size.
    fn of(node: &NodeProto, kernel: Vec<usize>) -> TractResult<Self> {
        let rank = kernel.len();
        let list = |name: &str, count: usize, usual: usize| -> TractResult<Vec<usize>> {
            let given: Vec<i64> = node.get_attr_opt_vec(name)?.unwrap_or_else(|| vec![usual as i64; count]);
            let given: Option<Vec<usize>> = given.into_iter().map(|value| usize::try_from(value).ok()).collect();
            let given = given.filter(|given| given.len() == count && (usual == 0 || !given.contains(&0)));
            given.with_context(|| format!("attribute '{name}': expected {count} sizes"))
        };
        let pads = list("pads", 2 * rank, 0)?;
        Ok(Self {
            strides: list("strides", rank, 1)?,
            dilations: list("dilations", rank, 1)?,
            pads: (0..rank).map(|axis| (pads[axis], pads[rank + axis])).collect(),
            kernel,
        })
    }

    /// Elements from the first to the last of a window, along an axis.
    fn reach(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilations[axis] + 1
    }

    /// The element of the input under a place of a window; `None` beside the input.
    fn under(&self, window: &[usize], inside: &[usize], shape: &[usize]) -> Option<Vec<usize>> {
        let axes = (0..shape.len()).map(|axis| {
            let padded = window[axis] * self.strides[axis] + inside[axis] * self.dilations[axis];
            padded.checked_sub(self.pads[axis].0).filter(|at| *at < shape[axis])
        });
        axes.collect()
    }
}

fn kernel_of(node: &NodeProto) -> TractResult<Vec<usize>> {
    let kernel: Vec<usize> = node.get_attr_vec("kernel_shape")?;
    ensure!(!kernel.is_empty() && !kernel.contains(&0), "attribute 'kernel_shape': expected sizes, got {kernel:?}");
    Ok(kernel)
}

/// How padding is chosen by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Auto {
    No,
    Valid,
    /// As many windows as strides; an odd element of padding goes after.
    Upper,
    /// The same, but before.
    Lower,
}

/// `LpPool`: the p-norm of every window.
pub(super) fn lp_pool(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let auto: Option<String> = proto.get_attr_opt("auto_pad")?;
    let auto = match auto.as_deref().unwrap_or("NOTSET") {
        "NOTSET" => Auto::No,
        "VALID" => Auto::Valid,
        "SAME_UPPER" => Auto::Upper,
        "SAME_LOWER" => Auto::Lower,
        other => bail!("attribute 'auto_pad': there is no padding '{other}'"),
    };
    let op = LpPool {
        windows: Windows::of(proto, kernel_of(proto)?)?,
        auto,
        ceil: proto.get_attr_opt("ceil_mode")?.unwrap_or(0_i64) != 0,
        p: proto.get_attr_opt("p")?.unwrap_or(2_i64) as f32,
    };
    ensure!(op.p >= 1.0, "attribute 'p': expected at least 1, got {}", op.p);
    Ok((node(proto, op), vec![]))
}

#[derive(Debug)]
struct LpPool {
    windows: Windows,
    auto: Auto,
    /// Windows that are only partly on the input count.
    ceil: bool,
    p: f32,
}

impl LpPool {
    /// How many windows there are along each axis, and the windows with their padding.
    fn laid(&self, shape: &[usize]) -> TractResult<(Vec<usize>, Windows)> {
        let mut windows = self.windows.clone();
        ensure!(shape.len() == windows.kernel.len(), "expected {} dimensions after two", windows.kernel.len());
        let mut counts = Vec::new();
        for (axis, size) in shape.iter().enumerate() {
            let (reach, stride) = (windows.reach(axis), windows.strides[axis]);
            if matches!(self.auto, Auto::Upper | Auto::Lower) {
                let count = size.div_ceil(stride);
                let pad = ((count.max(1) - 1) * stride + reach).saturating_sub(*size);
                let (less, more) = (pad / 2, pad - pad / 2);
                windows.pads[axis] = if self.auto == Auto::Upper { (less, more) } else { (more, less) };
                counts.push(count);
                continue;
            }
            if self.auto == Auto::Valid {
                windows.pads[axis] = (0, 0);
            }
            let (before, after) = windows.pads[axis];
            let room = (size + before + after).checked_sub(reach);
            let room = room.with_context(|| format!("a window of {reach} does not fit in {size}"))?;
            let mut count = if self.ceil { room.div_ceil(stride) } else { room / stride } + 1;
            // No window may begin in the padding behind the input.
            if self.ceil && (count - 1) * stride >= size + before {
                count -= 1;
            }
            counts.push(count);
        }
        Ok((counts, windows))
    }
}

impl Operator for LpPool {
    fn name(&self) -> &'static str {
        "LpPool"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        ranked(input, 2 + self.windows.kernel.len())?;
        let sizes = input.shape[2..].iter().map(DimLike::to_usize).collect::<Result<Vec<_>, _>>()?;
        let mut shape: TVec<TDim> = input.shape[..2].into();
        shape.extend(self.laid(&sizes)?.0.iter().map(ToDim::to_dim));
        Ok(vec![(input.datum, shape)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let input = *need(inputs, 0)?;
        let (outer, sizes) = input.shape().split_at(2);
        let (counts, windows) = self.laid(sizes)?;
        let values = input.cast_to::<f32>()?;
        let values = values.try_as_plain_ram()?;
        let values = values.as_slice::<f32>()?;
        let (steps, size) = (strides(sizes), sizes.iter().product::<usize>());
        let (planes, windows_each) = (outer.iter().product::<usize>(), counts.iter().product::<usize>());
        let mut out = vec![0_f32; planes * windows_each];
        for (number, window) in indices(&counts).enumerate() {
            // The places under a window are the same in all planes.
            let under = indices(&windows.kernel).filter_map(|inside| windows.under(&window, &inside, sizes));
            let places: Vec<usize> = under.map(|index| place(&index, &steps)).collect();
            for plane in 0..planes {
                let sum: f32 = places.iter().map(|at| values[plane * size + at].abs().powf(self.p)).sum();
                out[plane * windows_each + number] = sum.powf(1.0 / self.p);
            }
        }
        let shape: Vec<usize> = outer.iter().chain(&counts).copied().collect();
        Ok(vec![Tensor::from_shape(&shape, &out)?.cast_to_dt(input.datum_type())?.into_owned()])
    }
}

/// `Col2Im`: columns of windows laid back on the image, summed where they overlap.
pub(super) fn col_to_image(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    Ok((node(proto, ColToImage { proto: proto.clone() }), vec![]))
}

#[derive(Debug)]
struct ColToImage {
    /// The attributes; the size of the windows is an input.
    proto: NodeProto,
}

impl ColToImage {
    fn laid(&self, image: &[i64], block: &[i64]) -> TractResult<(Vec<usize>, Vec<usize>, Windows)> {
        let sizes =
            |list: &[i64]| -> Option<Vec<usize>> { list.iter().map(|size| usize::try_from(*size).ok()).collect() };
        let (image, block) = sizes(image).zip(sizes(block)).context("image and block: expected sizes")?;
        ensure!(image.len() == block.len() && !block.contains(&0), "expected as many sizes of image and block");
        let windows = Windows::of(&self.proto, block)?;
        let count = |axis: usize| -> TractResult<usize> {
            let (before, after) = windows.pads[axis];
            let room = (image[axis] + before + after).checked_sub(windows.reach(axis));
            Ok(room.context("a block does not fit on the image")? / windows.strides[axis] + 1)
        };
        let counts = (0..image.len()).map(count).collect::<TractResult<_>>()?;
        Ok((image, counts, windows))
    }
}

impl Operator for ColToImage {
    fn name(&self) -> &'static str {
        "Col2Im"
    }

    fn wants(&self, input: usize) -> bool {
        input > 0
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        ranked(input, 3)?;
        let (image, _, windows) =
            self.laid(&need(inputs, 1)?.ints("image_shape")?, &need(inputs, 2)?.ints("block_shape")?)?;
        let block: usize = windows.kernel.iter().product();
        let mut shape = tvec![input.shape[0].clone(), input.shape[1].clone() / block];
        shape.extend(image.iter().map(ToDim::to_dim));
        Ok(vec![(input.datum, shape)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let input = *need(inputs, 0)?;
        let (image, counts, windows) = self.laid(&ints(need(inputs, 1)?)?, &ints(need(inputs, 2)?)?)?;
        let [rows, columns, blocks] = input.shape()[..] else { bail!("expected an input of 3 dimensions") };
        let block: usize = windows.kernel.iter().product();
        ensure!(
            counts.iter().product::<usize>() == blocks && columns.is_multiple_of(block),
            "blocks do not fill the image"
        );
        let values = input.cast_to::<f32>()?;
        let values = values.try_as_plain_ram()?;
        let values = values.as_slice::<f32>()?;
        let (steps, size) = (strides(&image), image.iter().product::<usize>());
        let planes = rows * columns / block;
        let mut out = vec![0_f32; planes * size];
        for (number, inside) in indices(&windows.kernel).enumerate() {
            for (window_number, window) in indices(&counts).enumerate() {
                let Some(index) = windows.under(&window, &inside, &image) else { continue };
                let to = place(&index, &steps);
                for plane in 0..planes {
                    out[plane * size + to] += values[(plane * block + number) * blocks + window_number];
                }
            }
        }
        let mut shape = vec![rows, columns / block];
        shape.extend(image);
        Ok(vec![Tensor::from_shape(&shape, &out)?.cast_to_dt(input.datum_type())?.into_owned()])
    }
}

/// `MaxUnpool`: maxima back where they were, zeros elsewhere.
pub(super) fn max_unpool(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    Ok((node(proto, MaxUnpool { windows: Windows::of(proto, kernel_of(proto)?)? }), vec![]))
}

#[derive(Debug)]
struct MaxUnpool {
    windows: Windows,
}

impl MaxUnpool {
    /// The sizes that were pooled, as far as the attributes tell.
    fn unpooled(&self, shape: &[usize]) -> Vec<usize> {
        let axes = shape[2..].iter().enumerate().map(|(axis, size)| {
            let (before, after) = self.windows.pads[axis];
            ((size.max(&1) - 1) * self.windows.strides[axis] + self.windows.kernel[axis]).saturating_sub(before + after)
        });
        shape[..2].iter().copied().chain(axes).collect()
    }
}

impl Operator for MaxUnpool {
    fn name(&self) -> &'static str {
        "MaxUnpool"
    }

    fn wants(&self, input: usize) -> bool {
        input == 2
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        ranked(input, 2 + self.windows.kernel.len())?;
        let shape = match inputs.get(2).and_then(Option::as_ref) {
            Some(shape) => shape.ints("output_shape")?.iter().map(ToDim::to_dim).collect(),
            None => {
                let sizes = input.shape.iter().map(DimLike::to_usize).collect::<Result<Vec<_>, _>>()?;
                self.unpooled(&sizes).iter().map(ToDim::to_dim).collect()
            }
        };
        Ok(vec![(input.datum, shape)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let (input, places) = (*need(inputs, 0)?, ints(need(inputs, 1)?)?);
        // Places count in the tensor that the attributes tell; a larger one has its elements at the front of each axis.
        let told = self.unpooled(input.shape());
        let shape = match inputs.get(2).copied().flatten() {
            Some(shape) => ints(shape)?.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>()?,
            None => told.clone(),
        };
        let fits = shape.len() == told.len() && shape.iter().zip(&told).all(|(size, told)| size >= told);
        ensure!(fits, "output_shape: expected at least {told:?}, got {shape:?}");
        let values = input.cast_to::<f32>()?;
        let values = values.try_as_plain_ram()?;
        let mut out = vec![0_f32; shape.iter().product()];
        let (from, to) = (strides(&told), strides(&shape));
        for (value, at) in values.as_slice::<f32>()?.iter().zip(places) {
            let at = usize::try_from(at)?;
            let index: Vec<usize> = from.iter().zip(&told).map(|(stride, size)| at / stride % size).collect();
            out[place(&index, &to)] = *value;
        }
        Ok(vec![Tensor::from_shape(&shape, &out)?.cast_to_dt(input.datum_type())?.into_owned()])
    }
}
