//! What a model takes and gives, and the complete check of a request against it. Engines make signatures; the gateway checks
//! every request with [`Signature::accept`] before anything is queued, so that a batch never fails for one member's mistake.

use std::sync::Arc;

use super::{DType, Data, Error, NamedTensor, PlainInputs, Tensor};

/// One input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the graph.
    pub name: Arc<str>,
    /// Element type.
    pub dtype: DType,
    /// Sizes; `None` = any. Where [`Signature::batch`] is [`Batch::Rows`], dimension 0 is `None`.
    pub shape: Vec<Option<usize>>,
}

impl TensorSpec {
    /// The shape with -1 for "any", as metadata shows it.
    pub fn wire_shape(&self) -> Vec<i64> {
        self.shape.iter().map(|dim| dim.map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX))).collect()
    }
}

/// Whether dimension 0 is a batch of independent requests' rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Dimension 0 is dynamic and the same symbol in every input and output.
    Rows,
    /// There is no batch dimension: a request is one run.
    None,
}

/// The inputs and outputs of a model, in the graph's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What it takes.
    pub inputs: Vec<TensorSpec>,
    /// What it gives.
    pub outputs: Vec<TensorSpec>,
    /// Whether dimension 0 is a batch.
    pub batch: Batch,
}

/// A request's inputs in the model's order, and how many rows they have (1 without a batch dimension).
#[derive(Clone, Debug)]
pub struct Rows {
    /// One tensor per model input.
    pub inputs: Arc<[Tensor]>,
    /// Rows along dimension 0.
    pub rows: usize,
}

impl Signature {
    /// Checks names, datatypes, shapes, row counts and text encoding, and puts the inputs into the model's order.
    ///
    /// # Errors
    /// `InvalidArgument` naming the input, what was expected and what came; `TooLarge` above `max_rows` rows.
    pub fn accept(&self, given: &[NamedTensor], max_rows: usize) -> Result<Rows, Error> {
        self.check_names(given)?;
        let mut rows = None;
        let mut ordered = Vec::with_capacity(self.inputs.len());
        for spec in &self.inputs {
            let Some(input) = given.iter().find(|input| *input.name == *spec.name) else {
                return Err(Error::expected("inputs", format_args!("'{}'", spec.name), list(given)));
            };
            check_tensor(spec, &input.tensor)?;
            if self.batch == Batch::Rows {
                check_rows(&mut rows, input)?;
            }
            ordered.push(input.tensor.clone());
        }
        let rows = rows.unwrap_or(1);
        if rows > max_rows {
            let text = format!("rows: expected at most {max_rows}, got {rows}");
            return Err(Error::new(super::ErrorCode::TooLarge, text));
        }
        Ok(Rows { inputs: ordered.into(), rows })
    }

    /// How many rows the smallest plan of such a model has: one, or `None` where there is no batch dimension.
    pub fn one_row(&self) -> Option<usize> {
        (self.batch == Batch::Rows).then_some(1)
    }

    /// The short way of [`Signature::accept`], for inputs that are in the model's order already: `None` when they are not, and
    /// where that refuses; nothing has been taken then.
    pub fn accept_plain(&self, given: &mut PlainInputs<'_>, max_rows: usize) -> Option<Rows> {
        if given.len() != self.inputs.len() {
            return None;
        }
        let mut rows = None;
        for (spec, (name, tensor)) in self.inputs.iter().zip(given.iter()) {
            if *spec.name != **name || check_tensor(spec, tensor).is_err() {
                return None;
            }
            if self.batch == Batch::Rows {
                let got = tensor.shape().first().copied().filter(|got| *got > 0)?;
                if *rows.get_or_insert(got) != got {
                    return None;
                }
            }
        }
        let rows = rows.unwrap_or(1);
        if rows > max_rows {
            return None;
        }
        let inputs: Arc<[Tensor]> = match (given.len(), given.pop()) {
            // Without a list in between.
            (1, Some((_, only))) => Arc::new([only]),
            (_, last) => std::mem::take(given).into_iter().chain(last).map(|(_, tensor)| tensor).collect(),
        };
        Some(Rows { inputs, rows })
    }

    fn check_names(&self, given: &[NamedTensor]) -> Result<(), Error> {
        for (i, input) in given.iter().enumerate() {
            if !self.inputs.iter().any(|spec| spec.name == input.name) {
                let known: Vec<_> = self.inputs.iter().map(|spec| &*spec.name).collect();
                return Err(Error::expected(
                    "inputs",
                    format_args!("'{}'", known.join("', '")),
                    format_args!("unknown input '{}'", input.name),
                ));
            }
            if given[..i].iter().any(|other| other.name == input.name) {
                return Err(Error::invalid(format!("input '{}': given twice", input.name)));
            }
        }
        Ok(())
    }

    /// The index of an output.
    ///
    /// # Errors
    /// `InvalidArgument` naming the outputs that exist.
    pub fn output(&self, name: &str) -> Result<usize, Error> {
        self.outputs.iter().position(|spec| &*spec.name == name).ok_or_else(|| {
            let known: Vec<_> = self.outputs.iter().map(|spec| &*spec.name).collect();
            Error::expected(
                "outputs",
                format_args!("'{}'", known.join("', '")),
                format_args!("unknown output '{name}'"),
            )
        })
    }
}

