//! The graph library's machinery around an operator of one input, so that an operator of ours is only its own arithmetic.

use std::{fmt, sync::Arc};

use tract_onnx::tract_hir::internal::*;

use super::Fact;

/// The features that an operator needs a row to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Width {
    /// As many as there are.
    Any,
    /// So many.
    Exactly(usize),
    /// So many; those beyond are not looked at.
    AtLeast(usize),
}

impl Width {
    /// Refuses a number of features that the operator cannot take, as soon as it is known.
    ///
    /// # Errors
    /// `expected 3 features, got 2`.
    pub(in crate::engine) fn check(self, features: &TDim) -> TractResult<()> {
        let Ok(got) = features.to_i64() else { return Ok(()) };
        match self {
            Self::Exactly(want) => ensure!(got == want as i64, "expected {want} features, got {got}"),
            Self::AtLeast(least) => ensure!(got >= least as i64, "expected at least {least} features, got {got}"),
            Self::Any => {}
        }
        Ok(())
    }
}

/// What one operator does. The input is `[rows, features]`, or `[features]` for one row.
pub(super) trait Kernel: fmt::Debug + Send + Sync + 'static {
    /// The operator's name.
    fn name(&self) -> &'static str;

    /// How many outputs it has.
    fn outputs(&self) -> usize;

    /// The features that it needs.
    fn width(&self) -> Width {
        Width::Any
    }

    /// The outputs for an input of this type and shape, whose width is one that it takes, as far as it is known.
    ///
    /// # Errors
    /// When it cannot take the input.
    fn facts(&self, datum: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>>;

    /// The same operator made for inputs of this type; `None` when it takes all types as it is.
    fn made_for(&self, _datum: DatumType) -> Option<Arc<dyn Kernel>> {
        None
    }

    /// The outputs. The width is one that it takes.
    ///
    /// # Errors
    /// When it cannot take the input.
    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>>;
}

/// Makes a kernel a node of a graph that is being read.
pub(super) fn node(kernel: impl Kernel) -> Box<dyn InferenceOp> {
    expand(KernelOp(Arc::new(kernel)))
}

/// Rows and features of an input.
///
/// # Errors
/// When it has neither one nor two dimensions.
pub(super) fn rows_and_features(shape: &[TDim]) -> TractResult<(TDim, TDim)> {
    match shape {
        [features] => Ok((1.to_dim(), features.clone())),
        [rows, features] => Ok((rows.clone(), features.clone())),
        _ => bail!("expected an input of 1 or 2 dimensions, got {}", shape.len()),
    }
}

/// The same of a tensor.
///
/// # Errors
/// As [`rows_and_features`].
pub(super) fn table(tensor: &Tensor) -> TractResult<(usize, usize)> {
    match tensor.shape() {
        [features] => Ok((1, *features)),
        [rows, features] => Ok((*rows, *features)),
        shape => bail!("expected an input of 1 or 2 dimensions, got {}", shape.len()),
    }
}

/// A kernel as an operator, before and after typing.
#[derive(Clone, Debug)]
pub(in crate::engine) struct KernelOp(pub(super) Arc<dyn Kernel>);

impl KernelOp {
    /// The last dimension of an input, where it matters how long it is, and how long that has to be.
    pub(in crate::engine) fn width<'a>(&self, shape: &'a [TDim]) -> Option<(Width, &'a TDim)> {
        let width = self.0.width();
        shape.last().filter(|_| width != Width::Any).map(|features| (width, features))
    }

    fn facts(&self, datum: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        if let Some((width, features)) = self.width(shape) {
            width.check(features)?;
        }
        self.0.facts(datum, shape)
    }
}

impl PartialEq for KernelOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for KernelOp {}

impl Expansion for KernelOp {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.0.outputs())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, self.0.outputs())?;
        if let Width::Exactly(features) = self.0.width() {
            // Where the model leaves the number of features open, this is where it is learnt.
            s.given(&inputs[0].rank, move |s, rank| match usize::try_from(rank)? {
                rank @ 1..=2 => s.equals(&inputs[0].shape[rank - 1], features.to_dim()),
                _ => Ok(()),
            })?;
        }
        s.given_2(&inputs[0].datum_type, &inputs[0].shape, move |s, datum, shape| {
            for (output, (datum, shape)) in outputs.iter().zip(self.facts(datum, &shape)?) {
                s.equals(&output.datum_type, datum)?;
                s.equals(&output.shape, ShapeFactoid::from(shape))?;
            }
            Ok(())
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let datum = model.outlet_fact(inputs[0])?.datum_type;
        let op = self.0.made_for(datum).map_or_else(|| self.clone(), KernelOp);
        model.wire_node(prefix, op, inputs)
    }
}

impl Op for KernelOp {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    op_as_typed_op!();
}

impl EvalOp for KernelOp {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = inputs.first().context("expected one input, got none")?;
        if let Some(features) = input.shape().last() {
            self.0.width().check(&features.to_dim())?;
        }
        Ok(self.0.run(input)?.into_iter().map(IntoTValue::into_tvalue).collect())
    }
}

impl TypedOp for KernelOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let input = inputs.first().context("expected one input, got none")?;
        let facts = self.facts(input.datum_type, input.shape.dims())?;
        Ok(facts.into_iter().map(|(datum, shape)| datum.fact(&shape[..])).collect())
    }

    as_op!();
}
