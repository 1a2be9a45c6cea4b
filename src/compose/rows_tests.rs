//! Rows picked and merged.

use proptest::prelude::*;
use smallvec::smallvec;

use super::*;
use crate::types::DType;

fn numbers(values: &[f32], width: usize) -> Tensor {
    Tensor::from_vec(DType::Fp32, smallvec![values.len() / width, width], values.to_vec()).unwrap()
}

fn texts(items: &[&str]) -> Tensor {
    let items: Vec<Bytes> = items.iter().map(|item| Bytes::copy_from_slice(item.as_bytes())).collect();
    Tensor::strings(smallvec![items.len()], items.into()).unwrap()
}

fn from(part: u32, row: u32) -> Origin {
    Origin { part, row }
}

#[test]
fn rows_are_picked_in_the_order_asked_for() {
    let request = Rows { inputs: vec![numbers(&[0., 1., 2., 3., 4., 5.], 2), texts(&["a", "b", "c"])].into(), rows: 3 };
    let picked = pick(&request, &[2, 0]).unwrap();
    assert_eq!(picked.rows, 2);
    assert_eq!(picked.inputs[0].to_f32().unwrap(), [4., 5., 0., 1.]);
    assert_eq!(picked.inputs[1], texts(&["c", "a"]));
    let all = pick(&request, &[0, 1, 2]).unwrap();
    assert!(Arc::ptr_eq(&all.inputs, &request.inputs), "nothing is copied");
    assert!(pick(&request, &[3]).is_err());
}

#[test]
fn an_input_that_was_not_given_stays_absent() {
    let none = Tensor::strings(smallvec![0], Vec::new().into()).unwrap();
    let request = Rows { inputs: vec![numbers(&[0., 1.], 1), none.clone()].into(), rows: 2 };
    assert_eq!(pick(&request, &[1]).unwrap().inputs[1], none);
}

#[test]
fn answers_are_merged_in_order() {
    let first = vec![numbers(&[0., 1., 2.], 1), texts(&["a", "b", "c"])];
    let second = vec![numbers(&[10., 11.], 1), texts(&["x", "y"])];
    let merged = merge(&[from(0, 0), from(1, 0), from(1, 1), from(0, 2)], vec![first, second]).unwrap();
    assert_eq!(merged[0].to_f32().unwrap(), [0., 10., 11., 2.]);
    assert_eq!(merged[1], texts(&["a", "x", "y", "c"]));
}

#[test]
fn one_reply_for_all_rows_is_the_answer() {
    let reply = numbers(&[0., 1.], 1);
    let place = reply.bytes().as_ptr();
    let merged = merge(&[from(1, 0), from(1, 1)], vec![vec![numbers(&[7.], 1)], vec![reply]]).unwrap();
    assert_eq!(merged[0].bytes().as_ptr(), place, "nothing is copied");
}

#[test]
fn replies_of_different_shapes_are_refused() {
    let parts = vec![vec![numbers(&[0., 1.], 2)], vec![numbers(&[0.], 1)]];
    let error = merge(&[from(0, 0), from(1, 0)], parts).unwrap_err();
    assert_eq!(error.text(), "route: its parts answered in different shapes");
    assert_eq!(error.detail(), Some("output 0: FP32 [1, 2] and FP32 [1, 1]"));
}

proptest! {
    /// Splitting rows over parts in any way and merging them again gives the request back.
    #[test]
    fn merge_undoes_pick(owners in proptest::collection::vec(0_u32..4, 1..40)) {
        let values: Vec<f32> = (0..owners.len() * 2).map(|i| i as f32).collect();
        let request = Rows { inputs: vec![numbers(&values, 2)].into(), rows: owners.len() };
        let mut parts = Vec::new();
        let mut origins = vec![from(0, 0); owners.len()];
        for part in 0..4 {
            let mine: Vec<u32> = (0..).zip(&owners).filter(|(_, owner)| **owner == part).map(|(row, _)| row).collect();
            for (row, place) in (0..).zip(&mine) {
                origins[*place as usize] = from(part, row);
            }
            let picked = if mine.is_empty() { numbers(&[], 2) } else { pick(&request, &mine).unwrap().inputs[0].clone() };
            parts.push(vec![picked]);
        }
        prop_assert_eq!(&merge(&origins, parts).unwrap()[0], &request.inputs[0]);
    }
}
