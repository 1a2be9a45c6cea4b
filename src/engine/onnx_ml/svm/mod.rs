//! SVMClassifier and SVMRegressor: support vector machines of libsvm, and linear ones of liblinear.

use tract_onnx::{model::ParsingContext, pb::NodeProto, tract_hir::internal::*};

use super::{
    Built, Fact,
    kernel::{Kernel, Width, node, rows_and_features, table},
    post::{Label, Labels, PostTransform, logistic, probit},
};
use machine::{Machine, couple};

mod machine;

/// How sure a decision between two classes may be.
const SURE: f64 = 1.0 - 1e-7;

/// `ai.onnx.ml.SVMRegressor`: values [rows, 1].
pub(super) fn regressor(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let coefficients: Vec<f32> = proto.get_attr_vec("coefficients")?;
    let supports: usize = proto.get_attr_opt("n_supports")?.unwrap_or(0);
    let rho = first_rho(proto)?;
    let machine = if supports > 0 {
        ensure!(
            coefficients.len() == supports,
            "attribute 'coefficients': expected {supports} values, got {}",
            coefficients.len()
        );
        Machine::new(proto, proto.get_attr_vec("support_vectors")?, supports, false)?
    } else {
        Machine::new(proto, coefficients.clone(), 1, true)?
    };
    let coefficients = if supports > 0 { coefficients } else { vec![1.0] };
    let one_class = proto.get_attr_opt("one_class")?.unwrap_or(0_i64) != 0;
    Ok((node(Regressor { machine, coefficients, rho, one_class }), vec![]))
}

fn first_rho(proto: &NodeProto) -> TractResult<f64> {
    let rho: Vec<f32> = proto.get_attr_vec("rho")?;
    Ok(rho.first().copied().context("attribute 'rho': is empty")?.into())
}

#[derive(Debug)]
struct Regressor {
    machine: Machine,
    coefficients: Vec<f32>,
    rho: f64,
    /// Answers are 1 inside and -1 outside.
    one_class: bool,
}

impl Kernel for Regressor {
    fn name(&self) -> &'static str {
        "SVMRegressor"
    }

    fn outputs(&self) -> usize {
        1
    }

    fn width(&self) -> Width {
        Width::Exactly(self.machine.features)
    }

    fn facts(&self, _: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        let (rows, _) = rows_and_features(shape)?;
        Ok(vec![(DatumType::F32, tvec![rows, 1.to_dim()])])
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let (rows, features) = table(input)?;
        let input = input.cast_to::<f32>()?;
        let mut values = Vec::with_capacity(rows);
        for row in input.try_as_plain_ram()?.as_slice::<f32>()?.chunks_exact(features) {
            let value = weigh(&self.coefficients, &self.machine.compare(row)) + self.rho;
            let sign = if value > 0.0 { 1.0 } else { -1.0 };
            values.push(if self.one_class { sign } else { value as f32 });
        }
        Ok(tvec![tensor1(&values).into_shape(&[rows, 1])?])
    }
}

fn weigh(coefficients: &[f32], kernels: &[f64]) -> f64 {
    coefficients.iter().zip(kernels).map(|(coefficient, kernel)| f64::from(*coefficient) * kernel).sum()
}

