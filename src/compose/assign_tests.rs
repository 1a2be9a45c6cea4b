//! Assignment: the documented rule to the last bit, the promised shares, who moves when weights change, independence of salts.

use super::*;
use proptest::prelude::*;
use smallvec::smallvec;

/// What a chi-square variable of 1 to 12 degrees of freedom exceeds with probability 0.001.
const CHI_SQUARE_1_IN_1000: [f64; 12] =
    [10.828, 13.816, 16.266, 18.467, 20.515, 22.458, 24.322, 26.124, 27.877, 29.588, 31.264, 32.909];

const NAMES: [&str; 6] = ["control", "candidate", "c", "d", "e", "f"];

fn arms(weights: &[f64]) -> Vec<(Box<str>, f64)> {
    NAMES.iter().zip(weights).map(|(name, weight)| (Box::from(*name), *weight)).collect()
}

fn assigner(salt: &str, arms: &[(Box<str>, f64)]) -> Assigner {
    Assigner::new(salt, arms.iter().map(|(name, weight)| (&**name, *weight)))
}

fn key(number: usize) -> Vec<u8> {
    format!("user-{number}").into_bytes()
}

/// The file is written by the Python of docs/assignment.md: see tests/clients/assignment.py.
#[test]
fn the_documented_rule_to_the_last_bit() {
    #[derive(serde::Deserialize)]
    struct Case {
        salt: String,
        key: String,
        arms: Vec<(String, f64)>,
        arm: String,
        u: f64,
        shadow: f64,
    }
    let text = include_str!("../../tests/clients/assignment.jsonl");
    let cases: Vec<Case> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(cases.len(), 1_000);
    for case in cases {
        let key: Vec<u8> =
            (0..case.key.len()).step_by(2).map(|at| u8::from_str_radix(&case.key[at..at + 2], 16).unwrap()).collect();
        let assigner = Assigner::new(&case.salt, case.arms.iter().map(|(name, weight)| (&**name, *weight)));
        let (arm, u) = assigner.assign(&key);
        assert_eq!((&case.arms[arm].0, u), (&case.arm, case.u), "salt {} key {}", case.salt, case.key);
        let next = case.shadow + 1e-9;
        let seen = [case.shadow, next].map(|share| sampled(&case.salt, &key, share));
        assert_eq!(seen, [false, true], "salt {} key {}", case.salt, case.key);
    }
}

