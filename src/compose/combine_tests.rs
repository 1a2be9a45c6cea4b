//! Each way of combining by examples that can be checked by hand, and by what must hold for all of them.

use super::*;
use proptest::prelude::*;

const FLOATING: [Combine; 4] = [Combine::Mean, Combine::WeightedMean, Combine::LogitMean, Combine::Median];

fn floats32(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_vec(DType::Fp32, shape.into(), values.to_vec()).unwrap()
}

fn integers(values: &[i64]) -> Tensor {
    Tensor::from_vec(DType::Int64, Shape::from_slice(&[values.len()]), values.to_vec()).unwrap()
}

fn texts(values: &[&str]) -> Tensor {
    let items: Vec<Bytes> = values.iter().map(|value| Bytes::copy_from_slice(value.as_bytes())).collect();
    Tensor::strings(Shape::from_slice(&[values.len()]), items.into()).unwrap()
}

fn said<'a>(outputs: &'a [Tensor], weights: &[f64]) -> Vec<Said<'a>> {
    outputs.iter().zip(weights).map(|(output, weight)| Said { output, weight: *weight }).collect()
}

fn combined(how: Combine, outputs: &[Tensor], weights: &[f64]) -> Vec<f32> {
    combine(how, &said(outputs, weights)).unwrap().to_f32().unwrap()
}

fn apart(how: Combine, outputs: &[Tensor], weights: &[f64]) -> Vec<f32> {
    let tensor = disagreement(how, &said(outputs, weights)).unwrap();
    assert_eq!((tensor.dtype(), tensor.shape().len()), (DType::Fp32, 1));
    tensor.to_f32().unwrap()
}

fn near(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "got {got:?}, expected {want:?}");
}

#[test]
fn by_hand() {
    let members =
        [floats32(&[3], &[0.0, 0.5, 1.0]), floats32(&[3], &[0.5, 0.5, 4.0]), floats32(&[3], &[1.0, 0.5, -2.0])];
    let weights = [2.0, 1.0, 1.0];
    near(&combined(Combine::Mean, &members, &weights), &[0.5, 0.5, 1.0]);
    near(&combined(Combine::WeightedMean, &members, &weights), &[0.375, 0.5, 1.0]);
    near(&combined(Combine::Median, &members, &weights), &[0.5, 0.5, 1.0]);
    near(&combined(Combine::Median, &members[..2], &weights), &[0.25, 0.5, 2.5]);
    // Weights are those of the members that answered.
    near(&combined(Combine::WeightedMean, &members[..2], &weights), &[1.0 / 6.0, 0.5, 2.0]);
    near(&combined(Combine::WeightedMean, &members, &[1e308, 1e308, 1e-308]), &[0.25, 0.5, 2.5]);
}

#[test]
fn logits_are_averaged() {
    // Odds of 9 and of 1 have the geometric mean 3.
    let column = [floats32(&[2, 1], &[0.9, 0.5]), floats32(&[2, 1], &[0.5, 0.5])];
    near(&combined(Combine::LogitMean, &column, &[1.0, 1.0]), &[0.75, 0.5]);
    near(
        &combined(Combine::LogitMean, &column, &[1.0, 0.5]),
        &[9_f32.powf(2.0 / 3.0) / (1.0 + 9_f32.powf(2.0 / 3.0)), 0.5],
    );
    // The same as two columns.
    let classes = [floats32(&[1, 2], &[0.1, 0.9]), floats32(&[1, 2], &[0.5, 0.5])];
    near(&combined(Combine::LogitMean, &classes, &[1.0, 1.0]), &[0.25, 0.75]);
    // A member that is certain is kept at the bound: odds of 1e-7 against odds of 1.
    let certain = [floats32(&[2], &[0.0, 1.0]), floats32(&[2], &[0.5, 0.5])];
    let odds = 1e-7_f32.sqrt();
    near(&combined(Combine::LogitMean, &certain, &[1.0, 1.0]), &[odds / (1.0 + odds), 1.0 / (1.0 + odds)]);
    let beyond = [floats32(&[2], &[-3.0, 7.0]), floats32(&[2], &[-3.0, 7.0])];
    near(&combined(Combine::LogitMean, &beyond, &[1.0, 1.0]), &[1e-7, 1.0 - 1e-7]);
}