/// `ai.onnx.ml.SVMClassifier`: labels [rows] and scores [rows, classes], or one score per pair of classes.
pub(super) fn classifier(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let labels = Labels::of(proto, "classlabels_ints")?;
    let post = PostTransform::of(proto)?;
    let coefficients: Vec<f32> = proto.get_attr_vec("coefficients")?;
    let per_class: Vec<usize> = proto.get_attr_opt_vec("vectors_per_class")?.unwrap_or_default();
    // Classes that share no vector are many; their sum must not overflow.
    let vectors = per_class.iter().try_fold(0_usize, |sum, count| sum.checked_add(*count));
    let vectors = vectors.context("attribute 'vectors_per_class': too many vectors")?;
    if vectors == 0 {
        let all_positive = coefficients.iter().all(|coefficient| *coefficient >= 0.0);
        let machine = Machine::new(proto, coefficients, labels.len(), true)?;
        return Ok((node(LinearClasses { machine, rho: first_rho(proto)?, labels, post, all_positive }), vec![]));
    }
    ensure!(
        per_class.len() == labels.len() && labels.len() > 1,
        "attribute 'vectors_per_class': expected {} values for at least 2 classes, got {}",
        labels.len(),
        per_class.len()
    );
    let machine = Machine::new(proto, proto.get_attr_vec("support_vectors")?, vectors, false)?;
    let pairs = labels.len() * (labels.len() - 1) / 2;
    let expect = |name: &str, got: usize, want: usize| {
        ensure!(got == want, "attribute '{name}': expected {want} values, got {got}");
        Ok(())
    };
    expect("coefficients", coefficients.len(), (labels.len() - 1) * vectors)?;
    let rho: Vec<f32> = proto.get_attr_vec("rho")?;
    expect("rho", rho.len(), pairs)?;
    let a: Vec<f32> = proto.get_attr_opt_vec("prob_a")?.unwrap_or_default();
    let b: Vec<f32> = proto.get_attr_opt_vec("prob_b")?.unwrap_or_default();
    let probability = if a.is_empty() && b.is_empty() {
        None
    } else {
        expect("prob_a", a.len(), pairs)?;
        expect("prob_b", b.len(), pairs)?;
        Some(a.into_iter().zip(b).collect())
    };
    Ok((node(Classes { machine, per_class, coefficients, rho, probability, labels, post }), vec![]))
}

/// liblinear: one linear function per class.
#[derive(Debug)]
struct LinearClasses {
    machine: Machine,
    rho: f64,
    labels: Labels,
    post: PostTransform,
    all_positive: bool,
}

impl LinearClasses {
    fn label(&self, scores: &[f32]) -> Label<'_> {
        let best = first_highest(scores);
        let bar = if self.all_positive { scores[best] >= 0.5 } else { scores[best] > 0.0 };
        // With two classes the second wins whenever any score is high enough: so does ONNX Runtime.
        self.labels.pick(if scores.len() == 2 && bar { 1 } else { best })
    }
}

fn first_highest<T: PartialOrd>(values: &[T]) -> usize {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = at;
        }
    }
    best
}

impl Kernel for LinearClasses {
    fn name(&self) -> &'static str {
        "SVMClassifier"
    }

    fn outputs(&self) -> usize {
        2
    }

    fn width(&self) -> Width {
        Width::Exactly(self.machine.features)
    }

    fn facts(&self, _: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        let (rows, _) = rows_and_features(shape)?;
        let scores = tvec![rows.clone(), self.labels.len().to_dim()];
        Ok(vec![(self.labels.datum(), tvec![rows]), (DatumType::F32, scores)])
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let (rows, features) = table(input)?;
        let input = input.cast_to::<f32>()?;
        let (mut labels, mut all) = (Vec::with_capacity(rows), Vec::with_capacity(rows * self.labels.len()));
        for row in input.try_as_plain_ram()?.as_slice::<f32>()?.chunks_exact(features) {
            let mut scores: Vec<f32> =
                self.machine.compare(row).into_iter().map(|dot| (dot + self.rho) as f32).collect();
            labels.push(self.label(&scores));
            if scores.len() > 1 || self.post == PostTransform::Probit {
                self.post.apply(&mut scores);
            }
            all.extend(scores);
        }
        Ok(tvec![self.labels.tensor(&labels), tensor1(&all).into_shape(&[rows, self.labels.len()])?])
    }
}

/// libsvm: a decision for each pair of classes.
#[derive(Debug)]
struct Classes {
    machine: Machine,
    per_class: Vec<usize>,
    /// [classes - 1, vectors]: of a class's vectors, against each other class.
    coefficients: Vec<f32>,
    /// One per pair.
    rho: Vec<f32>,
    /// Slope and offset of the probability of each pair.
    probability: Option<Vec<(f32, f32)>>,
    labels: Labels,
    post: PostTransform,
}

