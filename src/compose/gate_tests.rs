//! Measures against their definitions written out, every datatype and shape, and what is never accepted.

use super::*;
use proptest::prelude::*;
use smallvec::smallvec;

const MAX_PROB: Measure = Measure::MaxProb { at_least: 0.9 };
const MARGIN: Measure = Measure::Margin { at_least: 0.9 };
const CERTAINTY: Measure = Measure::Certainty { at_least: 0.9 };
const BAND: Measure = Measure::Band { below: 0.2, above: 0.8 };

fn gate(measure: Measure) -> Gate {
    Gate::new(&Accept { output: "p".into(), measure, softmax: false, temperature: 1.0 })
}

fn logits(measure: Measure, temperature: f64) -> Gate {
    Gate::new(&Accept { output: "p".into(), measure, softmax: true, temperature })
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_vec(DType::Fp32, shape.into(), values.to_vec()).unwrap()
}

fn measures(gate: Gate, scores: &Tensor) -> Vec<f64> {
    let mut out = smallvec![7.0; 3];
    gate.measures(scores, &mut out).unwrap();
    out.into_vec()
}

fn near(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    let same = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12 || (a.is_nan() && b.is_nan());
    assert!(got.iter().zip(want).all(same), "got {got:?}, expected {want:?}");
}

#[test]
fn definitions() {
    let table = floats(&[3, 4], &[0.5, 0.25, 0.125, 0.125, 1.0, 0.0, 0.0, 0.0, 0.25, 0.25, 0.25, 0.25]);
    near(&measures(gate(MAX_PROB), &table), &[0.5, 1.0, 0.25]);
    near(&measures(gate(MARGIN), &table), &[0.25, 1.0, 0.0]);
    // H = 1.75 bits of 2.
    near(&measures(gate(CERTAINTY), &table), &[0.125, 1.0, 0.0]);
    let column = [0.25, 0.75, 1.0, 0.5];
    for shape in [&[4][..], &[4, 1]] {
        let one = floats(shape, &column);
        near(&measures(gate(MAX_PROB), &one), &[0.75, 0.75, 1.0, 0.5]);
        near(&measures(gate(MARGIN), &one), &[0.5, 0.5, 1.0, 0.0]);
        let quarter = 1.0 + (0.25 * 0.25_f64.log2() + 0.75 * 0.75_f64.log2());
        near(&measures(gate(CERTAINTY), &one), &[quarter, quarter, 1.0, 0.0]);
        near(&measures(gate(BAND), &one), &[0.25, 0.75, 1.0, 0.5]);
    }
}

#[test]
fn logits_go_through_softmax_and_temperature() {
    let ln = f32::ln;
    let table = floats(&[2, 3], &[ln(4.0), ln(2.0), ln(2.0), 1000.0, 0.0, -1000.0]);
    let want =
        |got: Vec<f64>, want: [f64; 2]| assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
    want(measures(logits(MAX_PROB, 1.0), &table), [0.5, 1.0]);
    want(measures(logits(MARGIN, 1.0), &table), [0.25, 1.0]);
    // Half the temperature squares the odds: 16 : 4 : 4.
    want(measures(logits(MAX_PROB, 0.5), &table), [16.0 / 24.0, 1.0]);
    want(measures(logits(CERTAINTY, 1.0), &table), [1.0 - 1.5 / 3_f64.log2(), 1.0]);
    let column = floats(&[4], &[0.0, 3_f32.ln(), -1000.0, 1000.0]);
    near(&measures(logits(BAND, 1.0), &column)[2..], &[0.0, 1.0]);
    assert!((measures(logits(BAND, 1.0), &column)[1] - 0.75).abs() < 1e-7);
    assert!((measures(logits(MAX_PROB, 0.5), &column)[1] - 0.9).abs() < 1e-7);
}

#[test]
fn not_a_number_is_never_accepted() {
    let nan = f32::NAN;
    let table = floats(&[3, 3], &[nan, 1.0, 0.0, 1.0, nan, 0.0, 1.0, 0.0, nan]);
    let column = floats(&[1], &[nan]);
    for measure in [MAX_PROB, MARGIN, CERTAINTY].map(|measure| measure.with_threshold(f64::NEG_INFINITY)) {
        for gate in [gate(measure), logits(measure, 2.0)] {
            let mut verdict = Verdict::default();
            gate.decide(&table, None, &mut verdict).unwrap();
            assert_eq!(verdict.escalated[..], [0, 1, 2], "{gate:?}");
            gate.decide(&column, Some(f64::NEG_INFINITY), &mut verdict).unwrap();
            assert_eq!((&verdict.escalated[..], verdict.relaxed), (&[0][..], 0), "{gate:?}");
        }
    }
    assert!(
        !gate(BAND).accepts(f64::NAN) && !gate(Measure::Band { below: f64::INFINITY, above: 0.0 }).accepts(f64::NAN)
    );
    // Infinite logits have no probabilities.
    let infinite = floats(&[2, 2], &[f32::INFINITY, 0.0, f32::INFINITY, f32::INFINITY]);
    assert!(measures(logits(MAX_PROB, 1.0), &infinite).iter().all(|measure| measure.is_nan()));
    assert!(measures(gate(CERTAINTY), &floats(&[1, 2], &[1.5, -0.5]))[0].is_nan());
}