#[test]
fn votes() {
    let labels = [integers(&[1, 1, 5]), integers(&[2, 2, -5]), integers(&[2, 3, 7])];
    let vote = |outputs: &[Tensor], weights: &[f64]| {
        let tensor = combine(Combine::Vote, &said(outputs, weights)).unwrap();
        tensor.bytes().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect::<Vec<_>>()
    };
    assert_eq!(vote(&labels, &[1.0, 1.0, 1.0]), [2, 1, 5], "on a tie the first member's");
    assert_eq!(vote(&labels, &[1.0, 1.0, 3.0]), [2, 3, 7]);
    assert_eq!(vote(&labels, &[0.3, 0.1, 0.2]), [1, 1, 5], "0.1 + 0.2 is no more than 0.3");
    assert_eq!(vote(&labels[1..], &[1.0, 1.0]), [2, 2, -5]);
    let words = [texts(&["a", ""]), texts(&["ä", "x"]), texts(&["ä", "x"])];
    let winner = combine(Combine::Vote, &said(&words, &[1.0, 1.0, 1.0])).unwrap();
    assert_eq!(winner, texts(&["ä", "x"]));
    let flags = [[1_u8, 0], [0, 0], [1, 1]]
        .map(|f| Tensor::from_vec(DType::Bool, Shape::from_slice(&[2]), f.to_vec()).unwrap());
    assert_eq!(combine(Combine::Vote, &said(&flags, &[1.0; 3])).unwrap().bytes()[..], [1, 0]);
    near(&apart(Combine::Vote, &labels, &[1.0, 1.0, 1.0]), &[1.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0]);
    near(&apart(Combine::Vote, &labels, &[1.0, 1.0, 2.0]), &[0.25, 0.5, 0.5]);
    near(&apart(Combine::Vote, &words, &[1.0; 3]), &[1.0 / 3.0, 1.0 / 3.0]);
    let pairs =
        [[1_i32, 2], [1, 3]].map(|p| Tensor::from_vec(DType::Int32, Shape::from_slice(&[1, 2]), p.to_vec()).unwrap());
    near(&apart(Combine::Vote, &pairs, &[1.0, 1.0]), &[0.25]);
}

#[test]
fn disagreements() {
    let classes = [floats32(&[2, 2], &[1.0, 0.0, 0.5, 0.5]), floats32(&[2, 2], &[0.0, 1.0, 0.5, 0.5])];
    for how in FLOATING {
        near(&apart(how, &classes, &[1.0, 1.0]), &[0.5, 0.0]);
    }
    // Mean [0.75, 0.25]: 0.75 * 0.25 + 0.25 * 0.75.
    near(&apart(Combine::WeightedMean, &classes, &[3.0, 1.0]), &[0.375, 0.0]);
    near(&apart(Combine::Mean, &classes, &[3.0, 1.0]), &[0.5, 0.0]);
    for shape in [&[1][..], &[1, 1]] {
        let column = [floats32(shape, &[1.0]), floats32(shape, &[3.0])];
        near(&apart(Combine::Mean, &column, &[1.0, 1.0]), &[1.0]);
        near(&apart(Combine::Median, &column[..1], &[1.0]), &[0.0]);
    }
}

#[test]
fn datatypes_are_kept() {
    for how in FLOATING {
        let half = [0.25, 0.75]
            .map(|v| Tensor::from_vec(DType::Fp16, Shape::from_slice(&[1]), vec![f16::from_f64(v)]).unwrap());
        let brain = [0.25, 0.75]
            .map(|v| Tensor::from_vec(DType::Bf16, Shape::from_slice(&[1]), vec![bf16::from_f64(v)]).unwrap());
        let double = [0.25, 0.75].map(|v| Tensor::from_vec(DType::Fp64, Shape::from_slice(&[1]), vec![v]).unwrap());
        for members in [half, brain, double] {
            let result = combine(how, &said(&members, &[1.0, 1.0])).unwrap();
            assert_eq!(result.dtype(), members[0].dtype());
            near(&result.to_f32().unwrap(), &[0.5]);
            near(&apart(how, &members, &[1.0, 1.0]), &[0.25]);
        }
    }
    let largest = vec![floats32(&[1], &[f32::MAX]); 3];
    assert_eq!(combined(Combine::Mean, &largest, &[1.0; 3]), [f32::MAX]);
}

#[test]
fn nan_propagates() {
    let members =
        [floats32(&[2, 2], &[f32::NAN, 0.5, 0.5, 0.5]), floats32(&[2, 2], &[0.5; 4]), floats32(&[2, 2], &[0.5; 4])];
    for how in FLOATING {
        let result = combined(how, &members, &[1.0; 3]);
        assert!(result[0].is_nan() && !result[2].is_nan() && !result[3].is_nan(), "{how:?}: {result:?}");
        let apart = apart(how, &members, &[1.0; 3]);
        assert!(apart[0].is_nan() && apart[1] == 0.0, "{how:?}: {apart:?}");
    }
}

