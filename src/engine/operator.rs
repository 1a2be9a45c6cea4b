//! The graph library's machinery around an operator that computes its outputs from its inputs, so that an operator of ours is
//! only what it does: which shapes come out, and the values. Used by `onnx_fixes` and `onnx_more`;
//! `onnx_ml` has a plainer one for operators of one input (`kernel`).

use std::{fmt, sync::Arc};

use tract_onnx::{model::optional_inputs, pb::NodeProto, tract_hir::internal::*};

/// What a node of the file becomes.
pub(super) type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Type and shape of an output.
pub(super) type Fact = (DatumType, TVec<TDim>);

/// What an operator of the graph that is being read is inside, as nearly all are: inferred by rules, and then wired.
pub(super) fn expansion(op: &dyn InferenceOp) -> Option<Box<dyn Expansion>> {
    op.as_op().downcast_ref::<Box<dyn Expansion>>().cloned()
}

/// What is known of an input before anything runs.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) datum: DatumType,
    pub(super) shape: TVec<TDim>,
    /// The value of a constant.
    pub(super) value: Option<Arc<Tensor>>,
}

impl Known {
    pub(super) fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The numbers of a constant.
    ///
    /// # Errors
    /// When it is not a constant, or not of numbers.
    pub(super) fn ints(&self, name: &str) -> TractResult<Vec<i64>> {
        let value = self.value.as_ref().with_context(|| format!("input '{name}': expected a constant"))?;
        ints(value)
    }
}

/// The elements of a tensor as integers.
///
/// # Errors
/// When it holds anything else.
pub(super) fn ints(tensor: &Tensor) -> TractResult<Vec<i64>> {
    Ok(tensor.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
}

/// What one operator does. Inputs and outputs are those of the standard, in its order; an input that is left out is `None`.
pub(super) trait Operator: fmt::Debug + Send + Sync + 'static {
    /// The operator's name.
    fn name(&self) -> &'static str;

    /// True for inputs whose value [`Operator::facts`] needs: they must be constants.
    fn wants(&self, _input: usize) -> bool {
        false
    }

    /// Type and shape of every output, those that nobody reads included.
    ///
    /// # Errors
    /// When it cannot take these inputs.
    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>>;

    /// All outputs.
    ///
    /// # Errors
    /// When it cannot take these inputs.
    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>>;
}

/// The input at a place.
///
/// # Errors
/// When it is left out.
pub(super) fn need<T>(inputs: &[Option<T>], at: usize) -> TractResult<&T> {
    inputs.get(at).and_then(Option::as_ref).with_context(|| format!("input {at}: is missing"))
}

/// Refuses a rank that an operator cannot take.
///
/// # Errors
/// `expected an input of 4 dimensions, got 3`.
pub(super) fn ranked(known: &Known, rank: usize) -> TractResult<()> {
    ensure!(known.rank() == rank, "expected an input of {rank} dimensions, got {}", known.rank());
    Ok(())
}

/// An axis counted from the front.
///
/// # Errors
/// When there is no such axis.
pub(super) fn axis_of(axis: i64, rank: usize) -> TractResult<usize> {
    let from_front = if axis < 0 { axis + rank as i64 } else { axis };
    let inside = usize::try_from(from_front).ok().filter(|axis| *axis < rank);
    inside.with_context(|| format!("axis: expected one of {rank}, got {axis}"))
}

/// The type that an operator sees: integers that may be sizes are integers.
fn plain(datum: DatumType) -> DatumType {
    if datum == DatumType::TDim { DatumType::I64 } else { datum.unquantized() }
}

/// Makes an operator a node of a graph that is being read.
pub(super) fn node(proto: &NodeProto, operator: impl Operator) -> Box<dyn InferenceOp> {
    let inputs = optional_inputs(proto).take(proto.input.len()).collect();
    let outputs = (0..proto.output.len()).filter(|at| !proto.output[*at].is_empty()).collect();
    expand(OperatorOp { operator: Arc::new(operator), inputs, outputs })
}

