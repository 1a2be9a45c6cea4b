//! From sums to answers: means, base values, the label that wins and the post transform. The standard leaves much of this open
//! for two classes; what is here is what ONNX Runtime answers (docs/engines.md tells it).

use tract_onnx::{
    pb::NodeProto,
    prelude::{TractResult, tract_num_traits::Float},
    tract_hir::internal::bail,
};

use super::{
    super::post::{PostTransform, logistic, probit},
    forest::Forest,
    keys::Number,
    leaves::{Leaves, number},
    packed::Packed,
    sums::{Row, Scores, combine, sum},
};

/// The attribute `aggregate_function`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

impl Aggregate {
    pub(super) fn of(node: &NodeProto) -> TractResult<Self> {
        let name: Option<String> = node.get_attr_opt("aggregate_function")?;
        Ok(match name.as_deref().unwrap_or("SUM") {
            "SUM" => Self::Sum,
            "AVERAGE" => Self::Average,
            "MIN" => Self::Min,
            "MAX" => Self::Max,
            other => bail!("attribute 'aggregate_function': there is no function '{other}'"),
        })
    }
}

/// How a regressor finishes.
#[derive(Clone, Debug)]
pub(super) struct Targets {
    aggregate: Aggregate,
    base: Vec<f64>,
    post: PostTransform,
    trees: usize,
}

impl Targets {
    /// Base values count when there is one for each of the `targets`.
    pub(super) fn new(
        aggregate: Aggregate,
        mut base: Vec<f64>,
        targets: usize,
        post: PostTransform,
        trees: usize,
    ) -> Self {
        if base.len() != targets {
            base = vec![0.0; targets];
        }
        Self { aggregate, base, post, trees }
    }

    pub(super) fn count(&self) -> usize {
        self.base.len()
    }

    /// The trees, made for rows of `T` and for this aggregate.
    pub(super) fn pack<T: Number>(&self, forest: &Forest) -> Packed<T> {
        let leaves = match self.aggregate {
            Aggregate::Sum | Aggregate::Average => Leaves::quickest(forest, self.count()),
            Aggregate::Min | Aggregate::Max => Leaves::lists(forest),
        };
        Packed::new(forest, leaves)
    }

    /// What the trees give to rows of so many features.
    ///
    /// # Errors
    /// When rows have fewer features than the trees ask for.
    pub(super) fn aggregate<'a, T: Number>(
        &self,
        forest: &'a Packed<T>,
        rows: &[T],
        features: usize,
    ) -> TractResult<Scores<'a, T>> {
        let width = self.count();
        match self.aggregate {
            Aggregate::Sum | Aggregate::Average => sum(forest, rows, features, width),
            Aggregate::Min => combine(forest, rows, features, width, |a, b, given| if given && a <= b { a } else { b }),
            Aggregate::Max => combine(forest, rows, features, width, |a, b, given| if given && a >= b { a } else { b }),
        }
    }

    /// The answer for a row. What no tree gave anything to is 0, whatever its base value.
    pub(super) fn finish<T: Number, O: Answer>(&self, row: Row<'_, T>, out: &mut [O]) {
        let alone = out.len() == 1;
        for (target, out) in out.iter_mut().enumerate() {
            let mut value = row.values[target];
            if self.aggregate == Aggregate::Average {
                value = value / number(self.trees as f64);
            }
            *out = if row.is_given(target) || alone { O::of(value + number(self.base[target])) } else { O::zero() };
        }
        // Of a single value only the probit is taken.
        if !alone || self.post == PostTransform::Probit {
            self.post.apply(out);
        }
    }
}

/// How a classifier finishes.
#[derive(Clone, Debug)]
pub(super) struct Classes {
    base: Vec<f64>,
    count: usize,
    post: PostTransform,
    /// Two classes, and all weights go to one of them.
    one_sided: bool,
    all_positive: bool,
}

impl Classes {
    pub(super) fn new(forest: &Forest, base: Vec<f64>, count: usize, post: PostTransform) -> Self {
        let first = forest.weights.first().map(|weight| weight.target);
        let one = first.is_some() && forest.weights.iter().all(|weight| Some(weight.target) == first);
        let all_positive = forest.weights.iter().all(|weight| weight.value >= 0.0);
        Self { base, count, post, one_sided: one && count == 2, all_positive }
    }

