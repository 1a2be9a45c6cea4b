//! What models do with raw scores: post transforms, and class labels. Shared by the tree and linear operators.

use tract_onnx::{
    pb::NodeProto,
    prelude::{DatumType, Tensor, TractResult, tract_num_traits::Float},
    tract_hir::internal::{bail, ensure, tensor1},
};

/// The attribute `post_transform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PostTransform {
    None,
    Softmax,
    Logistic,
    /// Softmax that leaves zeros where they are.
    SoftmaxZero,
    Probit,
}

impl PostTransform {
    /// # Errors
    /// When the attribute has a value that the standard does not know.
    pub(super) fn of(node: &NodeProto) -> TractResult<Self> {
        let name: Option<String> = node.get_attr_opt("post_transform")?;
        Ok(match name.as_deref().unwrap_or("NONE") {
            "NONE" => Self::None,
            "SOFTMAX" => Self::Softmax,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => bail!("attribute 'post_transform': there is no transform '{other}'"),
        })
    }

    /// Transforms the scores of one row.
    pub(super) fn apply<T: Float>(self, scores: &mut [T]) {
        match self {
            Self::None => {}
            Self::Softmax => softmax(scores, |_| true),
            Self::SoftmaxZero => softmax(scores, |score| score.abs() > of(1e-7)),
            Self::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
        }
    }
}

/// A constant in a precision.
fn of<T: Float>(value: f32) -> T {
    T::from(value).unwrap_or_else(T::nan)
}

/// Softmax over the scores that count. Those that do not stay next to nothing, as they are.
fn softmax<T: Float>(scores: &mut [T], counts: impl Fn(T) -> bool) {
    let highest = scores.iter().copied().fold(T::min_value(), T::max);
    let mut sum = T::zero();
    for score in scores.iter_mut() {
        if counts(*score) {
            *score = (*score - highest).exp();
            sum = sum + *score;
        } else {
            *score = *score * (-highest).exp();
        }
    }
    scores.iter_mut().for_each(|score| *score = *score / sum);
}

/// 1 / (1 + e^-x), without overflow on either side.
pub(super) fn logistic<T: Float>(x: T) -> T {
    let (one, nothing) = (T::one(), T::zero());
    let positive = one / (one + (-x.abs()).exp());
    if x < nothing { one - positive } else { positive }
}

/// The quantile of the standard normal distribution, by Winitzki's approximation of the inverse error function, which is
/// what ONNX Runtime computes: in single precision, whatever the scores have, as it is right to three digits only.
pub(super) fn probit<T: Float>(p: T) -> T {
    of(probit_in_single(p.to_f32().unwrap_or(f32::NAN)))
}

fn probit_in_single(p: f32) -> f32 {
    const A: f32 = 0.147;
    // Not the closest float to pi: the constant is part of the approximation.
    #[expect(clippy::approx_constant, reason = "the approximation is defined with this many digits")]
    const PI: f32 = 3.14159;
    let y = 2.0 * p - 1.0;
    let log = ((1.0 - y) * (1.0 + y)).ln();
    let half = 2.0 / (PI * A) + 0.5 * log;
    let root = (-half + (half * half - 1.0 / A * log).sqrt()).sqrt();
    std::f32::consts::SQRT_2 * root.copysign(if y < 0.0 { -1.0 } else { 1.0 })
}

/// Names of classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Labels {
    Ints(Vec<i64>),
    Strings(Vec<String>),
}

impl Labels {
    /// Reads the labels of a classifier from `<ints>` or `classlabels_strings`.
    ///
    /// # Errors
    /// When there are none, or both.
    pub(super) fn of(node: &NodeProto, ints: &str) -> TractResult<Self> {
        let numbers: Vec<i64> = node.get_attr_opt_vec(ints)?.unwrap_or_default();
        let strings: Vec<String> = node.get_attr_opt_vec("classlabels_strings")?.unwrap_or_default();
        ensure!(
            numbers.is_empty() || strings.is_empty(),
            "attributes '{ints}' and 'classlabels_strings': both are given"
        );
        if !strings.is_empty() {
            return Ok(Self::Strings(strings));
        }
        ensure!(!numbers.is_empty(), "attributes '{ints}' and 'classlabels_strings': neither is given");
        Ok(Self::Ints(numbers))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Ints(labels) => labels.len(),
            Self::Strings(labels) => labels.len(),
        }
    }

    pub(super) fn datum(&self) -> DatumType {
        match self {
            Self::Ints(_) => DatumType::I64,
            Self::Strings(_) => DatumType::String,
        }
    }

    /// The label of a class: an index into the labels, which are [`Labels::len`] many. One outside gives the first.
    pub(super) fn pick(&self, class: usize) -> Label<'_> {
        match self {
            Self::Ints(labels) => Label::Int(labels.get(class).or(labels.first()).copied().unwrap_or_default()),
            Self::Strings(labels) => Label::String(labels.get(class).or(labels.first()).map_or("", String::as_str)),
        }
    }

    /// A tensor [rows] of labels, which are all of this kind.
    pub(super) fn tensor(&self, picked: &[Label<'_>]) -> Tensor {
        match self {
            Self::Ints(_) => tensor1(&picked.iter().filter_map(Label::int).collect::<Vec<_>>()),
            Self::Strings(_) => tensor1(&picked.iter().filter_map(Label::string).collect::<Vec<_>>()),
        }
    }
}

/// One label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label<'a> {
    Int(i64),
    String(&'a str),
}

impl Label<'_> {
    /// The number of a label that is one.
    pub(super) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(label) => Some(*label),
            Self::String(_) => None,
        }
    }

    fn string(&self) -> Option<String> {
        match self {
            Self::Int(_) => None,
            Self::String(label) => Some((*label).to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(transform: PostTransform, scores: &[f32]) -> Vec<f32> {
        let mut scores = scores.to_vec();
        transform.apply(&mut scores);
        scores
    }

    #[test]
    fn softmax_does_not_overflow() {
        assert_eq!(applied(PostTransform::Softmax, &[1000.0, 1000.0]), [0.5, 0.5]);
        assert_eq!(applied(PostTransform::Softmax, &[-1000.0, -1000.0]), [0.5, 0.5]);
        assert_eq!(applied(PostTransform::SoftmaxZero, &[0.0, 3.0, 3.0]), [0.0, 0.5, 0.5]);
    }

    #[test]
    fn logistic_at_both_ends() {
        assert_eq!(applied(PostTransform::Logistic, &[200.0, 0.0, -200.0]), [1.0, 0.5, 0.0]);
    }

    #[test]
    fn probit_is_a_quantile() {
        for (p, z) in [(0.5, 0.0), (0.841_344_7, 1.0), (0.158_655_3, -1.0), (0.977_249_9, 2.0)] {
            assert!((probit::<f32>(p) - z).abs() < 5e-3, "{p}: {}", probit(p));
        }
    }
}
