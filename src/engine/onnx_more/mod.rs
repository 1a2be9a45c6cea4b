//! Standard operators that the graph library does not have. Called once, by `TractEngine::new`.

use tract_onnx::model::OnnxOpRegister;

mod moves;
mod numeric;
mod reordering;
mod roi_align;
mod strings;
mod tf_idf;
mod tokenizer;
mod unique;
mod upsample;
mod windows;

/// Adds our operators.
pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert("AffineGrid", numeric::affine_grid);
    operators.insert("BitCast", numeric::bit_cast);
    operators.insert("CenterCropPad", reordering::center_crop_pad);
    operators.insert("Col2Im", windows::col_to_image);
    operators.insert("Compress", reordering::compress);
    operators.insert("CumProd", numeric::cumulative_product);
    operators.insert("Det", numeric::determinant);
    operators.insert("LpPool", windows::lp_pool);
    operators.insert("MaxUnpool", windows::max_unpool);
    operators.insert("Resize", upsample::resize);
    operators.insert("ReverseSequence", reordering::reverse_sequence);
    operators.insert("RoiAlign", roi_align::roi_align);
    operators.insert("StringConcat", strings::concat);
    operators.insert("StringNormalizer", strings::normalizer);
    operators.insert("StringSplit", strings::split);
    operators.insert("TfIdfVectorizer", tf_idf::vectorizer);
    operators.insert("Tokenizer", tokenizer::tokenizer);
    operators.insert("Unique", unique::unique);
    operators.insert("Upsample", upsample::upsample);
}