impl Classes {
    fn columns(&self) -> usize {
        match self.labels.len() {
            classes if self.probability.is_some() || classes == 2 => classes,
            _ => self.rho.len(),
        }
    }

    /// Decisions by pair, in the order (0,1), (0,2), … (1,2), …
    fn decide(&self, kernels: &[f64]) -> Vec<f64> {
        let classes = self.labels.len();
        let starts: Vec<usize> =
            self.per_class.iter().scan(0, |start, count| Some(std::mem::replace(start, *start + *count))).collect();
        let part = |class: usize, against: usize| {
            // Against itself a class has no coefficients.
            let line = if against > class { against - 1 } else { against };
            let (start, count) = (starts[class], self.per_class[class]);
            let from = line * kernels.len() + start;
            weigh(&self.coefficients[from..from + count], &kernels[start..start + count])
        };
        let pairs = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j)));
        pairs.zip(&self.rho).map(|((i, j), rho)| part(i, j) + part(j, i) + f64::from(*rho)).collect()
    }

    fn winner(&self, decisions: &[f64]) -> usize {
        let classes = self.labels.len();
        let mut votes = vec![0_usize; classes];
        let pairs = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j)));
        for ((i, j), decision) in pairs.zip(decisions) {
            votes[if *decision > 0.0 { i } else { j }] += 1;
        }
        first_highest(&votes)
    }

    fn scores(&self, decisions: &[f64]) -> Vec<f32> {
        let classes = self.labels.len();
        let mut scores: Vec<f32> = match &self.probability {
            Some(probability) => {
                let mut pairs = vec![0.0; classes * classes];
                let order = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j)));
                for ((i, j), (decision, (a, b))) in order.zip(decisions.iter().zip(probability)) {
                    let sure = 1.0 - f64::from(logistic((decision * f64::from(*a) + f64::from(*b)) as f32));
                    let sure = sure.clamp(1.0 - SURE, SURE);
                    pairs[i * classes + j] = sure;
                    pairs[j * classes + i] = 1.0 - sure;
                }
                couple(&pairs, classes).into_iter().map(|p| p as f32).collect()
            }
            None => decisions.iter().map(|decision| *decision as f32).collect(),
        };
        match (scores[..].first().copied(), scores.len()) {
            (Some(score), 1) => match self.post {
                PostTransform::None => vec![-score, score],
                PostTransform::Logistic => vec![logistic(-score), logistic(score)],
                PostTransform::Probit => vec![probit(score), 0.0],
                _ => vec![1.0 - score, score],
            },
            _ => {
                self.post.apply(&mut scores);
                scores
            }
        }
    }
}

impl Kernel for Classes {
    fn name(&self) -> &'static str {
        "SVMClassifier"
    }

    fn outputs(&self) -> usize {
        2
    }

    fn width(&self) -> Width {
        Width::Exactly(self.machine.features)
    }

    fn facts(&self, _: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        let (rows, _) = rows_and_features(shape)?;
        let scores = tvec![rows.clone(), self.columns().to_dim()];
        Ok(vec![(self.labels.datum(), tvec![rows]), (DatumType::F32, scores)])
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let (rows, features) = table(input)?;
        let input = input.cast_to::<f32>()?;
        let (mut labels, mut scores) = (Vec::with_capacity(rows), Vec::with_capacity(rows * self.columns()));
        for row in input.try_as_plain_ram()?.as_slice::<f32>()?.chunks_exact(features) {
            let decisions = self.decide(&self.machine.compare(row));
            labels.push(self.labels.pick(self.winner(&decisions)));
            scores.extend(self.scores(&decisions));
        }
        Ok(tvec![self.labels.tensor(&labels), tensor1(&scores).into_shape(&[rows, self.columns()])?])
    }
}