fn list(given: &[NamedTensor]) -> String {
    let names: Vec<_> = given.iter().map(|input| &*input.name).collect();
    if names.is_empty() { "no inputs".to_owned() } else { format!("only '{}'", names.join("', '")) }
}

fn check_tensor(spec: &TensorSpec, tensor: &Tensor) -> Result<(), Error> {
    if tensor.dtype() != spec.dtype {
        return Err(Error::expected(format_args!("input '{}': datatype", spec.name), spec.dtype, tensor.dtype()));
    }
    let fits = tensor.shape().len() == spec.shape.len()
        && tensor.shape().iter().zip(&spec.shape).all(|(got, want)| want.is_none_or(|want| want == *got));
    if !fits {
        let subject = format_args!("input '{}': shape", spec.name).to_string();
        return Err(Error::expected(
            subject,
            format_args!("{:?}", spec.wire_shape()),
            format_args!("{:?}", tensor.shape()),
        ));
    }
    if let Data::Strings(items) = tensor.data()
        && let Some(bad) = items.iter().position(|item| std::str::from_utf8(item).is_err())
    {
        return Err(Error::invalid(format!("input '{}': element {bad} is not UTF-8", spec.name)));
    }
    Ok(())
}

fn check_rows(rows: &mut Option<usize>, input: &NamedTensor) -> Result<(), Error> {
    let got = input.tensor.shape().first().copied().unwrap_or(0);
    if got == 0 {
        return Err(Error::invalid(format!("input '{}': zero rows", input.name)));
    }
    match *rows {
        Some(expected) if expected != got => Err(Error::expected(
            format_args!("input '{}': rows", input.name),
            format_args!("{expected} as in the other inputs"),
            got,
        )),
        _ => {
            *rows = Some(got);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smallvec::smallvec;

    fn signature() -> Signature {
        let spec = |name: &str, shape: &[Option<usize>]| TensorSpec {
            name: name.into(),
            dtype: DType::Fp32,
            shape: shape.to_vec(),
        };
        Signature {
            inputs: vec![spec("a", &[None, Some(2)]), spec("b", &[None])],
            outputs: vec![spec("y", &[None])],
            batch: Batch::Rows,
        }
    }

    fn input(name: &str, shape: &[usize]) -> NamedTensor {
        let count = shape.iter().product();
        let tensor = Tensor::from_vec(DType::Fp32, shape.into(), vec![0_f32; count]).unwrap();
        NamedTensor { name: name.into(), tensor }
    }

    #[test]
    fn orders_inputs_and_counts_rows() {
        let rows = signature().accept(&[input("b", &[3]), input("a", &[3, 2])], 8).unwrap();
        assert_eq!(rows.rows, 3);
        assert_eq!(rows.inputs[0].shape(), [3, 2]);
    }

    #[test]
    fn names_what_is_wrong() {
        let check = |given: &[NamedTensor], text: &str| {
            assert_eq!(signature().accept(given, 4).unwrap_err().text(), text);
        };
        check(&[], "inputs: expected 'a', got no inputs");
        check(&[input("a", &[1, 2])], "inputs: expected 'b', got only 'a'");
        check(&[input("a", &[1, 2]), input("c", &[1])], "inputs: expected 'a', 'b', got unknown input 'c'");
        check(&[input("a", &[1, 2]), input("a", &[1, 2])], "input 'a': given twice");
        check(&[input("a", &[1, 3]), input("b", &[1])], "input 'a': shape: expected [-1, 2], got [1, 3]");
        check(&[input("a", &[2, 2]), input("b", &[1])], "input 'b': rows: expected 2 as in the other inputs, got 1");
        check(&[input("a", &[0, 2]), input("b", &[0])], "input 'a': zero rows");
        check(&[input("a", &[5, 2]), input("b", &[5])], "rows: expected at most 4, got 5");
        let wrong = NamedTensor {
            name: "a".into(),
            tensor: Tensor::from_vec(DType::Fp64, smallvec![1, 2], vec![0_f64; 2]).unwrap(),
        };
        check(&[wrong, input("b", &[1])], "input 'a': datatype: expected FP32, got FP64");
    }

    proptest! {
        #[test]
        fn the_short_way_takes_nothing_that_the_long_one_refuses(
            named in proptest::collection::vec(
                (prop_oneof![4 => Just("a"), 4 => Just("b"), 1 => Just("c")], proptest::collection::vec(0_usize..4, 0..3)),
                0..4,
            ),
            right in proptest::bool::weighted(0.5), rows in 0_usize..6,
        ) {
            let shapes = if right { vec![("a", vec![rows, 2]), ("b", vec![rows])] } else { named };
            let given: Vec<_> = shapes.iter().map(|(name, shape)| input(name, shape)).collect();
            let mut plain = shapes.iter().zip(&given).map(|((name, _), input)| ((*name).into(), input.tensor.clone())).collect();
            let (long, short) = (signature().accept(&given, 4), signature().accept_plain(&mut plain, 4));
            prop_assert_eq!(plain.len(), if short.is_some() { 0 } else { given.len() });
            if let Some(short) = &short {
                let long = long.as_ref().map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert_eq!((&short.inputs, short.rows), (&long.inputs, long.rows));
            }
            prop_assert_eq!(short.is_some(), long.is_ok() && given[0].name.as_ref() == "a");
        }
    }
}
