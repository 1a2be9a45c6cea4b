//! TreeEnsembleClassifier, TreeEnsembleRegressor and what TreeEnsemble is read into. The graph library's own give wrong labels for two classes and take time
//! in proportion to all leaves of the forest; these walk a flat array.

use std::sync::Arc;

use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{DatumType, TVec, Tensor, TractResult},
    tract_hir::internal::{Datum, TDim, ToDim as _, bail, ensure, tvec},
};

use super::{
    Built, Fact,
    kernel::{Kernel, Width, node, rows_and_features, table},
    post::{Label, Labels, PostTransform},
};
use forest::Forest;
use keys::Number;
use leaves::Leaves;
use packed::Packed;
use scores::{Aggregate, Answer, Classes, Targets, Winner};
use structure::Gives;

mod forest;
mod keys;
mod leaves;
mod packed;
mod scores;
mod structure;
mod sums;
mod walk;

#[cfg(test)]
mod tests;

/// A forest before and after the type of its rows is known.
#[derive(Clone, Debug)]
enum Trees {
    Read(Arc<Forest>),
    Single(Arc<Packed<f32>>),
    Double(Arc<Packed<f64>>),
}

impl Trees {
    fn features(&self) -> usize {
        match self {
            Self::Read(forest) => forest.features,
            Self::Single(forest) => forest.columns.features,
            Self::Double(forest) => forest.columns.features,
        }
    }
}

/// `ai.onnx.ml.TreeEnsembleClassifier`: labels [rows] and scores [rows, classes].
pub(super) fn classifier(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let labels = Labels::of(proto, "classlabels_int64s")?;
    let gives = Gives { ids: "class_ids", nodes: "class_nodeids", trees: "class_treeids", weights: "class_weights" };
    let forest = structure::forest(context, proto, gives, labels.len())?;
    let base = structure::numbers(context, proto, "base_values")?;
    ensure!(
        base.len() <= labels.len(),
        "attribute 'base_values': expected at most {} values, got {}",
        labels.len(),
        base.len()
    );
    let classes = Classes::new(&forest, base, labels.len(), PostTransform::of(proto)?);
    let op = Classifier { trees: Trees::Read(Arc::new(forest)), classes: Arc::new(classes), labels: Arc::new(labels) };
    Ok((node(op), vec![]))
}

/// `ai.onnx.ml.TreeEnsembleRegressor`: values [rows, targets], always of single precision.
pub(super) fn regressor(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    Ok((node(read_regressor(context, proto)?), vec![]))
}

/// `ai.onnx.ml.TreeEnsemble`, given as the older operator: values [rows, targets] of the type that rows have, which is that of
/// the weights, `datum`.
pub(super) fn ensemble(context: &ParsingContext<'_>, older: &NodeProto, datum: DatumType) -> Built {
    Ok((node(Regressor { only: Some(datum), ..read_regressor(context, older)? }), vec![]))
}

fn read_regressor(context: &ParsingContext<'_>, proto: &NodeProto) -> TractResult<Regressor> {
    let targets: usize = proto.get_attr_opt("n_targets")?.unwrap_or(1);
    ensure!(targets > 0, "attribute 'n_targets': expected at least 1, got 0");
    let gives =
        Gives { ids: "target_ids", nodes: "target_nodeids", trees: "target_treeids", weights: "target_weights" };
    let forest = structure::forest(context, proto, gives, targets)?;
    let base = structure::numbers(context, proto, "base_values")?;
    let targets = Targets::new(Aggregate::of(proto)?, base, targets, PostTransform::of(proto)?, forest.roots.len());
    Ok(Regressor { trees: Trees::Read(Arc::new(forest)), targets: Arc::new(targets), only: None })
}

#[derive(Clone, Debug)]
struct Classifier {
    trees: Trees,
    classes: Arc<Classes>,
    labels: Arc<Labels>,
}

impl Classifier {
    fn label(&self, winner: Winner) -> Label<'_> {
        match (winner, &*self.labels) {
            (Winner::Sign(positive), Labels::Ints(_)) => Label::Int(i64::from(positive)),
            (Winner::Sign(positive), labels) => labels.pick(usize::from(positive)),
            (Winner::Class(class), labels) => labels.pick(class),
        }
    }

    fn pack<T: Number>(&self, forest: &Forest) -> Packed<T> {
        Packed::new(forest, Leaves::quickest(forest, self.labels.len()))
    }

    fn run_in<T: Datum + Number>(&self, forest: &Packed<T>, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let (rows, features) = table(input)?;
        let input = input.cast_to::<T>()?;
        let classes = self.labels.len();
        let summed = sums::sum(forest, input.try_as_plain_ram()?.as_slice()?, features, classes)?;
        let mut scores = Tensor::zero::<f32>(&[rows, classes])?;
        let mut view = scores.try_as_plain_ram_mut()?;
        let rows_of_scores = summed.rows().zip(view.as_slice_mut::<f32>()?.chunks_exact_mut(classes));
        let won = rows_of_scores.map(|(row, out)| self.label(self.classes.finish(row, out)));
        let labels = match &*self.labels {
            Labels::Strings(_) => self.labels.tensor(&won.collect::<Vec<_>>()),
            Labels::Ints(_) => {
                let mut labels = Tensor::zero::<i64>(&[rows])?;
                let mut view = labels.try_as_plain_ram_mut()?;
                for (label, won) in view.as_slice_mut::<i64>()?.iter_mut().zip(won) {
                    *label = won.int().unwrap_or_default();
                }
                labels
            }
        };
        Ok(tvec![labels, scores])
    }
}

