//! Where the predicted class is read, and what it is.

use super::*;
use crate::types::{Batch, Measure, Shape};

fn spec(name: &str, dtype: DType, shape: &[Option<usize>]) -> TensorSpec {
    TensorSpec { name: name.into(), dtype, shape: shape.to_vec() }
}

fn signature(outputs: &[TensorSpec]) -> Signature {
    Signature { inputs: Vec::new(), outputs: outputs.to_vec(), batch: Batch::Rows }
}

fn accept(output: &str, softmax: bool) -> Accept {
    Accept { output: output.into(), measure: Measure::MaxProb { at_least: 0.5 }, softmax, temperature: 1.0 }
}

fn numbers_of(source: &Source, tensor: Tensor) -> Vec<Option<i128>> {
    let mut classes = source.none();
    source.read(&[tensor], &mut classes);
    let Classes::Numbers(classes) = classes else { panic!("not numbers") };
    classes
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_vec(DType::Fp32, Shape::from_slice(shape), values.to_vec()).unwrap()
}

#[test]
fn labels_before_scores() {
    let scores = spec("probabilities", DType::Fp32, &[None, Some(3)]);
    let count = spec("count", DType::Int64, &[None]);
    let label = spec("label", DType::Bytes, &[None, Some(1)]);
    let pixels = spec("pixels", DType::Uint8, &[None, Some(64)]);
    let of =
        |outputs: &[TensorSpec], accept: Option<&Accept>| source(&signature(outputs), accept).map(|s| s.to_string());
    let own = accept("probabilities", false);
    assert_eq!(of(&[scores.clone(), count.clone(), label.clone()], Some(&own)), Ok("label".to_owned()));
    assert_eq!(of(&[scores.clone(), count], Some(&own)), Ok("count".to_owned()));
    assert_eq!(of(&[pixels.clone(), scores.clone()], Some(&own)), Ok("largest of probabilities".to_owned()));
    // The last stage has no accept of its own: scores of that name, else its only ones.
    let other = spec("p", DType::Fp64, &[None]);
    assert_eq!(of(&[other.clone(), scores.clone()], Some(&own)), Ok("largest of probabilities".to_owned()));
    assert_eq!(of(std::slice::from_ref(&other), Some(&own)), Ok("largest of p".to_owned()));
    let refused = of(&[other, spec("q", DType::Fp32, &[None])], Some(&own)).unwrap_err();
    assert!(refused.ends_with("to know the predicted class, got 'p', 'q'"), "{refused}");
    assert!(of(&[pixels], None).is_err());
}

#[test]
fn the_largest_column() {
    let probabilities = Source::Largest { output: 0, name: "p".into(), logits: false };
    let logits = Source::Largest { output: 0, name: "p".into(), logits: true };
    let table = floats(&[4, 3], &[0.1, 0.7, 0.2, 0.4, 0.4, 0.2, 0.0, 0.0, 1.0, f32::NAN, 0.0, 1.0]);
    assert_eq!(numbers_of(&probabilities, table), [Some(1), Some(0), Some(2), None]);
    let column = [0.4, 0.5, 0.6, -1.0];
    for shape in [&[4][..], &[4, 1]] {
        assert_eq!(numbers_of(&probabilities, floats(shape, &column)), [Some(0), Some(0), Some(1), Some(0)]);
        assert_eq!(numbers_of(&logits, floats(shape, &column)), [Some(1), Some(1), Some(1), Some(0)]);
    }
}

#[test]
fn labels_of_every_kind() {
    let numbers = Source::Label { output: 0, name: "y".into(), text: false };
    let wide = Tensor::from_vec(DType::Int64, Shape::from_slice(&[2]), vec![-3_i64, i64::MAX]).unwrap();
    assert_eq!(numbers_of(&numbers, wide), [Some(-3), Some(i128::from(i64::MAX))]);
    let flags = Tensor::from_vec(DType::Bool, Shape::from_slice(&[2, 1]), vec![0_u8, 1]).unwrap();
    assert_eq!(numbers_of(&numbers, flags), [Some(0), Some(1)]);
    let text = Source::Label { output: 0, name: "y".into(), text: true };
    let items = [bytes::Bytes::from_static(b"cat"), bytes::Bytes::from_static(b"dog")];
    let mut classes = text.none();
    text.read(&[Tensor::strings(Shape::from_slice(&[2]), std::sync::Arc::new(items)).unwrap()], &mut classes);
    assert_eq!(classes, Classes::Texts(vec!["cat".to_owned(), "dog".to_owned()]));
}