/// The same for a graph that has been read: all of `inputs` inputs are given, and there is one output.
pub(super) fn typed(operator: impl Operator, inputs: usize) -> impl TypedOp {
    OperatorOp { operator: Arc::new(operator), inputs: (0..inputs).map(Some).collect(), outputs: vec![0] }
}

/// An operator as the graph library sees it, before and after typing.
#[derive(Clone, Debug)]
struct OperatorOp {
    operator: Arc<dyn Operator>,
    /// Where each input of the standard is among those that are given.
    inputs: Vec<Option<usize>>,
    /// The outputs that somebody reads.
    outputs: Vec<usize>,
}

impl PartialEq for OperatorOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.operator, &other.operator)
    }
}

impl Eq for OperatorOp {}

impl OperatorOp {
    /// Facts of the outputs that are read.
    fn facts(&self, known: &[Known]) -> TractResult<Vec<Fact>> {
        let inputs: Vec<_> = self.inputs.iter().map(|at| at.and_then(|at| known.get(at).cloned())).collect();
        let all = self.operator.facts(&inputs)?;
        let pick = |at: &usize| all.get(*at).cloned().with_context(|| format!("there is no output {at}"));
        self.outputs.iter().map(pick).collect()
    }

    /// Where among the given inputs those are whose value is needed.
    fn wanted(&self) -> Vec<usize> {
        let places = self.inputs.iter().enumerate();
        places.filter(|(at, _)| self.operator.wants(*at)).filter_map(|(_, place)| *place).collect()
    }
}

impl Expansion for OperatorOp {
    fn name(&self) -> StaticName {
        self.operator.name().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.outputs.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.inputs.iter().flatten().count())?;
        check_output_arity(outputs, self.outputs.len())?;
        s.given_all(inputs.iter().map(|input| &input.datum_type), move |s, datums| {
            s.given_all(inputs.iter().map(|input| &input.shape), move |s, shapes| {
                let known = datums.iter().zip(shapes);
                let known = known.map(|(datum, shape)| Known { datum: plain(*datum), shape, value: None });
                let known: Vec<_> = known.collect();
                let wanted = self.wanted();
                let values = wanted.iter().map(|at| &inputs[*at].value).collect::<Vec<_>>();
                s.given_all(values, move |s, values| {
                    let mut known = known.clone();
                    for (at, value) in wanted.iter().zip(values) {
                        known[*at].value = Some(value);
                    }
                    for (output, (datum, shape)) in outputs.iter().zip(self.facts(&known)?) {
                        s.equals(&output.datum_type, datum)?;
                        s.equals(&output.shape, ShapeFactoid::from(shape))?;
                    }
                    Ok(())
                })
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for OperatorOp {
    fn name(&self) -> StaticName {
        self.operator.name().into()
    }

    op_as_typed_op!();
}

impl EvalOp for OperatorOp {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let values: Vec<_> =
            inputs.iter().map(|value| value.cast_to_dt(plain(value.datum_type()))).collect::<TractResult<_>>()?;
        let given: Vec<Option<&Tensor>> =
            self.inputs.iter().map(|at| at.and_then(|at| values.get(at)).map(|value| &**value)).collect();
        let mut all: Vec<_> = self.operator.run(&given)?.into_iter().map(Some).collect();
        let mut take = |at: &usize| {
            let output = all.get_mut(*at).and_then(Option::take);
            output.map(IntoTValue::into_tvalue).with_context(|| format!("there is no output {at}"))
        };
        self.outputs.iter().map(&mut take).collect()
    }
}

impl TypedOp for OperatorOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let known = |fact: &&TypedFact| Known {
            datum: plain(fact.datum_type),
            shape: fact.shape.dims().into(),
            value: fact.konst.clone(),
        };
        let known: Vec<_> = inputs.iter().map(known).collect();
        Ok(self.facts(&known)?.into_iter().map(|(datum, shape)| datum.fact(&shape[..])).collect())
    }

    as_op!();
}
