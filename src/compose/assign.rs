//! Which arm of a split a key belongs to: weighted rendezvous hashing, the same on every replica, after every restart and in
//! any language. Pure; called by splits for every request or row, by the preview of assignments and by changes of weights, which
//! say how many keys move. `docs/assignment.md` has the rule for people.
//!
//! Every arm j draws a number from the key: h_j = xxh3_64(salt 0x00 key 0x00 name), u_j = ((h_j >> 11) + 0.5) / 2^53, and the arm
//! with the least -ln(u_j) / w_j is chosen. For independent uniform u_j these are exponential variables of rate w_j, so arm j is
//! the least with probability w_j / sum of w, and a change of weights moves a key only to an arm whose weight grew relative to
//! the one that it leaves (the logarithmic method of Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005).

use std::ops::Deref;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::types::{DType, Data, Error, ParamValue, Tensor};

/// Salt, key and name up to this size are hashed in one piece on the stack, which is faster than in parts.
const ONE_PIECE: usize = 256;
/// What is appended to a split's salt to decide which keys its shadow sees.
const SHADOW: &[u8] = b"/shadow";

/// Assigns keys to the arms of one split.
#[derive(Clone, Debug)]
pub struct Assigner {
    salt: Box<[u8]>,
    arms: Box<[Arm]>,
}

#[derive(Clone, Debug)]
struct Arm {
    name: Box<[u8]>,
    weight: f64,
}

/// The bytes of a sticky key.
#[derive(Clone, Debug)]
pub struct Key<'a>(Bytes<'a>);

#[derive(Clone, Debug)]
enum Bytes<'a> {
    Borrowed(&'a [u8]),
    /// A decimal number, right-aligned from `from` on; the longest is `-9223372036854775808`.
    Decimal {
        digits: [u8; 20],
        from: usize,
    },
}

impl Assigner {
    /// An assigner for arms in the order of the file. Weights are finite and at least 0, and one of them is positive: the
    /// configuration is refused otherwise. Arms of weight 0 are never chosen.
    pub fn new<'a>(salt: &str, arms: impl Iterator<Item = (&'a str, f64)>) -> Self {
        let arms = arms.map(|(name, weight)| Arm { name: name.as_bytes().into(), weight }).collect();
        Self { salt: salt.as_bytes().into(), arms }
    }

    /// The index of the key's arm, and the u of that arm (between 0 and 1), which says how narrowly it was chosen. Of equal
    /// arms the first in the order given. Allocates nothing.
    pub fn assign(&self, key: &[u8]) -> (usize, f64) {
        let mut best: Option<(usize, f64, f64)> = None;
        for (index, arm) in self.arms.iter().enumerate().filter(|(_, arm)| arm.weight > 0.0) {
            let u = unit(hash([&self.salt, &[], &[0], key, &[0], &arm.name]));
            let time = -u.ln() / arm.weight;
            if best.is_none_or(|(_, _, least)| time < least) {
                best = Some((index, u, time));
            }
        }
        best.map_or((0, 0.0), |(index, u, _)| (index, u))
    }

    /// The arm of a request without a key: as [`Assigner::assign`] of the random number that the caller drew for it.
    pub fn assign_random(&self, random: u64) -> usize {
        self.assign(&random.to_le_bytes()).0
    }
}

/// True when the shadow of a split with this salt sees the key, which a share of `share` of all keys has. A higher share adds
/// keys and takes none away. The hash is that of an arm without a name under the salt `<salt>/shadow`, so that which keys are
/// mirrored does not depend on which arm they have.
pub fn sampled(salt: &str, key: &[u8], share: f64) -> bool {
    share >= 1.0 || unit(hash([salt.as_bytes(), SHADOW, &[0], key, &[0], &[]])) < share
}

/// The expected share of keys, 0 to 1, that have another arm after a change of weights, under one salt. Arms are matched by
/// name; an arm that one side lacks has weight 0 there. Each side has a positive weight. Rounded to 1e-12.
///
/// With X_j = -ln(u_j), independent and exponential of rate 1, arm j wins before and after if X_j / w_j <= X_k / w_k and
/// X_j / w'_j <= X_k / w'_k for every other k, that is X_k >= X_j * m_k with m_k = max(w_k / w_j, w'_k / w'_j). Given X_j this has
/// probability exp(-X_j * sum over k of m_k); integrating over the density exp(-X_j) gives 1 / (1 + sum of m_k), and the 1 is the
/// term of k = j. A key stays with the sum of this over all j that have weight on both sides.
pub fn moved(before: &[(Box<str>, f64)], after: &[(Box<str>, f64)]) -> f64 {
    let pairs = pairs(before, after);
    let stays: f64 = pairs
        .iter()
        .filter(|(old, new)| *old > 0.0 && *new > 0.0)
        .map(|(old, new)| 1.0 / pairs.iter().map(|(o, n)| (o / old).max(n / new)).sum::<f64>())
        .sum();
    rounded(1.0 - stays)
}

/// As [`moved`] for a change that also changes the salt or where the key comes from: the arms before and after are independent.
pub fn reshuffled(before: &[(Box<str>, f64)], after: &[(Box<str>, f64)]) -> f64 {
    let pairs = pairs(before, after);
    let share = |weight: f64, of: f64| if of > 0.0 { weight / of } else { 0.0 };
    let (old, new) = pairs.iter().fold((0.0, 0.0), |(old, new), pair| (old + pair.0, new + pair.1));
    rounded(1.0 - pairs.iter().map(|pair| share(pair.0, old) * share(pair.1, new)).sum::<f64>())
}