    /// Writes the scores of a row and gives the class that wins.
    pub(super) fn finish<T: Number>(&self, row: Row<'_, T>, out: &mut [f32]) -> Winner {
        match self.count {
            1 => self.finish_one(row, out),
            2 => self.finish_two(row, out),
            _ => self.finish_many(row, out),
        }
    }

    fn finish_one<T: Number>(&self, row: Row<'_, T>, out: &mut [f32]) -> Winner {
        let score = row.values[0] + number(self.base.first().copied().unwrap_or(0.0));
        out[0] = single(score);
        if self.post == PostTransform::Probit {
            out[0] = probit(out[0]);
        }
        Winner::Sign(score > T::zero())
    }

    fn finish_many<T: Number>(&self, row: Row<'_, T>, out: &mut [f32]) -> Winner {
        let mut best: Option<(usize, T)> = None;
        for (class, out) in out.iter_mut().enumerate() {
            let base = self.base.get(class);
            let score = row.values[class] + number(base.copied().unwrap_or(0.0));
            let counts = row.is_given(class) || base.is_some();
            if counts && best.is_none_or(|(_, highest)| score > highest) {
                best = Some((class, score));
            }
            *out = single(score);
        }
        self.post.apply(out);
        Winner::Class(best.map_or(0, |(class, _)| class))
    }

    fn finish_two<T: Number>(&self, row: Row<'_, T>, out: &mut [f32]) -> Winner {
        let [first, second] = [row.is_given(0), row.is_given(1)];
        let [mut s0, mut s1] = [row.values[0], row.values[1]];
        let mut alone = !second;
        match self.base[..] {
            [_, base] if second => {
                s1 = s0 + number(base);
                s0 = -s1;
            }
            [base0, base1] => {
                s0 = s0 + number(base0);
                s1 = s1 + number(base1);
                alone = false;
            }
            [base] => s0 = s0 + number(base),
            _ => {}
        }
        let nothing = T::zero();
        let decides = match (first, second) {
            (_, true) => s1,
            (true, false) => s0,
            (false, false) => nothing,
        };
        if alone {
            self.write_alone(single(s0), out);
        } else {
            let shown = |given: bool, score: T| if given { single(score) } else { 0.0 };
            out.copy_from_slice(&[shown(first, s0), shown(second, s1)]);
            self.post.apply(out);
        }
        if !self.one_sided {
            return Winner::Sign(decides > nothing);
        }
        let bar = if self.all_positive { number(0.5) } else { nothing };
        Winner::Class(usize::from(decides > bar))
    }

    /// One score for two classes.
    fn write_alone(&self, score: f32, out: &mut [f32]) {
        let pair = match self.post {
            PostTransform::Probit => [probit(score), 0.0],
            PostTransform::Logistic if self.one_sided || self.base.is_empty() => {
                // Both are the same larger part and what is left of it.
                let larger = logistic(score.abs());
                if score < 0.0 { [larger, 1.0 - larger] } else { [1.0 - larger, larger] }
            }
            _ if !self.one_sided && self.base.len() == 1 => [score, 0.0],
            _ if self.one_sided && self.all_positive => [1.0 - score, score],
            _ => [-score, score],
        };
        out.copy_from_slice(&pair);
    }
}

/// Which label a row gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Winner {
    /// That of a class.
    Class(usize),
    /// ONNX Runtime does not look at integer labels when both classes have weights, or there is but one class: it answers 1 for
    /// a positive score, else 0. Text labels it takes from the class of that index.
    Sign(bool),
}

fn single<T: Number>(value: T) -> f32 {
    f32::of(value)
}

/// What answers are of.
pub(super) trait Answer: Float {
    /// The nearest answer.
    fn of<T: Float>(value: T) -> Self;
}

impl Answer for f32 {
    fn of<T: Float>(value: T) -> Self {
        value.to_f32().unwrap_or(Self::NAN)
    }
}

impl Answer for f64 {
    fn of<T: Float>(value: T) -> Self {
        value.to_f64().unwrap_or(Self::NAN)
    }
}
