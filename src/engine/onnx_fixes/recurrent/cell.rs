//! One step of one row through a recurrent cell, after the formulas of the standard.

use tract_onnx::{pb::NodeProto, prelude::TractResult, tract_hir::internal::*};

use super::{BIAS, PEEPHOLES, activation::Activation, floats};

/// Which cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rnn,
    /// The reset gate is applied after the product with the state.
    Gru {
        reset_last: bool,
    },
    /// The forget gate is what the input gate leaves.
    Lstm {
        coupled: bool,
    },
}

impl Kind {
    /// The cell of a node.
    ///
    /// # Errors
    /// When an attribute has another type.
    pub(super) fn of(node: &NodeProto) -> TractResult<Self> {
        let flag = |name: &str| -> TractResult<bool> { Ok(node.get_attr_opt(name)?.unwrap_or(0_i64) != 0) };
        Ok(match node.op_type.as_str() {
            "RNN" => Kind::Rnn,
            "GRU" => Kind::Gru { reset_last: flag("linear_before_reset")? },
            _ => Kind::Lstm { coupled: flag("input_forget")? },
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Rnn => "RNN",
            Kind::Gru { .. } => "GRU",
            Kind::Lstm { .. } => "LSTM",
        }
    }

    pub(super) fn gates(self) -> usize {
        match self {
            Kind::Rnn => 1,
            Kind::Gru { .. } => 3,
            Kind::Lstm { .. } => 4,
        }
    }

    /// The activations of a node that names none.
    pub(super) fn usual(self) -> &'static [&'static str] {
        match self {
            Kind::Rnn => &["Tanh"],
            Kind::Gru { .. } => &["Sigmoid", "Tanh"],
            Kind::Lstm { .. } => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// The parameters of one direction.
pub(super) struct Weights {
    features: usize,
    /// [gates * hidden, features]
    input: Vec<f32>,
    /// [gates * hidden, hidden]
    state: Vec<f32>,
    /// [gates * hidden] for the input, then as many for the state.
    bias: Vec<f32>,
    /// [3 * hidden]: input, output, forget.
    peepholes: Vec<f32>,
}

impl Weights {
    /// Those of a direction.
    ///
    /// # Errors
    /// When a parameter is not as large as the others say.
    pub(super) fn of(
        inputs: &[Option<&Tensor>],
        gates: usize,
        direction: usize,
        (features, hidden): (usize, usize),
        directions: usize,
    ) -> TractResult<Self> {
        let part = |place: usize, count: usize| -> TractResult<Vec<f32>> {
            Ok(floats(inputs, place, directions * count)?[direction * count..][..count].to_vec())
        };
        let rows = gates * hidden;
        Ok(Self {
            features,
            input: part(1, rows * features)?,
            state: part(2, rows * hidden)?,
            bias: part(BIAS, 2 * rows)?,
            peepholes: part(PEEPHOLES, 3 * hidden)?,
        })
    }

    /// What the input gives to row `row` of all gates, its bias included.
    fn of_input(&self, x: &[f32], row: usize) -> f32 {
        dot(x, &self.input[row * self.features..][..self.features]) + self.bias[row]
    }

    /// What the state gives, its bias included.
    fn of_state(&self, h: &[f32], row: usize) -> f32 {
        dot(h, &self.state[row * h.len()..][..h.len()]) + self.bias[self.bias.len() / 2 + row]
    }
}

/// Eight sums side by side, which the compiler turns into vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut sums = [0_f32; 8];
    for (a, b) in a8.iter().zip(b8) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// The formulas of one direction.
#[derive(Debug)]
pub(super) struct Cell {
    kind: Kind,
    activations: Vec<Activation>,
    clip: Option<f32>,
}

impl Cell {
    pub(super) fn new(kind: Kind, activations: &[Activation], clip: Option<f32>) -> Self {
        Self { kind, activations: activations.to_vec(), clip }
    }

    pub(super) fn start<'a>(&'a self, weights: &'a Weights, hidden: usize) -> Run<'a> {
        Run { cell: self, weights, gates: vec![0.0; (self.kind.gates() + 1) * hidden] }
    }

    fn active(&self, which: usize, x: f32) -> f32 {
        // Infinite where there is no limit; not `clamp`, which panics on a limit that is no number.
        let limit = self.clip.unwrap_or(f32::INFINITY);
        self.activations[which].apply(x.min(limit).max(-limit))
    }
}

/// A cell with its parameters and the memory for one step.
pub(super) struct Run<'a> {
    cell: &'a Cell,
    weights: &'a Weights,
    gates: Vec<f32>,
}

impl Run<'_> {
    /// From the state before a step to the state after it: `h` is what the cell gives, `c` what an LSTM keeps to itself.
    pub(super) fn step(&mut self, x: &[f32], h: &mut [f32], c: &mut [f32]) {
        match self.cell.kind {
            Kind::Rnn => self.rnn(x, h),
            Kind::Gru { reset_last } => self.gru(x, h, reset_last),
            Kind::Lstm { coupled } => self.lstm(x, h, c, coupled),
        }
    }

    fn rnn(&mut self, x: &[f32], h: &mut [f32]) {
        let (cell, weights) = (self.cell, self.weights);
        for (row, gate) in self.gates[..h.len()].iter_mut().enumerate() {
            *gate = cell.active(0, weights.of_input(x, row) + weights.of_state(h, row));
        }
        h.copy_from_slice(&self.gates[..h.len()]);
    }

    /// Gates: update, reset, new.
    fn gru(&mut self, x: &[f32], h: &mut [f32], reset_last: bool) {
        let (cell, weights, hidden) = (self.cell, self.weights, h.len());
        let (gates, reset) = self.gates.split_at_mut(3 * hidden);
        for (row, gate) in gates[..2 * hidden].iter_mut().enumerate() {
            *gate = cell.active(0, weights.of_input(x, row) + weights.of_state(h, row));
        }
        let (first, new) = gates.split_at_mut(2 * hidden);
        let (update, keep) = first.split_at(hidden);
        reset.iter_mut().zip(keep.iter().zip(&*h)).for_each(|(out, (keep, h))| *out = keep * h);
        for (at, new) in new.iter_mut().enumerate() {
            let row = 2 * hidden + at;
            let recurrent = if reset_last { keep[at] * weights.of_state(h, row) } else { weights.of_state(reset, row) };
            *new = cell.active(1, weights.of_input(x, row) + recurrent);
        }
        for (h, (update, new)) in h.iter_mut().zip(update.iter().zip(&*new)) {
            *h = (1.0 - update) * new + update * *h;
        }
    }

    /// Gates: input, output, forget, cell.
    fn lstm(&mut self, x: &[f32], h: &mut [f32], c: &mut [f32], coupled: bool) {
        let (cell, weights, hidden) = (self.cell, self.weights, h.len());
        for (row, gate) in self.gates[..4 * hidden].iter_mut().enumerate() {
            *gate = weights.of_input(x, row) + weights.of_state(h, row);
        }
        let peep = |gate: usize, at: usize| weights.peepholes[gate * hidden + at];
        for at in 0..hidden {
            let gate = |gate: usize| self.gates[gate * hidden + at];
            let input = cell.active(0, gate(0) + peep(0, at) * c[at]);
            let forget = if coupled { 1.0 - input } else { cell.active(0, gate(2) + peep(2, at) * c[at]) };
            c[at] = forget * c[at] + input * cell.active(1, gate(3));
            let output = cell.active(0, gate(1) + peep(1, at) * c[at]);
            h[at] = output * cell.activations[2].apply(c[at]);
        }
    }
}
