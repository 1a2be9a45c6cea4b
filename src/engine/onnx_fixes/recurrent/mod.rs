//! RNN, GRU and LSTM as the standard has them. The library's own run forwards with the usual activations whatever the node
//! asks for, and cannot take lengths; nodes that need more are run by the cells here, one row after the other.

use tract_onnx::{model::ParsingContext, pb::NodeProto, tract_hir::internal::*};

use super::{Built, built};
use crate::engine::operator::{Fact, Known, Operator, need, node, ranked};
use activation::Activation;
use cell::{Cell, Kind, Weights};

mod activation;
mod cell;

/// Places of the standard's inputs.
const BIAS: usize = 3;
const LENGTHS: usize = 4;
const HIDDEN: usize = 5;
const STATE: usize = 6;
const PEEPHOLES: usize = 7;

/// `RNN`, `GRU` or `LSTM`: the library's own, unless the node needs more.
pub(super) fn recurrent(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let usual = Kind::of(proto)?.usual();
    let names: Vec<String> = proto.get_attr_opt_vec("activations")?.unwrap_or_default();
    let usual = names.is_empty() || names.iter().zip(usual.iter().cycle()).all(|(name, usual)| name == usual);
    let direction: Option<String> = proto.get_attr_opt("direction")?;
    let forward = direction.is_none_or(|direction| direction != "reverse");
    let has = |name: &str| proto.attribute.iter().any(|attribute| attribute.name == name && attribute.i != 0);
    let clip = proto.attribute.iter().any(|attribute| attribute.name == "clip");
    let lengths = proto.input.get(LENGTHS).is_some_and(|name| !name.is_empty());
    if usual && forward && !clip && !lengths && !has("input_forget") {
        return built(context, proto);
    }
    own(context, proto)
}

/// The same by the cells here.
pub(super) fn own(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let kind = Kind::of(proto)?;
    let direction: Option<String> = proto.get_attr_opt("direction")?;
    let (directions, reverse) = match direction.as_deref().unwrap_or("forward") {
        "forward" => (1, false),
        "reverse" => (1, true),
        "bidirectional" => (2, false),
        other => bail!("attribute 'direction': there is no direction '{other}'"),
    };
    let clip: Option<f32> = proto.get_attr_opt("clip")?;
    let activations = Activation::list(proto, kind.usual(), directions)?;
    let first = proto.get_attr_opt("layout")?.unwrap_or(0_i64) == 1;
    let cells = activations.chunks(kind.usual().len()).map(|activations| Cell::new(kind, activations, clip)).collect();
    Ok((node(proto, Recurrent { kind, cells, reverse, batch_first: first }), vec![]))
}

#[derive(Debug)]
struct Recurrent {
    kind: Kind,
    /// One per direction.
    cells: Vec<Cell>,
    /// The only direction is backwards.
    reverse: bool,
    /// Dimension 0 is the batch, not the time.
    batch_first: bool,
}

/// Sizes of one run.
struct Sizes {
    time: usize,
    batch: usize,
    hidden: usize,
    directions: usize,
}

impl Recurrent {
    /// Where the element (time, direction, row, 0) of the first output is.
    fn place(&self, sizes: &Sizes, time: usize, direction: usize, row: usize) -> usize {
        let at = if self.batch_first {
            (row * sizes.time + time) * sizes.directions + direction
        } else {
            (time * sizes.directions + direction) * sizes.batch + row
        };
        at * sizes.hidden
    }

    /// Where the state of (direction, row) is, in the initial ones as in the last ones.
    fn state_place(&self, sizes: &Sizes, direction: usize, row: usize) -> usize {
        let at = if self.batch_first { row * sizes.directions + direction } else { direction * sizes.batch + row };
        at * sizes.hidden
    }
}

impl Operator for Recurrent {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let (x, weights) = (need(inputs, 0)?, need(inputs, 2)?);
        ranked(x, 3)?;
        ranked(weights, 3)?;
        ensure!(x.datum == DatumType::F32, "expected an input of type F32, got {:?}", x.datum);
        let (time, batch) = if self.batch_first { (&x.shape[1], &x.shape[0]) } else { (&x.shape[0], &x.shape[1]) };
        let (directions, hidden) = (self.cells.len().to_dim(), weights.shape[2].clone());
        let (all, last): (TVec<TDim>, TVec<TDim>) = if self.batch_first {
            let all = tvec![batch.clone(), time.clone(), directions.clone(), hidden.clone()];
            (all, tvec![batch.clone(), directions, hidden])
        } else {
            let all = tvec![time.clone(), directions.clone(), batch.clone(), hidden.clone()];
            (all, tvec![directions, batch.clone(), hidden])
        };
        Ok(vec![(x.datum, all), (x.datum, last.clone()), (x.datum, last)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let x = *need(inputs, 0)?;
        let [first, second, features] = x.shape()[..] else { bail!("expected an input of 3 dimensions") };
        let (time, batch) = if self.batch_first { (second, first) } else { (first, second) };
        let hidden = need(inputs, 2)?.shape()[2];
        let sizes = Sizes { time, batch, hidden, directions: self.cells.len() };
        let lengths = match inputs.get(LENGTHS).copied().flatten() {
            Some(lengths) => crate::engine::operator::ints(lengths)?,
            None => vec![time as i64; batch],
        };
        ensure!(lengths.len() == batch, "sequence_lens: expected {batch} values, got {}", lengths.len());
        let initial = |place: usize| floats(inputs, place, sizes.directions * batch * hidden);
        let (mut hiddens, mut states) = (initial(HIDDEN)?, initial(STATE)?);
        let mut all = vec![0_f32; time * sizes.directions * batch * hidden];
        let x = x.try_as_plain_ram()?;
        let x = x.as_slice::<f32>()?;
        for (direction, cell) in self.cells.iter().enumerate() {
            let weights = Weights::of(inputs, self.kind.gates(), direction, (features, hidden), sizes.directions)?;
            let mut run = cell.start(&weights, hidden);
            for (row, length) in lengths.iter().enumerate() {
                let length = usize::try_from(*length).unwrap_or(0).min(time);
                let backwards = self.reverse || direction == 1;
                let at = self.state_place(&sizes, direction, row);
                let (h, c) = (&mut hiddens[at..at + hidden], &mut states[at..at + hidden]);
                for step in 0..length {
                    let step = if backwards { length - 1 - step } else { step };
                    let from = if self.batch_first { row * time + step } else { step * batch + row } * features;
                    run.step(&x[from..from + features], h, c);
                    let to = self.place(&sizes, step, direction, row);
                    all[to..to + hidden].copy_from_slice(h);
                }
            }
        }
        let last: &[usize] =
            if self.batch_first { &[batch, sizes.directions, hidden] } else { &[sizes.directions, batch, hidden] };
        let shape: &[usize] = if self.batch_first {
            &[batch, time, sizes.directions, hidden]
        } else {
            &[time, sizes.directions, batch, hidden]
        };
        Ok(vec![
            Tensor::from_shape(shape, &all)?,
            Tensor::from_shape(last, &hiddens)?,
            Tensor::from_shape(last, &states)?,
        ])
    }
}

/// The floats of an input, or so many zeros.
fn floats(inputs: &[Option<&Tensor>], place: usize, count: usize) -> TractResult<Vec<f32>> {
    let Some(tensor) = inputs.get(place).copied().flatten() else { return Ok(vec![0.0; count]) };
    let values = tensor.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    ensure!(values.len() == count, "input {place}: expected {count} values, got {}", values.len());
    Ok(values)
}
