//! The activations that recurrent operators may ask for by name.

use tract_onnx::{pb::NodeProto, prelude::TractResult, tract_hir::internal::*};

/// A function of one number, with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Activation {
    Relu,
    Tanh,
    Sigmoid,
    Softsign,
    Softplus,
    Affine(f32, f32),
    LeakyRelu(f32),
    ThresholdedRelu(f32),
    ScaledTanh(f32, f32),
    HardSigmoid(f32, f32),
    Elu(f32),
}

impl Activation {
    /// The activations of all directions; the usual ones where the node names none.
    ///
    /// # Errors
    /// When a name is unknown, or there are not as many as there have to be.
    pub(super) fn list(node: &NodeProto, usual: &[&str], directions: usize) -> TractResult<Vec<Self>> {
        let mut names: Vec<String> = node.get_attr_opt_vec("activations")?.unwrap_or_default();
        if names.is_empty() {
            names = usual.iter().map(|name| (*name).to_owned()).collect();
        }
        let count = usual.len() * directions;
        if names.len() == usual.len() {
            names = names.iter().cycle().take(count).cloned().collect();
        }
        ensure!(names.len() == count, "attribute 'activations': expected {count} names, got {}", names.len());
        // Each function takes from the lists what it has use for.
        let alphas: Vec<f32> = node.get_attr_opt_vec("activation_alpha")?.unwrap_or_default();
        let betas: Vec<f32> = node.get_attr_opt_vec("activation_beta")?.unwrap_or_default();
        let (mut alphas, mut betas) = (alphas.into_iter(), betas.into_iter());
        names.iter().map(|name| Self::of(name, &mut alphas, &mut betas)).collect()
    }

    fn of(
        name: &str,
        alphas: &mut impl Iterator<Item = f32>,
        betas: &mut impl Iterator<Item = f32>,
    ) -> TractResult<Self> {
        let mut alpha = |otherwise: f32| alphas.next().unwrap_or(otherwise);
        let mut beta = |otherwise: f32| betas.next().unwrap_or(otherwise);
        Ok(match name.to_ascii_lowercase().as_str() {
            "relu" => Self::Relu,
            "tanh" => Self::Tanh,
            "sigmoid" => Self::Sigmoid,
            "softsign" => Self::Softsign,
            "softplus" => Self::Softplus,
            "affine" => Self::Affine(alpha(1.0), beta(0.0)),
            "leakyrelu" => Self::LeakyRelu(alpha(0.01)),
            "thresholdedrelu" => Self::ThresholdedRelu(alpha(1.0)),
            "scaledtanh" => Self::ScaledTanh(alpha(1.0), beta(1.0)),
            "hardsigmoid" => Self::HardSigmoid(alpha(0.2), beta(0.5)),
            "elu" => Self::Elu(alpha(1.0)),
            _ => bail!("attribute 'activations': there is no activation '{name}'"),
        })
    }

    pub(super) fn apply(self, x: f32) -> f32 {
        match self {
            Self::Relu => x.max(0.0),
            Self::Tanh => x.tanh(),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Self::Affine(alpha, beta) => alpha * x + beta,
            Self::LeakyRelu(alpha) => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Self::ThresholdedRelu(alpha) => {
                if x > alpha {
                    x
                } else {
                    0.0
                }
            }
            Self::ScaledTanh(alpha, beta) => alpha * (beta * x).tanh(),
            Self::HardSigmoid(alpha, beta) => (alpha * x + beta).clamp(0.0, 1.0),
            Self::Elu(alpha) => {
                if x < 0.0 {
                    alpha * x.exp_m1()
                } else {
                    x
                }
            }
        }
    }
}
