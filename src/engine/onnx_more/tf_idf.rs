//! TfIdfVectorizer: how often each known n-gram of words or numbers is in a row, weighted or not.

use std::{collections::HashMap, hash::Hash};

use tract_onnx::{model::ParsingContext, pb::NodeProto, tract_hir::internal::*};

use super::super::operator::{Built, Fact, Known, Operator, ints, need, node};

/// `TfIdfVectorizer`.
pub(super) fn vectorizer(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let mode: String = proto.get_attr("mode")?;
    let mode = match mode.as_str() {
        "TF" => Mode::Count,
        "IDF" => Mode::Weight,
        "TFIDF" => Mode::Both,
        other => bail!("attribute 'mode': there is no mode '{other}'"),
    };
    let size = |name: &str| -> TractResult<usize> { Ok(usize::try_from(proto.get_attr::<i64>(name)?)?) };
    let (shortest, longest) = (size("min_gram_length")?, size("max_gram_length")?);
    ensure!(
        (1..=longest).contains(&shortest),
        "attributes 'min_gram_length' and 'max_gram_length': expected 1 to {longest}, got {shortest}"
    );
    let columns: Vec<usize> = proto.get_attr_vec("ngram_indexes")?;
    let starts: Vec<usize> = proto.get_attr_vec("ngram_counts")?;
    let numbers: Vec<i64> = proto.get_attr_opt_vec("pool_int64s")?.unwrap_or_default();
    let words: Vec<String> = proto.get_attr_opt_vec("pool_strings")?.unwrap_or_default();
    ensure!(numbers.is_empty() != words.is_empty(), "attributes 'pool_…': expected numbers or texts");
    let grams = if words.is_empty() {
        Grams::Numbers(pool(&numbers, &starts, columns.len())?)
    } else {
        Grams::Words(pool(&words, &starts, columns.len())?)
    };
    let weights: Vec<f32> = proto.get_attr_opt_vec("weights")?.unwrap_or_default();
    ensure!(
        weights.is_empty() || weights.len() == columns.len(),
        "attribute 'weights': expected {} values, got {}",
        columns.len(),
        weights.len()
    );
    let width = columns.iter().max().map_or(0, |last| last + 1);
    ensure!(width <= MAX_COLUMNS, "attribute 'ngram_indexes': expected at most {MAX_COLUMNS}, got {width}");
    let skips = size("max_skip_count")?;
    Ok((node(proto, Vectorizer { mode, shortest, longest, skips, grams, columns, weights, width }), vec![]))
}

/// Columns that an answer may have.
const MAX_COLUMNS: usize = 1 << 24;

/// What an answer counts.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Count,
    /// The weight of those that are there.
    Weight,
    Both,
}

/// Known n-grams and their numbers.
type Pool<T> = HashMap<Vec<T>, usize>;

#[derive(Debug)]
enum Grams {
    Numbers(Pool<i64>),
    Words(Pool<String>),
}

/// Cuts a flat list into n-grams: `starts` says where those of one item begin, those of two, and so on.
fn pool<T: Clone + Eq + Hash>(flat: &[T], starts: &[usize], count: usize) -> TractResult<Pool<T>> {
    let mut pool = Pool::new();
    let mut number = 0;
    for (at, start) in starts.iter().enumerate() {
        let end = starts.get(at + 1).copied().unwrap_or(flat.len());
        let part = flat.get(*start..end).filter(|part| part.len().is_multiple_of(at + 1));
        let part = part.with_context(|| format!("attribute 'ngram_counts': does not fit {} items", flat.len()))?;
        for gram in part.chunks_exact(at + 1) {
            pool.entry(gram.to_vec()).or_insert(number);
            number += 1;
        }
    }
    ensure!(number == count, "attribute 'ngram_indexes': expected {number} values, got {count}");
    Ok(pool)
}

#[derive(Debug)]
struct Vectorizer {
    mode: Mode,
    shortest: usize,
    longest: usize,
    /// Items that may be between two of an n-gram.
    skips: usize,
    grams: Grams,
    /// The column of each n-gram.
    columns: Vec<usize>,
    /// The weight of each n-gram; 1 where there is none.
    weights: Vec<f32>,
    width: usize,
}

impl Vectorizer {
    fn count<T: Clone + Eq + Hash>(&self, row: &[T], pool: &Pool<T>, out: &mut [f32]) {
        let mut gram = Vec::with_capacity(self.longest);
        for distance in 1..=self.skips + 1 {
            for start in 0..row.len() {
                gram.clear();
                for item in row[start..].iter().step_by(distance).take(self.longest) {
                    gram.push(item.clone());
                    // One item alone has nothing to skip: it counts once.
                    let counts = gram.len() >= self.shortest && (gram.len() > 1 || distance == 1);
                    if let (true, Some(number)) = (counts, pool.get(gram.as_slice())) {
                        self.add(*number, out);
                    }
                }
            }
        }
    }

    fn add(&self, gram: usize, out: &mut [f32]) {
        let weight = self.weights.get(gram).copied().unwrap_or(1.0);
        let column = &mut out[self.columns[gram]];
        match self.mode {
            Mode::Count => *column += 1.0,
            Mode::Weight => *column = weight,
            Mode::Both => *column += weight,
        }
    }
}

impl Operator for Vectorizer {
    fn name(&self) -> &'static str {
        "TfIdfVectorizer"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        let fits = match self.grams {
            Grams::Numbers(_) => input.datum.is_integer(),
            Grams::Words(_) => input.datum == DatumType::String,
        };
        ensure!(fits, "the n-grams are not of type {:?}", input.datum);
        let shape = match &input.shape[..] {
            [_] => tvec![self.width.to_dim()],
            [rows, _] => tvec![rows.clone(), self.width.to_dim()],
            shape => bail!("expected an input of 1 or 2 dimensions, got {}", shape.len()),
        };
        Ok(vec![(DatumType::F32, shape)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let input = *need(inputs, 0)?;
        let (rows, items, shape) = match input.shape() {
            [items] => (1, *items, vec![self.width]),
            [rows, items] => (*rows, *items, vec![*rows, self.width]),
            shape => bail!("expected an input of 1 or 2 dimensions, got {}", shape.len()),
        };
        let mut out = vec![0_f32; rows * self.width];
        let numbers = if matches!(self.grams, Grams::Numbers(_)) { ints(input)? } else { Vec::new() };
        for (row, out) in out.chunks_exact_mut(self.width.max(1)).enumerate() {
            let range = row * items..(row + 1) * items;
            match &self.grams {
                Grams::Numbers(pool) => self.count(&numbers[range], pool, out),
                Grams::Words(pool) => self.count(&input.try_as_plain_ram()?.as_slice::<String>()?[range], pool, out),
            }
        }
        Ok(vec![Tensor::from_shape(&shape, &out)?])
    }
}
