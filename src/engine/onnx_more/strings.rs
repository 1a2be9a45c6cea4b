//! Operators on texts: StringNormalizer, StringConcat and StringSplit.

use std::collections::HashSet;

use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    prelude::Symbol,
    tract_hir::{internal::*, tract_core::broadcast::multi_broadcast},
};

use super::super::operator::{Built, Fact, Known, Operator, need, node};

/// The elements of a tensor of texts.
fn texts(tensor: &Tensor) -> TractResult<Vec<String>> {
    Ok(tensor.try_as_plain_ram()?.as_slice::<String>()?.to_vec())
}

fn are_texts(known: &Known) -> TractResult<()> {
    ensure!(known.datum == DatumType::String, "expected texts, got {:?}", known.datum);
    Ok(())
}

/// What is done to letters.
#[derive(Clone, Copy, Debug)]
enum Case {
    Keep,
    Lower,
    Upper,
}

impl Case {
    fn apply(self, text: &str) -> String {
        match self {
            Case::Keep => text.to_owned(),
            Case::Lower => text.to_lowercase(),
            Case::Upper => text.to_uppercase(),
        }
    }
}

/// `StringNormalizer`: without stop words, in one case. The language is not looked at.
pub(super) fn normalizer(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let action: Option<String> = proto.get_attr_opt("case_change_action")?;
    let case = match action.as_deref().unwrap_or("NONE") {
        "NONE" => Case::Keep,
        "LOWER" => Case::Lower,
        "UPPER" => Case::Upper,
        other => bail!("attribute 'case_change_action': there is no action '{other}'"),
    };
    let exact = proto.get_attr_opt("is_case_sensitive")?.unwrap_or(0_i64) != 0;
    let compared = if exact { Case::Keep } else { Case::Lower };
    let stops: Vec<String> = proto.get_attr_opt_vec("stopwords")?.unwrap_or_default();
    let stops = stops.iter().map(|word| compared.apply(word)).collect();
    let left = context.template.symbols.new_with_prefix("words");
    Ok((node(proto, Normalizer { case, compared, stops, left }), vec![]))
}

#[derive(Debug)]
struct Normalizer {
    case: Case,
    /// Stop words are compared in this case.
    compared: Case,
    stops: HashSet<String>,
    /// How many words are left.
    left: Symbol,
}

impl Operator for Normalizer {
    fn name(&self) -> &'static str {
        "StringNormalizer"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        are_texts(input)?;
        let mut shape = input.shape.clone();
        ensure!(
            shape.len() == 1 || (shape.len() == 2 && shape[0] == 1.to_dim()),
            "expected an input [C] or [1, C], got {shape:?}"
        );
        if !self.stops.is_empty() {
            shape.pop();
            shape.push(self.left.to_dim());
        }
        Ok(vec![(input.datum, shape)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let input = *need(inputs, 0)?;
        let mut words = texts(input)?;
        words.retain(|word| !self.stops.contains(&self.compared.apply(word)));
        words.iter_mut().for_each(|word| *word = self.case.apply(word));
        if words.is_empty() && !self.stops.is_empty() {
            words.push(String::new());
        }
        let shape: &[usize] = if input.rank() == 1 { &[words.len()] } else { &[1, words.len()] };
        Ok(vec![tensor1(&words).into_shape(shape)?])
    }
}

/// `StringConcat`: one text after the other.
pub(super) fn concat(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    Ok((node(proto, Concat), vec![]))
}

#[derive(Debug)]
struct Concat;

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "StringConcat"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let (a, b) = (need(inputs, 0)?, need(inputs, 1)?);
        are_texts(a)?;
        are_texts(b)?;
        Ok(vec![(a.datum, multi_broadcast(&[&a.shape, &b.shape])?)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let (a, b) = (*need(inputs, 0)?, *need(inputs, 1)?);
        let shape = multi_broadcast(&[a.shape(), b.shape()])?;
        let (a, b) = (a.to_plain_array_view::<String>()?, b.to_plain_array_view::<String>()?);
        let (a, b) = a.broadcast(&*shape).zip(b.broadcast(&*shape)).context("shapes that were checked fit")?;
        let joined: Vec<String> = a.iter().zip(b.iter()).map(|(a, b)| format!("{a}{b}")).collect();
        Ok(vec![tensor1(&joined).into_shape(&shape)?])
    }
}

/// Parts that an answer may have; one long text makes all others as long.
const MAX_PARTS: usize = 1 << 24;

/// `StringSplit`: the parts of each text, and how many there are.
pub(super) fn split(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let delimiter: Option<String> = proto.get_attr_opt("delimiter")?;
    let most: Option<i64> = proto.get_attr_opt("maxsplit")?;
    let op = Split {
        delimiter: delimiter.unwrap_or_default(),
        most: most.and_then(|most| usize::try_from(most).ok()),
        parts: context.template.symbols.new_with_prefix("parts"),
    };
    Ok((node(proto, op), vec![]))
}

#[derive(Debug)]
struct Split {
    /// White space of any length where it is empty.
    delimiter: String,
    /// How often a text is split at most.
    most: Option<usize>,
    /// Parts of the text that has most.
    parts: Symbol,
}

impl Split {
    fn parts<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let most = self.most.map_or(usize::MAX, |most| most.saturating_add(1));
        if text.is_empty() {
            return Vec::new();
        }
        if !self.delimiter.is_empty() {
            return text.splitn(most, &self.delimiter).collect();
        }
        let mut parts = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let end = if parts.len() + 1 < most { rest.find(char::is_whitespace) } else { None };
            let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
            parts.push(part);
            rest = after.trim_start();
        }
        parts
    }
}

impl Operator for Split {
    fn name(&self) -> &'static str {
        "StringSplit"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        are_texts(input)?;
        let mut shape = input.shape.clone();
        shape.push(self.parts.to_dim());
        Ok(vec![(input.datum, shape), (DatumType::I64, input.shape.clone())])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let input = *need(inputs, 0)?;
        let all = texts(input)?;
        let parts: Vec<_> = all.iter().map(|text| self.parts(text)).collect();
        let most = parts.iter().map(Vec::len).max().unwrap_or(0);
        let count = all.len().saturating_mul(most);
        ensure!(count <= MAX_PARTS, "expected at most {MAX_PARTS} parts, got {count}");
        let mut out = Vec::with_capacity(count);
        for parts in &parts {
            out.extend((0..most).map(|at| parts.get(at).copied().unwrap_or_default().to_owned()));
        }
        let mut shape = input.shape().to_vec();
        shape.push(most);
        let counts: Vec<i64> = parts.iter().map(|parts| parts.len() as i64).collect();
        Ok(vec![tensor1(&out).into_shape(&shape)?, Tensor::from_shape(input.shape(), &counts)?])
    }
}
