//! Values that are looked up: which of a list of integers, floats or texts each element of a tensor is. Shared by
//! LabelEncoder, CategoryMapper and OneHotEncoder.

use std::{collections::HashMap, hash::Hash};

use tract_onnx::prelude::{DatumType, Tensor, TractResult};
use tract_onnx::tract_hir::internal::{bail, ensure};

/// Which place of a value counts that is in a list twice. The standard is silent; ONNX Runtime does it so by operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twice {
    First,
    Last,
}

/// Distinct values and where each is in a list.
#[derive(Clone, Debug)]
pub(super) enum Keys {
    Ints(HashMap<i64, usize>),
    /// By bits, with one zero and one NaN.
    Floats(HashMap<u64, usize>),
    Strings(HashMap<String, usize>),
}

/// Where each value is.
fn places<T: Hash + Eq>(values: impl IntoIterator<Item = T>, twice: Twice) -> HashMap<T, usize> {
    let mut places = HashMap::new();
    for (at, value) in values.into_iter().enumerate() {
        let place = places.entry(value).or_insert(at);
        if twice == Twice::Last {
            *place = at;
        }
    }
    places
}

fn bits(value: f64) -> u64 {
    match value {
        value if value.is_nan() => f64::NAN.to_bits(),
        0.0 => 0,
        value => value.to_bits(),
    }
}

impl Keys {
    pub(super) fn ints(values: impl IntoIterator<Item = i64>, twice: Twice) -> Self {
        Self::Ints(places(values, twice))
    }

    /// `nan` = a NaN among them is found; else it is like no other, as usual. Of equal values the first counts.
    pub(super) fn floats(values: impl IntoIterator<Item = f64>, nan: bool) -> Self {
        let mut places = places(values.into_iter().map(bits), Twice::First);
        if !nan {
            places.remove(&f64::NAN.to_bits());
        }
        Self::Floats(places)
    }

    pub(super) fn strings(values: impl IntoIterator<Item = String>, twice: Twice) -> Self {
        Self::Strings(places(values, twice))
    }

    /// Refuses inputs of a type that the values are not of.
    ///
    /// # Errors
    /// When an element could never be found.
    pub(super) fn check(&self, datum: DatumType) -> TractResult<()> {
        let fits = match self {
            Self::Strings(_) => datum == DatumType::String,
            Self::Ints(_) | Self::Floats(_) => datum.is_number() || datum == DatumType::TDim,
        };
        ensure!(fits, "there are no values of type {datum:?} to find");
        Ok(())
    }

    /// For every element the place of its value; `None` when it is not in the list.
    ///
    /// # Errors
    /// When the tensor is of another type.
    pub(super) fn find(&self, input: &Tensor) -> TractResult<Vec<Option<usize>>> {
        match self {
            Self::Ints(places) if input.datum_type().is_float() => {
                let input = input.cast_to::<f64>()?;
                let input = input.try_as_plain_ram()?;
                // What is not a number is none of them, and not 0.
                let find = |value: &f64| if value.is_nan() { None } else { places.get(&(*value as i64)).copied() };
                Ok(input.as_slice::<f64>()?.iter().map(find).collect())
            }
            Self::Ints(places) => {
                let input = input.cast_to::<i64>()?;
                let input = input.try_as_plain_ram()?;
                Ok(input.as_slice::<i64>()?.iter().map(|value| places.get(value).copied()).collect())
            }
            Self::Floats(places) => {
                let input = input.cast_to::<f64>()?;
                let input = input.try_as_plain_ram()?;
                Ok(input.as_slice::<f64>()?.iter().map(|value| places.get(&bits(*value)).copied()).collect())
            }
            Self::Strings(places) => {
                if input.datum_type() != DatumType::String {
                    bail!("expected texts, got {:?}", input.datum_type());
                }
                let input = input.try_as_plain_ram()?;
                Ok(input.as_slice::<String>()?.iter().map(|value| places.get(value).copied()).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::prelude::tensor1;

    use super::*;

    #[test]
    fn of_equal_values_one_counts() {
        let input = tensor1(&[1_i64, 2, 4]);
        let find = |twice| Keys::ints([1, 3, 2, 1], twice).find(&input).unwrap();
        assert_eq!(find(Twice::First), [Some(0), Some(2), None]);
        assert_eq!(find(Twice::Last), [Some(3), Some(2), None]);
        let texts = ["a", "", "b", "a"].map(str::to_owned);
        let input = tensor1(&["b".to_owned(), "a".to_owned()]);
        assert_eq!(Keys::strings(texts, Twice::Last).find(&input).unwrap(), [Some(2), Some(3)]);
    }

    #[test]
    fn what_is_no_number_is_not_zero() {
        let input = tensor1(&[f32::NAN, 0.0, 1.9, f32::INFINITY]);
        assert_eq!(Keys::ints([0, 1], Twice::First).find(&input).unwrap(), [None, Some(0), Some(1), None]);
    }
}
