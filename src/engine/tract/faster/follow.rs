//! What follows an operator and can be done before its result is stored: constants added or multiplied per channel, another
//! tensor added, an activation. Called by the rules of this folder.

use tract_onnx::tract_core::ops::{binary::TypedBinOp, element_wise::ElementWiseOp};
use tract_onnx::tract_hir::internal::*;

use weir_kernels::Activation;

/// A chain of nodes that is replaced by one.
pub(super) struct Chain<'a> {
    graph: &'a TypedModel,
    /// The result so far.
    pub(super) end: OutletId,
    pub(super) bias: Vec<f32>,
    pub(super) other: Option<OutletId>,
    pub(super) activation: Activation,
    /// Where the channels of the result are: axes from here on, so many.
    channels: std::ops::Range<usize>,
}

impl<'a> Chain<'a> {
    /// A chain that ends where it starts; `channels` are the axes of the result that the bias runs along.
    pub(super) fn new(
        graph: &'a TypedModel,
        node: &TypedNode,
        channels: std::ops::Range<usize>,
        bias: Vec<f32>,
    ) -> Self {
        let end = OutletId::new(node.id, 0);
        Self { graph, end, bias, other: None, activation: Activation::Linear, channels }
    }

    /// What the operator takes that replaces the chain: its own `input`, and what is added to the result.
    pub(super) fn inputs(&self, input: OutletId) -> TVec<OutletId> {
        std::iter::once(input).chain(self.other).collect()
    }

    /// Takes along as much as there is.
    ///
    /// # Errors
    /// When the graph does not hold together.
    pub(super) fn follow(&mut self, may_add_other: bool) -> TractResult<()> {
        while let Some(next) = self.next()? {
            let taken = if let Some(op) = next.op_as::<TypedBinOp>() {
                op.1.is_none() && self.binary(next, op.0.name(), may_add_other)?
            } else if let Some(op) = next.op_as::<ElementWiseOp>() {
                op.1.is_none() && self.element_wise(&op.0.name())
            } else {
                false
            };
            if !taken {
                return Ok(());
            }
            self.end = OutletId::new(next.id, 0);
        }
        Ok(())
    }

