//! Whether two answers count as the same, and where they do not. Used by the golden gate and by the choice between engines.

use crate::types::{DType, Data, TIE, Tensor, Tolerance};

/// Elements of a text that an error shows.
const MAX_SHOWN: usize = 40;

/// Where and how one answer is not what another is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// `datatype`, `shape`, or `element 7`.
    pub(super) place: String,
    /// The row that the element is in, for tensors that have one row per row of the request.
    pub(super) row: Option<usize>,
    /// What it should be.
    pub(super) want: String,
    /// What it is.
    pub(super) got: String,
}

/// The first element that differs beyond the tolerance. In a row where two of `scores` are level, the class may fall either
/// way; `scores` are the floats of the answer that is to be matched, and `rows` its rows.
pub(super) fn difference(got: &Tensor, want: &Tensor, rows: usize, scores: &[&Tensor]) -> Option<Difference> {
    let plain =
        |place: &str, want: String, got: String| Some(Difference { place: place.to_owned(), row: None, want, got });
    if got.dtype() != want.dtype() {
        return plain("datatype", want.dtype().to_string(), got.dtype().to_string());
    }
    if got.shape() != want.shape() {
        return plain("shape", format!("{:?}", want.shape()), format!("{:?}", got.shape()));
    }
    let at = Tolerance::first_difference(got, want)?;
    if got.shape().first() != Some(&rows) {
        return Some(at_element(at, None, got, want));
    }
    let per_row = (got.elements() / rows.max(1)).max(1);
    if got.dtype().is_float() {
        return Some(at_element(at, Some(at / per_row), got, want));
    }
    (0..rows).find_map(|row| {
        let (got_row, want_row) = (got.slice_rows(row, 1).ok()?, want.slice_rows(row, 1).ok()?);
        let at = Tolerance::first_difference(&got_row, &want_row)?;
        (!is_tie(scores, rows, row)).then(|| at_element(row * per_row + at, Some(row), got, want))
    })
}

fn at_element(at: usize, row: Option<usize>, got: &Tensor, want: &Tensor) -> Difference {
    Difference { place: format!("element {at}"), row, want: element(want, at), got: element(got, at) }
}

/// Whether the scores of a row are too close for its class to be certain.
fn is_tie(scores: &[&Tensor], rows: usize, row: usize) -> bool {
    scores.iter().any(|scores| {
        let is_scores = scores.dtype().is_float() && scores.shape().len() == 2 && scores.shape()[0] == rows;
        let values = if is_scores { scores.slice_rows(row, 1).ok().and_then(|row| row.to_f32()) } else { None };
        let mut values = values.unwrap_or_default();
        values.sort_by(|a, b| b.total_cmp(a));
        matches!(values.as_slice(), [best, second, ..] if best - second < TIE)
    })
}

/// An element as an error text shows it.
fn element(tensor: &Tensor, at: usize) -> String {
    if let Data::Strings(items) = tensor.data() {
        let text = items.get(at).map(|item| String::from_utf8_lossy(item)).unwrap_or_default();
        return format!("'{}'", text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect::<String>());
    }
    let size = tensor.dtype().size().unwrap_or(1);
    let Some(bytes) = tensor.bytes().get(at * size..(at + 1) * size) else { return "nothing".to_owned() };
    fn read<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().unwrap_or([0; N])
    }
    match tensor.dtype() {
        DType::Bool => (bytes != [0]).to_string(),
        DType::Uint8 => u8::from_le_bytes(read(bytes)).to_string(),
        DType::Uint16 => u16::from_le_bytes(read(bytes)).to_string(),
        DType::Uint32 => u32::from_le_bytes(read(bytes)).to_string(),
        DType::Uint64 => u64::from_le_bytes(read(bytes)).to_string(),
        DType::Int8 => i8::from_le_bytes(read(bytes)).to_string(),
        DType::Int16 => i16::from_le_bytes(read(bytes)).to_string(),
        DType::Int32 => i32::from_le_bytes(read(bytes)).to_string(),
        DType::Int64 => i64::from_le_bytes(read(bytes)).to_string(),
        DType::Fp16 => half::f16::from_le_bytes(read(bytes)).to_string(),
        DType::Bf16 => half::bf16::from_le_bytes(read(bytes)).to_string(),
        DType::Fp32 => f32::from_le_bytes(read(bytes)).to_string(),
        DType::Fp64 => f64::from_le_bytes(read(bytes)).to_string(),
        DType::Bytes => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    #[test]
    fn classes_may_differ_where_scores_are_level() {
        let labels = |values: Vec<i64>| Tensor::from_vec(DType::Int64, smallvec![3], values).unwrap();
        let scores =
            Tensor::from_vec(DType::Fp32, smallvec![3, 2], vec![0.5_f32, 0.50005, 0.9, 0.1, 0.5, 0.5]).unwrap();
        let want = labels(vec![1, 0, 0]);
        assert_eq!(difference(&labels(vec![0, 0, 1]), &want, 3, &[&scores]), None);
        let second = difference(&labels(vec![0, 1, 1]), &want, 3, &[&scores]).unwrap();
        assert_eq!((second.place.as_str(), second.row), ("element 1", Some(1)));
        assert_eq!((second.want.as_str(), second.got.as_str()), ("0", "1"));
        let first = difference(&labels(vec![0, 0, 1]), &want, 3, &[]).unwrap();
        assert_eq!((first.place.as_str(), first.row), ("element 0", Some(0)));
    }

    #[test]
    fn rows_are_named_where_there_are_some() {
        let floats = |shape: &[usize], values: Vec<f32>| Tensor::from_vec(DType::Fp32, shape.into(), values).unwrap();
        let (a, b) = (vec![1., 2., 3., 4.], vec![1., 2., 3., 5.]);
        let of = |shape: &[usize], rows| {
            difference(&floats(shape, a.clone()), &floats(shape, b.clone()), rows, &[]).unwrap()
        };
        assert_eq!(of(&[2, 2], 2).row, Some(1));
        assert_eq!(of(&[4], 2).row, None);
        assert_eq!(of(&[2, 2], 1).place, "element 3");
        let other = difference(&floats(&[4], a.clone()), &floats(&[2, 2], a.clone()), 2, &[]).unwrap();
        assert_eq!((other.place.as_str(), other.want.as_str(), other.got.as_str()), ("shape", "[2, 2]", "[4]"));
    }
}
