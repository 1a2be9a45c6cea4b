//! Tokenizer, ONNX Runtime's own operator: texts cut at separators. Exporters of text models put it before TfIdfVectorizer.

use tract_onnx::{model::ParsingContext, pb::NodeProto, prelude::Symbol, tract_hir::internal::*};

use super::super::operator::{Built, Fact, Known, Operator, need, node};

/// Characters that mean something else than themselves in a separator, which is a pattern.
const PATTERN: [char; 14] = ['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$'];

/// Tokens that an answer may have; one long text makes all others as long.
const MAX_TOKENS: usize = 1 << 24;

/// What stands before and after the tokens of a text.
const MARKS: [&str; 2] = ["\u{2}", "\u{3}"];

/// `com.microsoft.Tokenizer`.
pub(super) fn tokenizer(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let expression: Option<String> = proto.get_attr_opt("tokenexp")?;
    ensure!(
        expression.is_none_or(|expression| expression.is_empty()),
        "attribute 'tokenexp': patterns are not supported; export with separators instead"
    );
    let separators: Vec<String> = proto.get_attr_opt_vec("separators")?.unwrap_or_default();
    ensure!(!separators.is_empty(), "attribute 'separators': expected some, got none");
    let letters = separators.len() == 1 && separators[0].is_empty();
    for separator in &separators {
        let plain = (letters || !separator.is_empty()) && !separator.contains(PATTERN);
        ensure!(plain, "attribute 'separators': '{separator}' is a pattern, which is not supported");
    }
    let op = Tokenizer {
        separators: if letters { Vec::new() } else { separators },
        shortest: proto.get_attr_opt("mincharnum")?.unwrap_or(1),
        marked: proto.get_attr_opt("mark")?.unwrap_or(0_i64) != 0,
        padding: proto.get_attr_opt("pad_value")?.unwrap_or_default(),
        tokens: context.template.symbols.new_with_prefix("tokens"),
    };
    Ok((node(proto, op), vec![]))
}

#[derive(Debug)]
struct Tokenizer {
    /// Every letter is a token where there are none.
    separators: Vec<String>,
    /// Characters that a token has at least.
    shortest: usize,
    /// Tokens stand between marks.
    marked: bool,
    /// What fills up shorter texts.
    padding: String,
    /// Tokens of the text that has most.
    tokens: Symbol,
}

impl Tokenizer {
    fn tokens<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut parts: Vec<&str> = vec![text];
        for separator in &self.separators {
            parts = parts.into_iter().flat_map(|part| part.split(separator.as_str())).collect();
        }
        if self.separators.is_empty() {
            parts = text.char_indices().map(|(at, letter)| &text[at..at + letter.len_utf8()]).collect();
        }
        parts.retain(|part| !part.is_empty() && part.chars().count() >= self.shortest);
        if self.marked {
            parts.insert(0, MARKS[0]);
            parts.push(MARKS[1]);
        }
        parts
    }
}

impl Operator for Tokenizer {
    fn name(&self) -> &'static str {
        "Tokenizer"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let input = need(inputs, 0)?;
        ensure!(input.datum == DatumType::String, "expected texts, got {:?}", input.datum);
        ensure!((1..=2).contains(&input.rank()), "expected an input of 1 or 2 dimensions, got {}", input.rank());
        let mut shape = input.shape.clone();
        shape.push(self.tokens.to_dim());
        Ok(vec![(input.datum, shape)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let input = *need(inputs, 0)?;
        let view = input.try_as_plain_ram()?;
        let tokens: Vec<_> = view.as_slice::<String>()?.iter().map(|text| self.tokens(text)).collect();
        let most = tokens.iter().map(Vec::len).max().unwrap_or(0);
        let count = tokens.len().saturating_mul(most);
        ensure!(count <= MAX_TOKENS, "expected at most {MAX_TOKENS} tokens, got {count}");
        let mut out = Vec::with_capacity(count);
        for tokens in &tokens {
            out.extend((0..most).map(|at| (*tokens.get(at).unwrap_or(&self.padding.as_str())).to_owned()));
        }
        let mut shape = input.shape().to_vec();
        shape.push(most);
        Ok(vec![tensor1(&out).into_shape(&shape)?])
    }
}