/// Weights before and after of every arm that either side has.
fn pairs(before: &[(Box<str>, f64)], after: &[(Box<str>, f64)]) -> Vec<(f64, f64)> {
    let weight =
        |arms: &[(Box<str>, f64)], name: &str| arms.iter().find(|(known, _)| **known == *name).map(|arm| arm.1);
    let kept = before.iter().map(|(name, old)| (*old, weight(after, name).unwrap_or(0.0)));
    let added = after.iter().filter(|(name, _)| weight(before, name).is_none()).map(|(_, new)| (0.0, *new));
    kept.chain(added).collect()
}

/// Without the last bits, which would make 0.09999999999999998 of a tenth.
fn rounded(share: f64) -> f64 {
    ((share * 1e12).round() / 1e12).clamp(0.0, 1.0)
}

/// The key that a request parameter holds: text as it is, integers in decimal, `true` or `false`.
///
/// # Errors
/// `InvalidArgument` for a number with a fraction, whose text would depend on who writes it.
pub fn parameter_key<'a>(name: &str, value: &'a ParamValue) -> Result<Key<'a>, Error> {
    Ok(match value {
        ParamValue::Text(text) => Key(Bytes::Borrowed(text.as_bytes())),
        ParamValue::Int(value) => Key::decimal(value.unsigned_abs(), *value < 0),
        ParamValue::Uint(value) => Key::decimal(*value, false),
        ParamValue::Bool(value) => Key::boolean(*value),
        ParamValue::Double(value) => {
            let subject = format!("parameter '{name}'");
            return Err(Error::expected(subject, "text, an integer or a boolean as the key of a split", value));
        }
    })
}

/// The key that an element of an input tensor holds, elements counted in row-major order: the raw bytes of a BYTES element,
/// integers in decimal, `true` or `false`.
///
/// # Errors
/// `InvalidArgument` for floating-point tensors, and when there is no such element.
pub fn element_key<'a>(name: &str, tensor: &'a Tensor, element: usize) -> Result<Key<'a>, Error> {
    let absent = || Error::expected(format!("input '{name}'"), format!("an element {element}"), tensor.elements());
    let bytes = match tensor.data() {
        Data::Strings(items) => {
            return items.get(element).map(|item| Key(Bytes::Borrowed(item))).ok_or_else(absent);
        }
        Data::Plain(bytes) => bytes,
    };
    fn at<const N: usize>(bytes: &[u8], element: usize) -> Option<[u8; N]> {
        bytes.as_chunks::<N>().0.get(element).copied()
    }
    let signed = |value: i64| Key::decimal(value.unsigned_abs(), value < 0);
    let unsigned = |value: u64| Key::decimal(value, false);
    let key = match tensor.dtype() {
        DType::Bool => at(bytes, element).map(|[byte]| Key::boolean(byte != 0)),
        DType::Uint8 => at(bytes, element).map(|b| unsigned(u8::from_le_bytes(b).into())),
        DType::Uint16 => at(bytes, element).map(|b| unsigned(u16::from_le_bytes(b).into())),
        DType::Uint32 => at(bytes, element).map(|b| unsigned(u32::from_le_bytes(b).into())),
        DType::Uint64 => at(bytes, element).map(|b| unsigned(u64::from_le_bytes(b))),
        DType::Int8 => at(bytes, element).map(|b| signed(i8::from_le_bytes(b).into())),
        DType::Int16 => at(bytes, element).map(|b| signed(i16::from_le_bytes(b).into())),
        DType::Int32 => at(bytes, element).map(|b| signed(i32::from_le_bytes(b).into())),
        DType::Int64 => at(bytes, element).map(|b| signed(i64::from_le_bytes(b))),
        dtype @ (DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64 | DType::Bytes) => {
            let subject = format!("input '{name}'");
            return Err(Error::expected(subject, "BYTES, BOOL or an integer datatype as the key of a split", dtype));
        }
    };
    key.ok_or_else(absent)
}

impl<'a> Key<'a> {
    /// The key that a header's or metadata's value is: its bytes.
    pub fn raw(bytes: &'a [u8]) -> Self {
        Key(Bytes::Borrowed(bytes))
    }

    fn boolean(value: bool) -> Self {
        Key(Bytes::Borrowed(if value { b"true" } else { b"false" }))
    }

    fn decimal(mut magnitude: u64, negative: bool) -> Self {
        let mut digits = [0; 20];
        let mut from = digits.len();
        loop {
            from -= 1;
            digits[from] = b'0' + (magnitude % 10) as u8;
            magnitude /= 10;
            if magnitude == 0 {
                break;
            }
        }
        if negative {
            // A negative number has at most 19 digits, so there is room.
            from -= 1;
            digits[from] = b'-';
        }
        Key(Bytes::Decimal { digits, from })
    }
}

impl Deref for Key<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Borrowed(bytes) => bytes,
            Bytes::Decimal { digits, from } => &digits[*from..],
        }
    }
}

/// A hash as a number between 0 and 1 of 53 bits.
fn unit(hash: u64) -> f64 {
    // Exact up to the sum, which rounds to even as in every other language with IEEE 754 doubles.
    ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// xxh3_64 of the parts one after the other, without a seed.
fn hash(parts: [&[u8]; 6]) -> u64 {
    let mut piece = [0; ONE_PIECE];
    let mut len = 0;
    for part in parts {
        let Some(room) = piece.get_mut(len..len + part.len()) else { return hash_long(parts) };
        room.copy_from_slice(part);
        len += part.len();
    }
    xxh3_64(&piece[..len])
}

fn hash_long(parts: [&[u8]; 6]) -> u64 {
    let mut state = Xxh3::new();
    parts.iter().for_each(|part| state.update(part));
    state.digest()
}

#[cfg(test)]
#[path = "assign_tests.rs"]
mod tests;