#[test]
fn what_cannot_be_combined() {
    let text = |how, dtype, shape: &[Option<usize>]| fits(how, dtype, shape).unwrap_err();
    assert_eq!(
        text(Combine::Vote, DType::Fp32, &[None, Some(3)]),
        "combine 'vote': expected an output of integers, booleans or strings, got FP32"
    );
    assert_eq!(
        text(Combine::Mean, DType::Int64, &[None]),
        "combine 'mean': expected a floating-point output, got INT64, which can only be voted on"
    );
    assert_eq!(
        text(Combine::LogitMean, DType::Fp32, &[None, Some(2), Some(2)]),
        "combine 'logit_mean': expected an output [rows, K] or [rows], got 3 dimensions"
    );
    for how in FLOATING {
        assert!(fits(how, DType::Bytes, &[None]).is_err() && fits(how, DType::Bool, &[None]).is_err());
        assert!(fits(how, DType::Bf16, &[None, None]).is_ok());
    }
    assert!(fits(Combine::Vote, DType::Bytes, &[None, None, None]).is_ok());
    assert!(fits(Combine::Median, DType::Fp32, &[None, None, None]).is_ok());
    let differ = [floats32(&[1], &[1.0]), floats32(&[1, 1], &[1.0])];
    let error = combine(Combine::Mean, &said(&differ, &[1.0; 2])).unwrap_err();
    assert_eq!(error.detail(), Some("expected FP32 [1], got FP32 [1, 1]"));
    assert!(combine(Combine::Mean, &[]).is_err() && disagreement(Combine::Vote, &[]).is_err());
    assert!(combine(Combine::Vote, &said(&differ[..1], &[1.0])).is_err());
    let empty = [floats32(&[0, 3], &[]), floats32(&[0, 3], &[])];
    assert_eq!(combined(Combine::LogitMean, &empty, &[1.0; 2]).len(), 0);
    assert_eq!(apart(Combine::Mean, &empty, &[1.0; 2]).len(), 0);
}

/// Members with probabilities of 2 rows and 3 classes, and their weights.
fn ensembles() -> impl Strategy<Value = (Vec<Tensor>, Vec<f64>)> {
    let member = (proptest::collection::vec(0.01_f32..1.0, 6), 0.01_f64..10.0);
    proptest::collection::vec(member, 1..6).prop_map(|members| {
        let tensor = |values: Vec<f32>| {
            let sums = [values[..3].iter().sum::<f32>(), values[3..].iter().sum()];
            let values: Vec<f32> = values.iter().enumerate().map(|(at, value)| value / sums[at / 3]).collect();
            floats32(&[2, 3], &values)
        };
        members.into_iter().map(|(values, weight)| (tensor(values), weight)).unzip()
    })
}

proptest! {
    #[test]
    fn order_scale_and_range((members, weights) in ensembles(), scale in 1e-6_f64..1e6, turn in 0_usize..6) {
        let mut turned: Vec<(Tensor, f64)> = members.iter().cloned().zip(weights.iter().copied()).collect();
        turned.rotate_left(turn % members.len());
        turned.reverse();
        let (others, other_weights): (Vec<_>, Vec<_>) = turned.into_iter().unzip();
        let scaled: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
        for how in FLOATING {
            let result = combined(how, &members, &weights);
            near(&combined(how, &others, &other_weights), &result);
            near(&combined(how, &members, &scaled), &result);
            near(&apart(how, &others, &other_weights), &apart(how, &members, &scaled));
            prop_assert!(apart(how, &members, &weights).iter().all(|apart| (0.0..=1.0).contains(apart)));
            if how != Combine::Median {
                for row in result.chunks(3) {
                    prop_assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{how:?}: {row:?} are no probabilities");
                }
            }
            if how != Combine::LogitMean {
                for (at, value) in result.iter().enumerate() {
                    let said = |pick: fn(f32, f32) -> f32| members.iter().map(|m| m.to_f32().unwrap()[at]).reduce(pick).unwrap();
                    prop_assert!((said(f32::min) - 1e-6..=said(f32::max) + 1e-6).contains(value));
                }
            }
        }
    }

    #[test]
    fn members_that_say_the_same_are_what_they_say((members, weights) in ensembles(), labels in proptest::collection::vec(any::<i64>(), 0..4)) {
        let same: Vec<Tensor> = weights.iter().map(|_| members[0].clone()).collect();
        let said_by_one = members[0].to_f32().unwrap();
        for how in FLOATING {
            near(&combined(how, &same, &weights), &said_by_one);
            prop_assert!(apart(how, &same, &weights).iter().all(|apart| *apart < 1e-6));
        }
        let same: Vec<Tensor> = weights.iter().map(|_| integers(&labels)).collect();
        prop_assert_eq!(combine(Combine::Vote, &said(&same, &weights)).unwrap(), integers(&labels));
        prop_assert!(apart(Combine::Vote, &same, &weights).iter().all(|apart| *apart < 1e-6));
    }

    #[test]
    fn a_vote_is_won_by_weight(votes in proptest::collection::vec((0_i64..4, 1_u32..5), 1..8)) {
        let members: Vec<Tensor> = votes.iter().map(|(value, _)| integers(&[*value])).collect();
        let weights: Vec<f64> = votes.iter().map(|(_, weight)| f64::from(*weight)).collect();
        let behind = |value: i64| votes.iter().filter(|vote| vote.0 == value).map(|vote| vote.1).sum::<u32>();
        let winner = combine(Combine::Vote, &said(&members, &weights)).unwrap();
        let most = votes.iter().map(|vote| behind(vote.0)).max().unwrap();
        let first = votes.iter().find(|vote| behind(vote.0) == most).unwrap().0;
        prop_assert_eq!(winner, integers(&[first]));
        let total: u32 = votes.iter().map(|vote| vote.1).sum();
        near(&apart(Combine::Vote, &members, &weights), &[1.0 - most as f32 / total as f32]);
    }
}