    /// The only reader of the result, if it gives something of the same type and shape.
    fn next(&self) -> TractResult<Option<&'a TypedNode>> {
        let [reader] = self.graph.outlet_successors(self.end) else { return Ok(None) };
        if self.graph.outputs.contains(&self.end) {
            return Ok(None);
        }
        let node = self.graph.node(reader.node);
        let (now, then) = (self.graph.outlet_fact(self.end)?, self.graph.outlet_fact(OutletId::new(node.id, 0))?);
        let same = node.outputs.len() == 1 && now.datum_type == then.datum_type && now.shape == then.shape;
        Ok(same.then_some(node))
    }

    fn binary(&mut self, node: &TypedNode, name: &str, may_add_other: bool) -> TractResult<bool> {
        let [a, b] = node.inputs[..] else { return Ok(false) };
        let operand = if a == self.end { b } else { a };
        let fact = self.graph.outlet_fact(operand)?;
        if operand == self.end || fact.datum_type != f32::datum_type() {
            return Ok(false);
        }
        if name == "Add" && self.activation == Activation::Linear {
            return match &fact.konst {
                Some(konst) => self.add_constant(konst),
                None if may_add_other && self.other.is_none() => {
                    let same = fact.shape == self.graph.outlet_fact(self.end)?.shape;
                    self.other = same.then_some(operand);
                    Ok(same)
                }
                None => Ok(false),
            };
        }
        let Some(limit) = fact.konst.as_ref().and_then(|konst| uniform(konst)) else { return Ok(false) };
        let clipped = match (name, self.activation) {
            ("Max", Activation::Linear) => Activation::Clip(limit, f32::INFINITY),
            ("Min", Activation::Linear) => Activation::Clip(f32::NEG_INFINITY, limit),
            ("Min", Activation::Clip(low, f32::INFINITY)) if low <= limit => Activation::Clip(low, limit),
            ("Max", Activation::Clip(f32::NEG_INFINITY, high)) if limit <= high => Activation::Clip(limit, high),
            _ => return Ok(false),
        };
        self.activation = clipped;
        Ok(true)
    }

    fn element_wise(&mut self, name: &str) -> bool {
        let Some(activation) = activation_of(name).filter(|_| self.activation == Activation::Linear) else {
            return false;
        };
        self.activation = activation;
        true
    }

    /// Takes along a number that all is multiplied by; 1 if there is none.
    ///
    /// # Errors
    /// When the graph does not hold together.
    pub(super) fn factor(&mut self) -> TractResult<f32> {
        let Some((node, konst)) = self.constant("Mul")? else { return Ok(1.0) };
        let Some(factor) = uniform(&konst) else { return Ok(1.0) };
        self.end = OutletId::new(node, 0);
        Ok(factor)
    }

    /// Takes along `len` numbers that the channels are multiplied by; empty if there are none.
    ///
    /// # Errors
    /// When the graph does not hold together.
    pub(super) fn factors(&mut self, len: usize) -> TractResult<Vec<f32>> {
        let Some((node, konst)) = self.constant("Mul")? else { return Ok(Vec::new()) };
        if konst.len() != len || !self.is_along_channels(&konst) {
            return Ok(Vec::new());
        }
        self.end = OutletId::new(node, 0);
        Ok(konst.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    }

    /// Takes along constants that are added.
    ///
    /// # Errors
    /// When the graph does not hold together.
    pub(super) fn add_constants(&mut self) -> TractResult<()> {
        while let Some((node, konst)) = self.constant("Add")? {
            if !self.add_constant(&konst)? {
                break;
            }
            self.end = OutletId::new(node, 0);
        }
        Ok(())
    }

    /// The only reader of the result, if it is a binary operator of this name with a constant.
    fn constant(&self, name: &str) -> TractResult<Option<(usize, Arc<Tensor>)>> {
        let Some(node) = self.next()? else { return Ok(None) };
        let ([a, b], Some(op)) = (&node.inputs[..], node.op_as::<TypedBinOp>()) else { return Ok(None) };
        let operand = if *a == self.end { b } else { a };
        let fact = self.graph.outlet_fact(*operand)?;
        let fits = op.1.is_none() && op.0.name() == name && fact.datum_type == f32::datum_type();
        Ok(fact.konst.clone().filter(|_| fits).map(|konst| (node.id, konst)))
    }

    fn is_along_channels(&self, konst: &Tensor) -> bool {
        konst.shape().iter().enumerate().all(|(axis, size)| *size == 1 || self.channels.contains(&axis))
    }

    /// Adds a constant to the bias if it is the same everywhere but along the channels.
    fn add_constant(&mut self, konst: &Tensor) -> TractResult<bool> {
        if let Some(number) = uniform(konst) {
            self.bias.iter_mut().for_each(|bias| *bias += number);
            return Ok(true);
        }
        let fits = konst.len() == self.bias.len() && self.is_along_channels(konst);
        if fits {
            let numbers = konst.try_as_plain_ram()?;
            for (bias, number) in self.bias.iter_mut().zip(numbers.as_slice::<f32>()?) {
                *bias += number;
            }
        }
        Ok(fits)
    }
}

/// The activation that an operator of this name is.
pub(super) fn activation_of(name: &str) -> Option<Activation> {
    match name {
        "HardSwish" => Some(Activation::HardSwish),
        "Sigmoid" => Some(Activation::Sigmoid),
        "Tanh" => Some(Activation::Tanh),
        "Silu" => Some(Activation::Silu),
        "GeluExact" => Some(Activation::Gelu),
        _ => None,
    }
}

/// The number that a constant consists of.
pub(super) fn uniform(konst: &Tensor) -> Option<f32> {
    let numbers = konst.as_plain_ram()?;
    match numbers.as_slice::<f32>() {
        Ok([number]) => Some(*number),
        _ => None,
    }
}
