//! The classification extension: an output's numbers become its n best classes as text, `value:index[:label]`. The handlers
//! call [`apply`] on an answer before they encode it.

use std::{cmp::Ordering, fmt::Display};

use bytes::Bytes;
use half::{bf16, f16};

use super::form::ReplyForm;
use crate::types::{ClassNames, DType, Error, InferResponse, Shape, Tensor};

/// Replaces the outputs for which classes were asked by their best classes. `batched` says whether dimension 0 is rows.
///
/// # Errors
/// `InvalidArgument` when such an output is BYTES.
pub fn apply(
    mut response: InferResponse,
    form: &ReplyForm,
    batched: bool,
    names: &ClassNames,
) -> Result<InferResponse, Error> {
    if form.wants_classes() {
        for output in &mut response.outputs {
            let count = form.classes(&output.name);
            if count > 0 {
                let labels = names.get(&*output.name).map_or(&[][..], Vec::as_slice);
                output.tensor = classify(&output.tensor, count, batched, labels)
                    .map_err(|error| super::params::about("output", &output.name, &error))?;
            }
        }
    }
    Ok(response)
}

/// The `count` largest values of each row as BYTES, best first, `value:index` or `value:index:label` where `names` has a name
/// for the index. Shape: `[rows, n]` when `batched`, else `[n]`, with n at most the number of classes. Values are written so that
/// they read back exactly; NaN comes last; equal values keep their order.
///
/// # Errors
/// `InvalidArgument` for a BYTES tensor.
pub fn classify(tensor: &Tensor, count: usize, batched: bool, names: &[Box<str>]) -> Result<Tensor, Error> {
    let rows = if batched { tensor.shape().first().copied().unwrap_or(1) } else { 1 };
    let classes = if batched { tensor.shape().iter().skip(1).product() } else { tensor.elements() };
    let table = Table { rows, classes, count: count.min(classes), names };
    let bytes = tensor.bytes();
    let items = match tensor.dtype() {
        DType::Bytes => return Err(Error::expected("classification", "numbers", "BYTES")),
        DType::Bool | DType::Uint8 => table.best(bytes, u8::from_le_bytes),
        DType::Uint16 => table.best(bytes, u16::from_le_bytes),
        DType::Uint32 => table.best(bytes, u32::from_le_bytes),
        DType::Uint64 => table.best(bytes, u64::from_le_bytes),
        DType::Int8 => table.best(bytes, i8::from_le_bytes),
        DType::Int16 => table.best(bytes, i16::from_le_bytes),
        DType::Int32 => table.best(bytes, i32::from_le_bytes),
        DType::Int64 => table.best(bytes, i64::from_le_bytes),
        DType::Fp16 => table.best(bytes, |b| f16::from_le_bytes(b).to_f32()),
        DType::Bf16 => table.best(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        DType::Fp32 => table.best(bytes, f32::from_le_bytes),
        DType::Fp64 => table.best(bytes, f64::from_le_bytes),
    };
    let mut shape = Shape::new();
    if batched {
        shape.push(rows);
    }
    shape.push(table.count);
    Tensor::strings(shape, items.into())
}

/// Rows of scores and what is wanted of them.
struct Table<'n> {
    rows: usize,
    classes: usize,
    count: usize,
    names: &'n [Box<str>],
}

impl Table<'_> {
    fn best<const N: usize, T: Copy + PartialOrd + Display>(
        &self,
        bytes: &[u8],
        read: impl Fn([u8; N]) -> T,
    ) -> Vec<Bytes> {
        let mut items = Vec::with_capacity(self.rows * self.count);
        if self.classes == 0 {
            return items;
        }
        let values: Vec<T> = bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect();
        let mut order: Vec<usize> = Vec::with_capacity(self.classes);
        for row in values.chunks_exact(self.classes) {
            order.clear();
            order.extend(0..self.classes);
            order.sort_by(|a, b| descending(row[*a], row[*b]));
            items.extend(order[..self.count].iter().map(|index| self.text(row[*index], *index)));
        }
        items
    }

    fn text(&self, value: impl Display, index: usize) -> Bytes {
        match self.names.get(index) {
            Some(name) => format!("{value}:{index}:{name}").into(),
            None => format!("{value}:{index}").into(),
        }
    }
}

