//! TreeEnsembleClassifier and TreeEnsembleRegressor. The graph library's own give wrong labels for two classes and take time
//! in proportion to all leaves of the forest; these walk a flat array.

use std::sync::Arc;

use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::{DatumType, TVec, Tensor, TractResult, tract_num_traits::Float},
    tract_hir::internal::{Datum, TDim, ToDim as _, ensure, tensor1, tvec},
};

use super::{
    Built,
    kernel::{Fact, Kernel, node, rows_and_features, table},
    post::{Label, Labels, PostTransform},
};
use forest::Forest;
use scores::{Aggregate, Classes, Targets, Winner};
use structure::Gives;

mod forest;
mod scores;
mod structure;

#[cfg(test)]
mod tests;

/// A forest in the precision of its inputs.
#[derive(Clone, Debug)]
enum Trees {
    Single(Forest<f32>),
    Double(Forest<f64>),
}

impl Trees {
    /// Doubles are compared as doubles, everything else as floats.
    fn made_for(&self, datum: DatumType) -> Option<Self> {
        match self {
            Self::Double(forest) if datum != DatumType::F64 => Some(Self::Single(forest.to())),
            _ => None,
        }
    }

    fn features(&self) -> usize {
        match self {
            Self::Single(forest) => forest.features,
            Self::Double(forest) => forest.features,
        }
    }

    fn check(&self, features: &TDim) -> TractResult<()> {
        let least = self.features();
        let enough = features.as_i64().is_none_or(|features| features >= least as i64);
        ensure!(enough, "expected at least {least} features, got {features}");
        Ok(())
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
    let op = Classifier { trees: Trees::Double(forest), classes: Arc::new(classes), labels: Arc::new(labels) };
    Ok((node(op), vec![]))
}

/// `ai.onnx.ml.TreeEnsembleRegressor`: values [rows, targets].
pub(super) fn regressor(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let targets: usize = proto.get_attr_opt("n_targets")?.unwrap_or(1);
    ensure!(targets > 0, "attribute 'n_targets': expected at least 1, got 0");
    let gives =
        Gives { ids: "target_ids", nodes: "target_nodeids", trees: "target_treeids", weights: "target_weights" };
    let forest = structure::forest(context, proto, gives, targets)?;
    let base = structure::numbers(context, proto, "base_values")?;
    let targets = Targets::new(Aggregate::of(proto)?, base, targets, PostTransform::of(proto)?, forest.roots.len());
    Ok((node(Regressor { trees: Trees::Double(forest), targets: Arc::new(targets) }), vec![]))
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

    fn run_in<T: Datum + Float>(&self, forest: &Forest<T>, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let (rows, features) = table(input)?;
        let input = input.cast_to::<T>()?;
        let classes = self.labels.len();
        let mut won = Vec::with_capacity(rows);
        let mut scores = vec![0_f32; rows * classes];
        let summed = scores::sum(forest, input.try_as_plain_ram()?.as_slice()?, features, classes)?;
        for (row, out) in summed.rows().zip(scores.chunks_exact_mut(classes)) {
            won.push(self.label(self.classes.finish(row, out)));
        }
        Ok(tvec![self.labels.tensor(&won), tensor1(&scores).into_shape(&[rows, classes])?])
    }
}

impl Kernel for Classifier {
    fn name(&self) -> &'static str {
        "TreeEnsembleClassifier"
    }

    fn outputs(&self) -> usize {
        2
    }

    fn facts(&self, _: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        let (rows, features) = rows_and_features(shape)?;
        self.trees.check(&features)?;
        let scores = tvec![rows.clone(), self.labels.len().to_dim()];
        Ok(vec![(self.labels.datum(), tvec![rows]), (DatumType::F32, scores)])
    }

    fn made_for(&self, datum: DatumType) -> Option<Arc<dyn Kernel>> {
        let trees = self.trees.made_for(datum)?;
        Some(Arc::new(Self { trees, ..self.clone() }))
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        match &self.trees {
            Trees::Single(forest) => self.run_in(forest, input),
            Trees::Double(forest) => self.run_in(forest, input),
        }
    }
}

#[derive(Clone, Debug)]
struct Regressor {
    trees: Trees,
    targets: Arc<Targets>,
}

impl Regressor {
    fn run_in<T: Datum + Float>(&self, forest: &Forest<T>, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let (rows, features) = table(input)?;
        let input = input.cast_to::<T>()?;
        let input = input.try_as_plain_ram()?;
        let targets = self.targets.count();
        let mut values = vec![0_f32; rows * targets];
        let summed = self.targets.aggregate(forest, input.as_slice()?, features)?;
        for (row, out) in summed.rows().zip(values.chunks_exact_mut(targets)) {
            self.targets.finish(row, out);
        }
        Ok(tvec![tensor1(&values).into_shape(&[rows, targets])?])
    }
}

impl Kernel for Regressor {
    fn name(&self) -> &'static str {
        "TreeEnsembleRegressor"
    }

    fn outputs(&self) -> usize {
        1
    }

    fn facts(&self, _: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        let (rows, features) = rows_and_features(shape)?;
        self.trees.check(&features)?;
        Ok(vec![(DatumType::F32, tvec![rows, self.targets.count().to_dim()])])
    }

    fn made_for(&self, datum: DatumType) -> Option<Arc<dyn Kernel>> {
        let trees = self.trees.made_for(datum)?;
        Some(Arc::new(Self { trees, ..self.clone() }))
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        match &self.trees {
            Trees::Single(forest) => self.run_in(forest, input),
            Trees::Double(forest) => self.run_in(forest, input),
        }
    }
}
