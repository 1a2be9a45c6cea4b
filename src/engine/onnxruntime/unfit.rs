//! Which failures of the library are about the sizes of a request. A graph that leaves sizes open is only held to what its
//! operators need when it runs, and then it is the caller who has to know. Called by `pool` and `session`.

use super::super::{EngineError, guard::error_text};
use crate::types::{Batch, Signature};

/// How the library says that sizes do not go together, as far as it could not mean anything else. Positions and values that are out
/// of range are not among them.
const SAYS: [&str; 18] = [
    "Attempting to broadcast an axis",
    "Cannot split using values",
    "Einsum operands could not be broadcast",
    "Either both scale and offset can be of feature size",
    "GEMM: Dimension mismatch",
    "Got invalid dimensions for input",
    "Input channels C is not equal to kernel channels",
    "Invalid input for SVM",
    "Invalid input scale: 0th dimension",
    "LinearClassifier: coefficients size",
    "LinearRegressor: coefficients length",
    "MatMul dimension mismatch",
    "Non concat axis dimensions must match",
    "One path in the graph requests feature",
    "Scale and (optional) bias must match",
    "Split size",
    "The input tensor cannot be reshaped",
    "invalid expand shape",
];

/// A failure of a run as an error: unfit inputs where that is what it says, with what is wrong before the place in its source.
pub(super) fn error(failure: &impl std::fmt::Display) -> EngineError {
    let text = failure.to_string();
    let Some(at) = SAYS.iter().filter_map(|says| text.find(says)).min() else {
        return EngineError::new(error_text(failure));
    };
    let what = error_text(&&text[at..]);
    let node = text[..at].split_once("while running ").and_then(|(_, rest)| {
        let (operator, rest) = rest.split_once(" node. Name:'")?;
        let (name, _) = rest.split_once('\'')?;
        Some(format!("node '{name}' ({operator}): {what}"))
    });
    EngineError::unfit(node.unwrap_or(what))
}

/// The same error, unless the signature says every size: then it is not for the caller.
pub(super) fn judged(error: EngineError, signature: &Signature) -> EngineError {
    let rows = usize::from(signature.batch == Batch::Rows);
    let open = signature.inputs.iter().any(|spec| spec.shape.iter().skip(rows).any(Option::is_none));
    if error.is_unfit() && !open { EngineError::new(error) } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{DType, TensorSpec};

    #[test]
    fn the_caller_is_told_what_does_not_fit_and_not_where_in_the_library() {
        let text = "Non-zero status code returned while running Trees node. Name:'forest' Status Message: /src/common.h:624 \
                    void Common<A>::Agg() [with A = float] One path in the graph requests feature 4 but input tensor has 3.";
        let error = error(&text);
        assert!(error.is_unfit());
        let told = "node 'forest' (Trees): One path in the graph requests feature 4 but input tensor has 3.";
        assert_eq!(error.to_string(), told);
        let input = |width| TensorSpec { name: "x".into(), dtype: DType::Fp32, shape: vec![None, width] };
        for (width, unfit) in [(None, true), (Some(4), false)] {
            let signature = Signature { inputs: vec![input(width)], outputs: vec![], batch: Batch::Rows };
            let judged = judged(error.clone(), &signature);
            assert_eq!((judged.is_unfit(), judged.to_string()), (unfit, told.to_owned()));
        }
    }

    #[test]
    fn other_failures_are_the_models() {
        let text = "Non-zero status code returned while running Gather node. Name:'' Status Message: indices element out of data \
                    bounds, idx=4 must be within the inclusive range [-3,2]";
        assert!(!error(&text).is_unfit());
        assert_eq!(error(&text).to_string(), text);
    }
}
