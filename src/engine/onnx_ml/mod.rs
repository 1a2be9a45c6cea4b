//! The operators of `ai.onnx.ml` that scikit-learn, LightGBM and XGBoost export: those that the graph library lacks, gets
//! wrong, or runs a thousand times slower than need be. Where the standard leaves something open they do what ONNX Runtime
//! does. Called once, by `TractEngine::new`.

use tract_onnx::model::OnnxOpRegister;

mod extract;
mod features;
mod kernel;
mod keys;
mod label_encoder;
mod linear;
mod normalizer;
mod post;
mod scaler;
mod svm;
mod tree_ensemble;
mod trees;

use super::operator::{Built, Fact};

pub(super) use kernel::{KernelOp, Width};

/// Adds our operators, in place of the graph library's own where it has them.
pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert("ArrayFeatureExtractor", extract::extractor);
    operators.insert("Binarizer", features::binarizer);
    operators.insert("CategoryMapper", label_encoder::category_mapper);
    operators.insert("FeatureVectorizer", features::feature_vectorizer);
    operators.insert("Imputer", features::imputer);
    operators.insert("LabelEncoder", label_encoder::label_encoder);
    operators.insert("LinearClassifier", linear::classifier);
    operators.insert("LinearRegressor", linear::regressor);
    operators.insert("Normalizer", normalizer::normalizer);
    operators.insert("OneHotEncoder", features::one_hot);
    operators.insert("SVMClassifier", svm::classifier);
    operators.insert("SVMRegressor", svm::regressor);
    operators.insert("Scaler", scaler::scaler);
    operators.insert("TreeEnsemble", tree_ensemble::ensemble);
    operators.insert("TreeEnsembleClassifier", trees::classifier);
    operators.insert("TreeEnsembleRegressor", trees::regressor);
    operators.insert("ZipMap", normalizer::zip_map);
}