/// Largest first, NaN last.
#[expect(clippy::eq_op, reason = "a value that differs from itself is NaN")]
fn descending<T: PartialOrd + Copy>(a: T, b: T) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| (a != a).cmp(&(b != b)))
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use smallvec::smallvec;

    use super::*;
    use crate::{
        protocol::form::OutputForm,
        types::{Answered, Data, NamedTensor, Params, Stamps},
    };

    fn texts(tensor: &Tensor) -> Vec<String> {
        let Data::Strings(items) = tensor.data() else { panic!("strings") };
        items.iter().map(|item| String::from_utf8(item.to_vec()).unwrap()).collect()
    }

    #[test]
    fn best_of_each_row() {
        let scores = vec![0.25_f32, 0.5, 0.25, 1e-9, f32::NAN, -0.5];
        let tensor = Tensor::from_vec(DType::Fp32, smallvec![2, 3], scores).unwrap();
        let names: Vec<Box<str>> = vec!["cat".into(), "dog".into()];
        let best = classify(&tensor, 2, true, &names).unwrap();
        assert_eq!(best.shape(), [2, 2]);
        assert_eq!(texts(&best), ["0.5:1:dog", "0.25:0:cat", "0.000000001:0:cat", "-0.5:2"]);
        let all = classify(&tensor, 99, true, &[]).unwrap();
        assert_eq!(all.shape(), [2, 3]);
        assert_eq!(texts(&all)[5], "NaN:1");
    }

    #[test]
    fn without_batch_dimension() {
        let tensor = Tensor::from_vec(DType::Int64, smallvec![3], vec![i64::MAX, i64::MAX - 1, 3]).unwrap();
        let best = classify(&tensor, 2, false, &[]).unwrap();
        assert_eq!(best.shape(), [2]);
        assert_eq!(texts(&best), ["9223372036854775807:0", "9223372036854775806:1"]);
        let column = classify(&tensor, 2, true, &[]).unwrap();
        assert_eq!((column.shape(), &texts(&column)[1][..]), (&[3, 1][..], "9223372036854775806:0"));
        let empty = Tensor::from_vec(DType::Fp32, smallvec![2, 0], Vec::<f32>::new()).unwrap();
        assert_eq!(classify(&empty, 2, true, &[]).unwrap().shape(), [2, 0]);
    }

    #[test]
    fn only_the_outputs_that_ask() {
        let tensor = || Tensor::from_vec(DType::Fp32, smallvec![1, 2], vec![1.0_f32, 2.0]).unwrap();
        let mut form = ReplyForm::raw();
        form.push(OutputForm { name: "b".into(), raw: None, classes: 1 });
        form.push(OutputForm { name: "s".into(), raw: None, classes: 1 });
        let response = |outputs| InferResponse {
            answered: Answered { model: "m".into(), version: "1".into(), variant: "".into() },
            id: "".into(),
            params: Params::default(),
            outputs,
            stamps: Stamps::at(Instant::now()),
        };
        let named = |name: &str, tensor| NamedTensor { name: name.into(), tensor };
        let given = response(vec![named("a", tensor()), named("b", tensor())]);
        let got = apply(given, &form, true, &ClassNames::new()).unwrap();
        assert_eq!(got.outputs[0].tensor, tensor());
        assert_eq!(texts(&got.outputs[1].tensor), ["2:1"]);
        let words = Tensor::strings(smallvec![1], Arc::from([Bytes::new()])).unwrap();
        let error = apply(response(vec![named("s", words)]), &form, true, &ClassNames::new()).unwrap_err();
        assert_eq!(error.text(), "output 's': classification: expected numbers, got BYTES");
    }
}
