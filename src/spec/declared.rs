//! The inputs and outputs that a `config.pbtxt` declares, and whether the model has them. The registry checks them when it
//! loads a version: a declaration that does not fit the model is a mistake in one of the two, and clients believe both.

use crate::types::{Batch, DType, Signature, TensorSpec};

use super::problem::{Place, Problem};

/// A declared input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredTensor {
    /// The name.
    pub name: Box<str>,
    /// The element type, where it is declared.
    pub dtype: Option<DType>,
    /// The sizes; `None` = any. Without the batch dimension when the declaration leaves it out.
    pub dims: Vec<Option<usize>>,
    /// The key, for example `input[0]`.
    pub key: String,
    /// Where it stands.
    pub place: Place,
}

/// Whether declared sizes leave out the batch dimension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeclaredBatch {
    /// `max_batch_size` is positive: a batch dimension comes before the declared sizes.
    Before,
    /// `max_batch_size` is 0: the declared sizes are all there are.
    Absent,
    /// `max_batch_size` is not set: either reading is right.
    #[default]
    Unsaid,
}

/// What a `config.pbtxt` declares about the model's inputs and outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Inputs in the order of the file.
    pub inputs: Vec<DeclaredTensor>,
    /// Outputs in the order of the file.
    pub outputs: Vec<DeclaredTensor>,
    /// Whether the sizes leave out the batch dimension.
    pub batch: DeclaredBatch,
}

impl Declared {
    /// Every declaration that the loaded model contradicts, with its place in the `config.pbtxt`. Inputs and outputs that are
    /// not declared are fine: the model says what they are.
    pub fn check(&self, signature: &Signature) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.batch == DeclaredBatch::Before && signature.batch == Batch::None {
            let text = "expected 0, because the model has no batch dimension";
            problems.push(Place::default().problem("max_batch_size", text));
            return problems;
        }
        for (declared, model) in [(&self.inputs, &signature.inputs), (&self.outputs, &signature.outputs)] {
            problems.extend(declared.iter().filter_map(|tensor| self.check_tensor(tensor, model)));
        }
        problems
    }

    fn check_tensor(&self, declared: &DeclaredTensor, model: &[TensorSpec]) -> Option<Problem> {
        let wrong = |key: &str, text: String| Some(declared.place.problem(format!("{}{key}", declared.key), text));
        let Some(spec) = model.iter().find(|spec| *spec.name == *declared.name) else {
            let names: Vec<_> = model.iter().map(|spec| &*spec.name).collect();
            return wrong(".name", format!("expected '{}', got '{}'", names.join("' or '"), declared.name));
        };
        if let Some(dtype) = declared.dtype.filter(|dtype| *dtype != spec.dtype) {
            return wrong(".data_type", format!("expected {} as in the model, got {dtype}", spec.dtype));
        }
        let row = spec.shape.get(1..).unwrap_or_default();
        let fits = match self.batch {
            DeclaredBatch::Before => fits(&declared.dims, row),
            DeclaredBatch::Absent => fits(&declared.dims, &spec.shape),
            DeclaredBatch::Unsaid => fits(&declared.dims, &spec.shape) || fits(&declared.dims, row),
        };
        if fits {
            return None;
        }
        let expected = if self.batch == DeclaredBatch::Before { row } else { &spec.shape };
        wrong(".dims", format!("expected {} as in the model, got {}", show(expected), show(&declared.dims)))
    }
}

/// True when a tensor could have both shapes.
fn fits(declared: &[Option<usize>], model: &[Option<usize>]) -> bool {
    let same = |(a, b): (&Option<usize>, &Option<usize>)| a.is_none() || b.is_none() || a == b;
    declared.len() == model.len() && declared.iter().zip(model).all(same)
}

fn show(dims: &[Option<usize>]) -> String {
    let dims: Vec<_> = dims.iter().map(|dim| dim.map_or("-1".to_owned(), |size| size.to_string())).collect();
    format!("[{}]", dims.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: DType, shape: &[Option<usize>]) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape: shape.to_vec() }
    }

    fn declared(name: &str, dtype: Option<DType>, dims: &[Option<usize>], batch: DeclaredBatch) -> Declared {
        let place = Place { line: 4, column: 9 };
        let tensor = DeclaredTensor { name: name.into(), dtype, dims: dims.to_vec(), key: "input[0]".into(), place };
        Declared { inputs: vec![tensor], outputs: Vec::new(), batch }
    }

    fn check(declared: &Declared, batch: Batch, expected: &[&str]) {
        let signature =
            Signature { inputs: vec![spec("x", DType::Fp32, &[None, Some(3), None])], outputs: Vec::new(), batch };
        let problems: Vec<_> = declared.check(&signature).iter().map(ToString::to_string).collect();
        assert_eq!(problems, expected);
    }

    #[test]
    fn what_fits() {
        let row = [Some(3), Some(7)];
        let whole = [Some(5), Some(3), None];
        let fp32 = Some(DType::Fp32);
        check(&declared("x", fp32, &row, DeclaredBatch::Before), Batch::Rows, &[]);
        check(&declared("x", None, &[Some(3), None], DeclaredBatch::Before), Batch::Rows, &[]);
        check(&declared("x", fp32, &whole, DeclaredBatch::Absent), Batch::Rows, &[]);
        check(&declared("x", fp32, &whole, DeclaredBatch::Unsaid), Batch::None, &[]);
        check(&declared("x", fp32, &row, DeclaredBatch::Unsaid), Batch::Rows, &[]);
    }

    #[test]
    fn what_does_not() {
        let case = |name, dtype, dims: &[Option<usize>], batch, expected: &str| {
            check(&declared(name, Some(dtype), dims, batch), Batch::Rows, &[expected]);
        };
        let row = [Some(3), None];
        case("y", DType::Fp32, &row, DeclaredBatch::Before, "line 4, column 9: input[0].name: expected 'x', got 'y'");
        case(
            "x",
            DType::Fp16,
            &row,
            DeclaredBatch::Before,
            "line 4, column 9: input[0].data_type: expected FP32 as in the model, got FP16",
        );
        case(
            "x",
            DType::Fp32,
            &[Some(4), None],
            DeclaredBatch::Before,
            "line 4, column 9: input[0].dims: expected [3, -1] as in the model, got [4, -1]",
        );
        case(
            "x",
            DType::Fp32,
            &row,
            DeclaredBatch::Absent,
            "line 4, column 9: input[0].dims: expected [-1, 3, -1] as in the model, got [3, -1]",
        );
        let batched = declared("x", None, &row, DeclaredBatch::Before);
        check(&batched, Batch::None, &["max_batch_size: expected 0, because the model has no batch dimension"]);
    }
}
