//! The kernels of support vector machines, and how decisions between pairs of classes become probabilities.

use tract_onnx::{
    pb::NodeProto,
    prelude::TractResult,
    tract_hir::internal::{bail, ensure},
};

/// Rounds of the coupling of pairwise probabilities at most.
const MAX_ROUNDS: usize = 100;

/// The attribute `kernel_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Linear,
    Poly,
    Rbf,
    Sigmoid,
}

/// Vectors that rows are compared with.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    form: Form,
    gamma: f64,
    coef0: f64,
    degree: f64,
    vectors: Vec<f32>,
    pub(super) features: usize,
}

impl Machine {
    /// `vectors` are `count` of the same length. `linear` = whatever the kernel says.
    ///
    /// # Errors
    /// When the kernel is unknown, or the vectors are not of one length.
    pub(super) fn new(node: &NodeProto, vectors: Vec<f32>, count: usize, linear: bool) -> TractResult<Self> {
        ensure!(
            count > 0 && !vectors.is_empty() && vectors.len().is_multiple_of(count),
            "expected {count} vectors of one length, got {} values",
            vectors.len()
        );
        let name: Option<String> = node.get_attr_opt("kernel_type")?;
        let form = match name.as_deref().unwrap_or("LINEAR") {
            _ if linear => Form::Linear,
            "LINEAR" => Form::Linear,
            "POLY" => Form::Poly,
            "RBF" => Form::Rbf,
            "SIGMOID" => Form::Sigmoid,
            other => bail!("attribute 'kernel_type': there is no kernel '{other}'"),
        };
        let params: Vec<f32> = node.get_attr_opt_vec("kernel_params")?.unwrap_or_default();
        let [gamma, coef0, degree] = match params[..] {
            [] => [0.0; 3],
            [gamma, coef0, degree] => [gamma, coef0, degree],
            _ => bail!("attribute 'kernel_params': expected 3 values, got {}", params.len()),
        };
        let features = vectors.len() / count;
        Ok(Self { form, gamma: gamma.into(), coef0: coef0.into(), degree: degree.into(), vectors, features })
    }

    /// How close a row is to each vector.
    pub(super) fn compare(&self, row: &[f32]) -> Vec<f64> {
        self.vectors.chunks_exact(self.features).map(|vector| self.kernel(row, vector)).collect()
    }

    fn kernel(&self, row: &[f32], vector: &[f32]) -> f64 {
        let pairs = row.iter().zip(vector).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        if self.form == Form::Rbf {
            let distance: f64 = pairs.map(|(a, b)| (a - b) * (a - b)).sum();
            return (-self.gamma * distance).exp();
        }
        let dot: f64 = pairs.map(|(a, b)| a * b).sum();
        match self.form {
            Form::Linear | Form::Rbf => dot,
            Form::Poly => (self.gamma * dot + self.coef0).powf(self.degree),
            Form::Sigmoid => (self.gamma * dot + self.coef0).tanh(),
        }
    }
}

/// Probabilities of `classes` classes from those of each pair, by the second method of Wu, Lin and Weng (2004):
/// `pairs[i * classes + j]` is how likely class i is when it is i or j.
pub(super) fn couple(pairs: &[f64], classes: usize) -> Vec<f64> {
    let at = |i: usize, j: usize| pairs[i * classes + j];
    // The quadratic form that the probabilities minimise.
    let mut form = vec![0.0; classes * classes];
    for i in 0..classes {
        for j in (0..classes).filter(|j| *j != i) {
            form[i * classes + i] += at(j, i) * at(j, i);
            form[i * classes + j] = -at(j, i) * at(i, j);
        }
    }
    let enough = 0.005 / classes as f64;
    let mut p = vec![1.0 / classes as f64; classes];
    for _ in 0..MAX_ROUNDS {
        let mut slope: Vec<f64> =
            form.chunks_exact(classes).map(|row| row.iter().zip(&p).map(|(q, p)| q * p).sum()).collect();
        let mut value: f64 = slope.iter().zip(&p).map(|(s, p)| s * p).sum();
        if slope.iter().all(|slope| (slope - value).abs() < enough) {
            break;
        }
        for i in 0..classes {
            let own = form[i * classes + i];
            let step = (value - slope[i]) / own;
            p[i] += step;
            value = (value + step * (step * own + 2.0 * slope[i])) / (1.0 + step) / (1.0 + step);
            for j in 0..classes {
                slope[j] = (slope[j] + step * form[i * classes + j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_that_agree_are_coupled_to_what_they_came_from() {
        let p = [0.5, 0.3, 0.2];
        let pairs: Vec<f64> =
            (0..9).map(|at| if at / 3 == at % 3 { 0.0 } else { p[at / 3] / (p[at / 3] + p[at % 3]) }).collect();
        for (got, want) in couple(&pairs, 3).iter().zip(p) {
            assert!((got - want).abs() < 5e-3, "{got} {want}");
        }
    }
}