#[test]
fn decisions() {
    let scores = floats(&[5, 2], &[0.95, 0.05, 0.1, 0.9, 0.5, 0.5, 0.85, 0.15, 0.0, 1.0]);
    let mut verdict = Verdict::default();
    let gate = gate(Measure::MaxProb { at_least: f64::from(0.9_f32) });
    gate.decide(&scores, None, &mut verdict).unwrap();
    assert_eq!((&verdict.escalated[..], verdict.relaxed), (&[2, 3][..], 0));
    gate.decide(&scores, Some(0.8), &mut verdict).unwrap();
    assert_eq!((&verdict.escalated[..], verdict.relaxed), (&[2][..], 1));
    gate.decide(&scores, Some(0.0), &mut verdict).unwrap();
    assert_eq!((&verdict.escalated[..], verdict.relaxed), (&[][..], 2));
    let band = super::Gate { measure: BAND, temperature: None };
    band.decide(&floats(&[5], &[0.0, 0.2, 0.5, 0.8, 1.0]), Some(0.1), &mut verdict).unwrap();
    // In single precision 0.2 and 0.8 are a little more than in double precision.
    assert_eq!((&verdict.escalated[..], verdict.relaxed), (&[1, 2][..], 0));
    gate.decide(&floats(&[0, 2], &[]), None, &mut verdict).unwrap();
    assert_eq!(verdict, Verdict::default());
}

#[test]
fn what_does_not_fit() {
    let any = gate(MARGIN);
    for (dtype, shape, fits) in [
        (DType::Fp32, &[None, Some(10)][..], true),
        (DType::Fp64, &[None, Some(1)], true),
        (DType::Fp16, &[None], true),
        (DType::Bf16, &[None, None], true),
        (DType::Int64, &[None, Some(10)], false),
        (DType::Bytes, &[None], false),
        (DType::Fp32, &[None, Some(2), Some(2)], false),
        (DType::Fp32, &[], false),
        (DType::Fp32, &[None, Some(0)], false),
    ] {
        assert_eq!(any.fits(dtype, shape).is_ok(), fits, "{dtype} {shape:?}");
    }
    let text = gate(BAND).fits(DType::Fp32, &[None, Some(2)]).unwrap_err();
    assert_eq!(text, "expected a floating-point output [rows, 1] or [rows], got FP32 [-1, 2]");
    assert!(gate(BAND).fits(DType::Fp32, &[None, Some(1)]).is_ok());
    let mut out = SmallVec::new();
    assert!(any.measures(&floats(&[1, 1, 1], &[1.0]), &mut out).is_err());
}

/// The definition, written without regard to allocation or speed.
fn plain(measure: Measure, row: &[f64], temperature: Option<f64>) -> f64 {
    let mut p = match (temperature, row) {
        (None, row) => row.to_vec(),
        (Some(t), [z]) => vec![1.0 / (1.0 + (-z / t).exp())],
        (Some(t), row) => {
            let z: Vec<f64> = row.iter().map(|z| z / t).collect();
            let most = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let e: Vec<f64> = z.iter().map(|z| (z - most).exp()).collect();
            let sum: f64 = e.iter().sum();
            e.iter().map(|e| e / sum).collect()
        }
    };
    if let [one] = p[..] {
        p = vec![1.0 - one, one];
    }
    let entropy: f64 = -p.iter().filter(|p| **p != 0.0).map(|p| p * p.ln()).sum::<f64>();
    let classes = p.len() as f64;
    p.sort_by(|a, b| b.total_cmp(a));
    match measure {
        Measure::MaxProb { .. } => p[0],
        Measure::Margin { .. } => p[0] - p[1],
        _ => 1.0 - entropy / classes.ln(),
    }
}

proptest! {
    #[test]
    fn every_datatype_equals_the_definition(
        rows in 0_usize..5, columns in 1_usize..12, softmax: bool, temperature in 0.1_f64..5.0, seed: u64
    ) {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32
        };
        let values: Vec<f32> = (0..rows * columns).map(|_| if softmax { next() * 20.0 - 10.0 } else { next() }).collect();
        let shape: crate::types::Shape = smallvec![rows, columns];
        let single = Tensor::from_vec(DType::Fp32, shape.clone(), values.clone()).unwrap();
        let double: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        let half: Vec<half::f16> = values.iter().map(|v| half::f16::from_f32(*v)).collect();
        let brain: Vec<half::bf16> = values.iter().map(|v| half::bf16::from_f32(*v)).collect();
        let tensors = [
            (single, double.clone()),
            (Tensor::from_vec(DType::Fp64, shape.clone(), double.clone()).unwrap(), double),
            (Tensor::from_vec(DType::Fp16, shape.clone(), half.clone()).unwrap(), half.iter().map(|v| v.to_f64()).collect()),
            (Tensor::from_vec(DType::Bf16, shape, brain.clone()).unwrap(), brain.iter().map(|v| v.to_f64()).collect()),
        ];
        for measure in [MAX_PROB, MARGIN, CERTAINTY] {
            let (gate, t) = if softmax { (logits(measure, temperature), Some(temperature)) } else { (gate(measure), None) };
            for (tensor, values) in &tensors {
                let got = measures(gate, tensor);
                let want: Vec<f64> = values.chunks(columns).map(|row| plain(measure, row, t)).collect();
                prop_assert_eq!(got, want);
            }
        }
    }

    #[test]
    fn measures_of_probabilities_are_between_0_and_1(z in proptest::collection::vec(-30_f32..30.0, 2..10)) {
        let scores = floats(&[1, z.len()], &z);
        for measure in [MAX_PROB, MARGIN, CERTAINTY] {
            let measure = measures(logits(measure, 1.0), &scores)[0];
            prop_assert!((-1e-12..=1.0 + 1e-12).contains(&measure), "{}", measure);
        }
    }
}
