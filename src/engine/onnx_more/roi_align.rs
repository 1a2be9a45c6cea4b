//! RoiAlign: regions of a feature map, sampled to one size. The second stage of object detectors.

use tract_onnx::{model::ParsingContext, pb::NodeProto, tract_hir::internal::*};

use super::super::operator::{Built, Fact, Known, Operator, ints, need, node, ranked};

/// Since this version regions are shifted by half a pixel unless the node says otherwise.
const SHIFTED: i64 = 16;

/// Points that are sampled along each side of a bin at most.
const MAX_POINTS: f32 = 1024.0;

/// `RoiAlign`.
pub(super) fn roi_align(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let shift: Option<String> = proto.get_attr_opt("coordinate_transformation_mode")?;
    let half_pixel = match shift.as_deref() {
        None => context.onnx_operator_set_version >= SHIFTED,
        Some("half_pixel") => true,
        Some("output_half_pixel") => false,
        Some(other) => bail!("attribute 'coordinate_transformation_mode': there is no mode '{other}'"),
    };
    let mode: Option<String> = proto.get_attr_opt("mode")?;
    let largest = match mode.as_deref().unwrap_or("avg") {
        "avg" => false,
        "max" => true,
        other => bail!("attribute 'mode': there is no mode '{other}'"),
    };
    let size = |name: &str| -> TractResult<usize> { Ok(proto.get_attr_opt(name)?.unwrap_or(1)) };
    let op = RoiAlign {
        largest,
        half_pixel,
        height: size("output_height")?,
        width: size("output_width")?,
        sampling: proto.get_attr_opt("sampling_ratio")?.unwrap_or(0_i64).clamp(0, MAX_POINTS as i64) as usize,
        scale: proto.get_attr_opt("spatial_scale")?.unwrap_or(1.0),
    };
    Ok((node(proto, op), vec![]))
}

#[derive(Debug)]
struct RoiAlign {
    largest: bool,
    half_pixel: bool,
    height: usize,
    width: usize,
    /// Points along each side of a bin; 0 = as many as it has pixels.
    sampling: usize,
    scale: f32,
}

/// One side of a region.
struct Side {
    start: f32,
    bin: f32,
    points: usize,
}

/// Four neighbours of a point, and how much each counts.
type Neighbours = [(usize, f32); 4];

impl RoiAlign {
    fn side(&self, start: f32, end: f32, bins: usize) -> Side {
        let offset = if self.half_pixel { 0.5 } else { 0.0 };
        let (start, end) = (start * self.scale - offset, end * self.scale - offset);
        let length = if self.half_pixel { end - start } else { (end - start).max(1.0) };
        let bin = length / bins as f32;
        let points = if self.sampling > 0 { self.sampling } else { bin.ceil().clamp(0.0, MAX_POINTS) as usize };
        Side { start, bin, points }
    }

    /// The points of a bin; `None` for those outside of the map.
    fn points(y: &Side, x: &Side, bin: (usize, usize), map: (usize, usize)) -> Vec<Option<Neighbours>> {
        let at = |side: &Side, bin: usize, point: usize| {
            side.start + bin as f32 * side.bin + (point as f32 + 0.5) * side.bin / side.points as f32
        };
        let pairs = (0..y.points).flat_map(|row| (0..x.points).map(move |column| (row, column)));
        pairs.map(|(row, column)| neighbours(at(y, bin.0, row), at(x, bin.1, column), map)).collect()
    }

    fn pooled(&self, points: &[Option<Neighbours>], plane: &[f32]) -> f32 {
        let parts = |point: &Neighbours| point.map(|(at, weight)| plane[at] * weight);
        if self.largest {
            let each = points
                .iter()
                .map(|point| point.as_ref().map_or(0.0, |point| parts(point).into_iter().fold(f32::MIN, f32::max)));
            return each.reduce(f32::max).unwrap_or(0.0);
        }
        let sum: f32 = points.iter().flatten().flat_map(parts).sum();
        sum / points.len().max(1) as f32
    }
}

/// The pixels around a point; one a little outside is moved to the edge.
fn neighbours(y: f32, x: f32, (height, width): (usize, usize)) -> Option<Neighbours> {
    let inside = |at: f32, size: usize| (-1.0..=size as f32).contains(&at);
    if !inside(y, height) || !inside(x, width) {
        return None;
    }
    let split = |at: f32, size: usize| {
        let at = at.max(0.0);
        let low = at as usize;
        if low + 1 >= size { (size - 1, size - 1, 0.0) } else { (low, low + 1, at - low as f32) }
    };
    let ((top, bottom, down), (left, right, along)) = (split(y, height), split(x, width));
    Some([
        (top * width + left, (1.0 - down) * (1.0 - along)),
        (top * width + right, (1.0 - down) * along),
        (bottom * width + left, down * (1.0 - along)),
        (bottom * width + right, down * along),
    ])
}

impl Operator for RoiAlign {
    fn name(&self) -> &'static str {
        "RoiAlign"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let (map, regions) = (need(inputs, 0)?, need(inputs, 1)?);
        ranked(map, 4)?;
        ranked(regions, 2)?;
        ensure!(map.datum.is_float(), "expected floats, got {:?}", map.datum);
        let shape = tvec![regions.shape[0].clone(), map.shape[1].clone(), self.height.to_dim(), self.width.to_dim()];
        Ok(vec![(map.datum, shape)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let (map, regions, images) = (*need(inputs, 0)?, *need(inputs, 1)?, ints(need(inputs, 2)?)?);
        let [count, channels, height, width] = map.shape()[..] else { bail!("expected an input of 4 dimensions") };
        let (values, corners) = (map.cast_to::<f32>()?, regions.cast_to::<f32>()?);
        let (values, corners) = (values.try_as_plain_ram()?, corners.try_as_plain_ram()?);
        let (values, corners) = (values.as_slice::<f32>()?, corners.as_slice::<f32>()?.as_chunks::<4>().0);
        ensure!(
            corners.len() == images.len() && height > 0 && width > 0,
            "expected as many regions as images for them"
        );
        let mut out = vec![0_f32; corners.len() * channels * self.height * self.width];
        for (number, (region, image)) in corners.iter().zip(images).enumerate() {
            let image = usize::try_from(image).ok().filter(|image| *image < count).context("there is no such image")?;
            let [left, top, right, bottom] = *region;
            let (y, x) = (self.side(top, bottom, self.height), self.side(left, right, self.width));
            for bin in (0..self.height).flat_map(|row| (0..self.width).map(move |column| (row, column))) {
                let points = Self::points(&y, &x, bin, (height, width));
                for channel in 0..channels {
                    let plane = &values[(image * channels + channel) * height * width..][..height * width];
                    let to = ((number * channels + channel) * self.height + bin.0) * self.width + bin.1;
                    out[to] = self.pooled(&points, plane);
                }
            }
        }
        let shape = [corners.len(), channels, self.height, self.width];
        Ok(vec![Tensor::from_shape(&shape, &out)?.cast_to_dt(map.datum_type())?.into_owned()])
    }
}