#[test]
fn every_arm_gets_its_share() {
    const KEYS: usize = 100_000;
    for (salt, weights) in [
        ("a", &[90.0, 10.0][..]),
        ("b", &[50.0, 50.0]),
        ("c", &[1.0, 1.0, 1.0]),
        ("d", &[0.97, 0.01, 0.02]),
        ("e", &[5.0, 0.0, 3.0, 2.0]),
        ("f", &[1e300, 3e300, 6e300, 1e300, 2e300]),
        ("g", &[1e-9, 2e-9, 3e-9, 4e-9, 5e-9, 6e-9]),
    ] {
        let assigner = assigner(salt, &arms(weights));
        let total: f64 = weights.iter().sum();
        for keyed in [true, false] {
            let mut counts = vec![0_usize; weights.len()];
            for number in 0..KEYS {
                let arm = if keyed {
                    assigner.assign(&key(number)).0
                } else {
                    assigner.assign_random((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
                };
                counts[arm] += 1;
            }
            let mut statistic = 0.0;
            let mut freedom = 0;
            for (count, weight) in counts.iter().zip(weights) {
                let expected = KEYS as f64 * (weight / total);
                if expected == 0.0 {
                    assert_eq!(*count, 0, "an arm without weight was chosen");
                    continue;
                }
                statistic += (*count as f64 - expected).powi(2) / expected;
                freedom += 1;
            }
            let limit = CHI_SQUARE_1_IN_1000[freedom - 2];
            assert!(statistic < limit, "{weights:?} keyed {keyed}: {counts:?}, chi-square {statistic} of {limit}");
        }
    }
}

#[test]
fn ninety_ten_to_eighty_twenty_moves_a_tenth_and_none_the_other_way() {
    const KEYS: usize = 1_000_000;
    let (before, after) = (arms(&[90.0, 10.0]), arms(&[80.0, 20.0]));
    let (old, new) = (assigner("checkout", &before), assigner("checkout", &after));
    let (mut there, mut back) = (0_usize, 0_usize);
    for number in 0..KEYS {
        match (old.assign(&key(number)).0, new.assign(&key(number)).0) {
            (0, 1) => there += 1,
            (1, 0) => back += 1,
            _ => {}
        }
    }
    let share = there as f64 / KEYS as f64;
    assert!((share - 0.1).abs() <= 0.002, "moved {share}");
    assert_eq!(back, 0);
    assert_eq!(moved(&before, &after), 0.1);
}

#[test]
fn salts_make_experiments_independent() {
    const KEYS: usize = 100_000;
    for (weights, other) in [([50.0, 50.0], [50.0, 50.0]), ([90.0, 10.0], [30.0, 70.0])] {
        let (first, second) = (assigner("first", &arms(&weights)), assigner("second", &arms(&other)));
        let mut table = [[0_f64; 2]; 2];
        let mut shadow = [[0_f64; 2]; 2];
        for number in 0..KEYS {
            let key = key(number);
            let arm = first.assign(&key).0;
            table[arm][second.assign(&key).0] += 1.0;
            shadow[arm][usize::from(sampled("first", &key, 0.1))] += 1.0;
        }
        for table in [table, shadow] {
            let total: f64 = table.iter().flatten().sum();
            let mut statistic = 0.0;
            for (r, row) in table.iter().enumerate() {
                for (c, seen) in row.iter().enumerate() {
                    let column: f64 = table.iter().map(|row| row[c]).sum();
                    let expected = table[r].iter().sum::<f64>() * column / total;
                    statistic += (seen - expected).powi(2) / expected;
                }
            }
            assert!(statistic < CHI_SQUARE_1_IN_1000[0], "{table:?}: chi-square {statistic}");
        }
    }
}

#[test]
fn a_shadow_sees_its_share_and_a_higher_share_only_adds() {
    const KEYS: usize = 100_000;
    let mut seen = 0;
    for number in 0..KEYS {
        let key = key(number);
        let sample = [0.0, 0.1, 0.25, 1.0, f64::NAN].map(|share| sampled("s", &key, share));
        assert!(!sample[0] && sample[3] && !sample[4] && (sample[2] || !sample[1]));
        seen += usize::from(sample[1]);
    }
    // Five standard deviations of a binomial share.
    assert!((seen as f64 / KEYS as f64 - 0.1).abs() < 5.0 * (0.09 / KEYS as f64).sqrt(), "{seen}");
}

#[test]
fn moved_shares() {
    let named =
        |pairs: &[(&str, f64)]| pairs.iter().map(|(n, w)| (Box::from(*n), *w)).collect::<Vec<(Box<str>, f64)>>();
    assert_eq!(moved(&arms(&[9.0, 1.0]), &arms(&[90.0, 10.0])), 0.0);
    assert_eq!(moved(&arms(&[1.0, 1.0]), &arms(&[1.0, 0.0])), 0.5);
    assert_eq!(moved(&arms(&[1.0, 0.0]), &arms(&[1.0, 3.0])), 0.75);
    assert_eq!(moved(&arms(&[1.0, 0.0]), &arms(&[0.0, 1.0])), 1.0);
    assert_eq!(moved(&named(&[("a", 1.0), ("b", 1.0)]), &named(&[("b", 1.0), ("a", 1.0)])), 0.0);
    assert_eq!(moved(&named(&[("a", 1.0)]), &named(&[("renamed", 1.0)])), 1.0);
    assert_eq!(moved(&named(&[("a", 3.0), ("b", 1.0)]), &named(&[("a", 3.0)])), 0.25);
    assert_eq!(moved(&arms(&[1e300, 1e-300]), &arms(&[1e-300, 1e300])), 1.0);
    assert_eq!(reshuffled(&arms(&[1.0, 1.0]), &arms(&[1.0, 1.0])), 0.5);
    assert_eq!(reshuffled(&arms(&[9.0, 1.0]), &arms(&[8.0, 2.0])), 0.26);
    assert_eq!(reshuffled(&named(&[("a", 1.0)]), &named(&[("a", 7.0)])), 0.0);
}

#[test]
fn parameters_as_keys() {
    for (value, bytes) in [
        (ParamValue::Text("zoë".into()), "zoë"),
        (ParamValue::Text("".into()), ""),
        (ParamValue::Int(0), "0"),
        (ParamValue::Int(-17), "-17"),
        (ParamValue::Int(i64::MIN), "-9223372036854775808"),
        (ParamValue::Uint(u64::MAX), "18446744073709551615"),
        (ParamValue::Bool(true), "true"),
        (ParamValue::Bool(false), "false"),
    ] {
        assert_eq!(&*parameter_key("k", &value).unwrap(), bytes.as_bytes());
    }
    let refused = parameter_key("user", &ParamValue::Double(1.5)).unwrap_err();
    let text = "parameter 'user': expected text, an integer or a boolean as the key of a split, got 1.5";
    assert_eq!(refused.text(), text);
    assert_eq!(&*Key::raw(b"\xff"), b"\xff");
}

#[test]
fn elements_as_keys() {
    fn keys<T: bytemuck::NoUninit + Send + Sync>(dtype: DType, values: Vec<T>) -> Vec<String> {
        let tensor = Tensor::from_vec(dtype, smallvec![values.len(), 1], values).unwrap();
        let text = |element| String::from_utf8(element_key("k", &tensor, element).unwrap().to_vec()).unwrap();
        assert!(element_key("k", &tensor, tensor.elements()).is_err());
        (0..tensor.elements()).map(text).collect()
    }
    assert_eq!(keys(DType::Bool, vec![0_u8, 1]), ["false", "true"]);
    assert_eq!(keys(DType::Uint8, vec![0_u8, 255]), ["0", "255"]);
    assert_eq!(keys(DType::Uint16, vec![7_u16, u16::MAX]), ["7", "65535"]);
    assert_eq!(keys(DType::Uint32, vec![u32::MAX]), ["4294967295"]);
    assert_eq!(keys(DType::Uint64, vec![u64::MAX]), ["18446744073709551615"]);
    assert_eq!(keys(DType::Int8, vec![-128_i8, 3]), ["-128", "3"]);
    assert_eq!(keys(DType::Int16, vec![i16::MIN]), ["-32768"]);
    assert_eq!(keys(DType::Int32, vec![-1_i32, 10]), ["-1", "10"]);
    assert_eq!(keys(DType::Int64, vec![i64::MIN, i64::MAX]), ["-9223372036854775808", "9223372036854775807"]);
    let items = [&b"u17"[..], b"\xff\0"].map(bytes::Bytes::from_static);
    let text = Tensor::strings(smallvec![2], std::sync::Arc::new(items)).unwrap();
    assert_eq!(&*element_key("k", &text, 1).unwrap(), b"\xff\0");
    let absent = element_key("k", &text, 2).unwrap_err();
    assert_eq!(absent.text(), "input 'k': expected an element 2, got 2");
    let floats = Tensor::from_vec(DType::Fp32, smallvec![1], vec![1_f32]).unwrap();
    let refused = element_key("k", &floats, 0).unwrap_err();
    assert_eq!(
        refused.text(),
        "input 'k': expected BYTES, BOOL or an integer datatype as the key of a split, got FP32"
    );
}

/// Weights before and after of two to six arms, some of them 0, at least one positive on each side.
fn changes() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    let weight = prop_oneof![1 => Just(0.0), 4 => 0.01_f64..100.0];
    let pairs = proptest::collection::vec((weight.clone(), weight), 2..=6);
    pairs.prop_map(|pairs| pairs.into_iter().unzip()).prop_filter("weights", |(old, new): &(Vec<f64>, Vec<f64>)| {
        old.iter().sum::<f64>() * new.iter().sum::<f64>() > 0.0
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn keys_move_only_as_the_weights_say((old, new) in changes(), salt in "[a-z]{1,8}") {
        const KEYS: usize = 5_000;
        let (before, after) = (arms(&old), arms(&new));
        let (first, second) = (assigner(&salt, &before), assigner(&salt, &after));
        let mut changed = 0;
        for number in 0..KEYS {
            let (from, to) = (first.assign(&key(number)).0, second.assign(&key(number)).0);
            if from != to {
                changed += 1;
                // w_to / w_from grew, written without division by zero.
                prop_assert!(new[to] * old[from] > old[to] * new[from], "{old:?} -> {new:?}: {from} -> {to}");
            }
        }
        let (said, seen) = (moved(&before, &after), changed as f64 / KEYS as f64);
        let deviation = (said * (1.0 - said) / KEYS as f64).sqrt();
        prop_assert!((said - seen).abs() <= 5.0 * deviation + 1e-3, "{old:?} -> {new:?}: said {said}, saw {seen}");
    }

    #[test]
    fn an_added_arm_takes_and_a_removed_one_gives(weights in proptest::collection::vec(0.1_f64..10.0, 2..=5)) {
        let all = arms(&weights);
        let fewer = all[..all.len() - 1].to_vec();
        let (with, without) = (assigner("s", &all), assigner("s", &fewer));
        for number in 0..2_000 {
            let key = key(number);
            let arm = with.assign(&key).0;
            prop_assert!(arm == fewer.len() || arm == without.assign(&key).0);
        }
    }

    #[test]
    fn the_order_of_the_arms_does_not_matter(weights in proptest::collection::vec(0.1_f64..10.0, 2..=6), k in ".*") {
        let forward = arms(&weights);
        let backward: Vec<_> = forward.iter().rev().cloned().collect();
        let (there, u) = assigner("s", &forward).assign(k.as_bytes());
        let (back, same) = assigner("s", &backward).assign(k.as_bytes());
        prop_assert_eq!((&forward[there].0, u), (&backward[back].0, same));
    }

    #[test]
    fn long_keys_hash_like_short_ones(len in 0_usize..1_000) {
        let key = vec![b'x'; len];
        let parts: [&[u8]; 6] = [b"salt", b"", b"\0", &key, b"\0", b"name"];
        prop_assert_eq!(hash(parts), xxh3_64(&parts.concat()));
    }
}

/// Arms that draw the same number can only be arms of the same name, which a configuration cannot have; infinite times can tie.
#[test]
fn ties_go_to_the_first() {
    let tiny = assigner("s", &arms(&[0.0, 1e-320, 1e-320]));
    assert!((0..1_000).all(|number| tiny.assign(&key(number)).0 == 1));
    assert_eq!(Assigner::new("s", std::iter::empty()).assign(b"k").0, 0);
}