impl Kernel for Classifier {
    fn name(&self) -> &'static str {
        "TreeEnsembleClassifier"
    }

    fn outputs(&self) -> usize {
        2
    }

    fn width(&self) -> Width {
        Width::AtLeast(self.trees.features())
    }

    fn facts(&self, _: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        let (rows, _) = rows_and_features(shape)?;
        let scores = tvec![rows.clone(), self.labels.len().to_dim()];
        Ok(vec![(self.labels.datum(), tvec![rows]), (DatumType::F32, scores)])
    }

    fn made_for(&self, datum: DatumType) -> Option<Arc<dyn Kernel>> {
        let Trees::Read(forest) = &self.trees else { return None };
        // Doubles are compared as doubles, everything else as floats.
        let trees = match datum {
            DatumType::F64 => Trees::Double(Arc::new(self.pack(forest))),
            _ => Trees::Single(Arc::new(self.pack(forest))),
        };
        Some(Arc::new(Self { trees, ..self.clone() }))
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        match &self.trees {
            Trees::Read(_) => bail!("trees: the type of their rows is not known"),
            Trees::Single(forest) => self.run_in(forest, input),
            Trees::Double(forest) => self.run_in(forest, input),
        }
    }
}

#[derive(Clone, Debug)]
struct Regressor {
    trees: Trees,
    targets: Arc<Targets>,
    /// The one type of rows and answers; `None` = rows of any, answers of single precision.
    only: Option<DatumType>,
}

impl Regressor {
    fn run_in<T: Datum + Number + Answer>(&self, forest: &Packed<T>, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let values = match self.only {
            Some(DatumType::F64) => self.answers::<T, T>(forest, input)?,
            _ => self.answers::<T, f32>(forest, input)?,
        };
        // Half precision is compared and added in single.
        Ok(tvec![values.cast_to_dt(self.only.unwrap_or(DatumType::F32))?.into_owned()])
    }

    fn answers<T: Datum + Number, O: Datum + Answer>(&self, forest: &Packed<T>, input: &Tensor) -> TractResult<Tensor> {
        let (rows, features) = table(input)?;
        let input = input.cast_to::<T>()?;
        let input = input.try_as_plain_ram()?;
        let targets = self.targets.count();
        let summed = self.targets.aggregate(forest, input.as_slice()?, features)?;
        let mut values = Tensor::zero::<O>(&[rows, targets])?;
        let mut view = values.try_as_plain_ram_mut()?;
        for (row, out) in summed.rows().zip(view.as_slice_mut::<O>()?.chunks_exact_mut(targets)) {
            self.targets.finish(row, out);
        }
        Ok(values)
    }
}

impl Kernel for Regressor {
    fn name(&self) -> &'static str {
        if self.only.is_some() { "TreeEnsemble" } else { "TreeEnsembleRegressor" }
    }

    fn outputs(&self) -> usize {
        1
    }

    fn width(&self) -> Width {
        Width::AtLeast(self.trees.features())
    }

    fn facts(&self, datum: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        let fits = self.only.is_none_or(|only| only == datum);
        ensure!(fits, "expected an input of type {:?}, as the weights have, got {datum:?}", self.only.unwrap_or(datum));
        let (rows, _) = rows_and_features(shape)?;
        Ok(vec![(self.only.unwrap_or(DatumType::F32), tvec![rows, self.targets.count().to_dim()])])
    }

    fn made_for(&self, datum: DatumType) -> Option<Arc<dyn Kernel>> {
        let Trees::Read(forest) = &self.trees else { return None };
        // Doubles are compared as doubles, everything else as floats.
        let trees = match datum {
            DatumType::F64 => Trees::Double(Arc::new(self.targets.pack(forest))),
            _ => Trees::Single(Arc::new(self.targets.pack(forest))),
        };
        Some(Arc::new(Self { trees, ..self.clone() }))
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        match &self.trees {
            Trees::Read(_) => bail!("trees: the type of their rows is not known"),
            Trees::Single(forest) => self.run_in(forest, input),
            Trees::Double(forest) => self.run_in(forest, input),
        }
    }
}
