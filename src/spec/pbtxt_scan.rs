//! A walk over protobuf text ahead of the real parser. It finds where every field stands (the parser keeps no places), reports
//! all unknown fields and enum values at once with the nearest known one (the parser stops at the first), refuses type
//! expansions `[...]` (which the parser follows to any depth), and puts in the colons that the parser wants before lists:
//! `input [ {...} ]` is legal text format and how nearly everybody writes it. Called by `config_pbtxt` only.

use std::collections::HashMap;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::{
    nearest,
    problem::{Lines, MAX_PROBLEMS, Place, Problem, quoted},
};

/// What the walk found.
pub(super) struct Scan<'t> {
    /// The text with a colon before every list.
    pub(super) text: String,
    /// All problems, in the order of the text.
    pub(super) problems: Vec<Problem>,
    /// Where in the original text colons were put in, ascending.
    inserted: Vec<usize>,
    /// Every field in the order of the text.
    order: Vec<(usize, String)>,
    fields: HashMap<String, FieldPlace>,
    lines: Lines<'t>,
}

#[derive(Clone, Copy)]
struct FieldPlace {
    name: usize,
    value: Option<usize>,
}

impl<'t> Scan<'t> {
    /// Walks a text whose top level is a message of type `root`.
    pub(super) fn new(text: &'t str, root: &MessageDescriptor) -> Self {
        let scan = Scan {
            text: String::with_capacity(text.len() + 16),
            problems: Vec::new(),
            inserted: Vec::new(),
            order: Vec::new(),
            fields: HashMap::new(),
            lines: Lines::new(text),
        };
        let top = Frame::Message(MessageFrame::new(Some(root.clone()), String::new()));
        let mut walk = Walk { scan, stack: vec![top], counts: HashMap::new(), known: paths_of(root) };
        for token in Tokens::new(text) {
            walk.step(&token);
        }
        let mut scan = walk.scan;
        let mut from = 0;
        for at in &scan.inserted {
            scan.text.push_str(&text[from..*at]);
            scan.text.push(':');
            from = *at;
        }
        scan.text.push_str(&text[from..]);
        scan
    }

    /// Where the field stands; `None` when the text does not have it. Elements of repeated messages are `path[i]`.
    pub(super) fn name_place(&self, path: &str) -> Option<Place> {
        self.fields.get(path).map(|field| self.lines.place(field.name))
    }

    /// Where the field's value stands, or the field where the value has no place of its own.
    pub(super) fn value_place(&self, path: &str) -> Option<Place> {
        self.fields.get(path).map(|field| self.lines.place(field.value.unwrap_or(field.name)))
    }

    /// A problem at an offset of [`Scan::text`] (`None` = its end), named after the field that stands there.
    pub(super) fn problem_at(&self, offset: Option<usize>, text: String) -> Problem {
        let offset = offset.map_or(usize::MAX, |offset| self.original(offset));
        let before = self.order.partition_point(|(start, _)| *start <= offset);
        let key = before.checked_sub(1).and_then(|last| self.order.get(last)).map_or("", |(_, path)| path);
        self.lines.place(offset).problem(key, text)
    }

    /// The offset in the original text of an offset in the text with colons.
    fn original(&self, offset: usize) -> usize {
        let before = self.inserted.iter().enumerate().filter(|(i, at)| **at + i < offset).count();
        offset - before
    }
}

enum Frame {
    Message(MessageFrame),
    List(Option<FieldDescriptor>, String),
}

struct MessageFrame {
    descriptor: Option<MessageDescriptor>,
    path: String,
    /// The field whose value has not been seen yet: descriptor (if known), path, offset of its name.
    field: Option<(Option<FieldDescriptor>, String, usize)>,
    colon: bool,
}

impl MessageFrame {
    fn new(descriptor: Option<MessageDescriptor>, path: String) -> Self {
        Self { descriptor, path, field: None, colon: false }
    }
}

struct Walk<'t> {
    scan: Scan<'t>,
    /// Never empty: the root frame is not popped.
    stack: Vec<Frame>,
    /// How many elements of a repeated message field were opened.
    counts: HashMap<String, usize>,
    known: Vec<String>,
}

impl Walk<'_> {
    fn step(&mut self, token: &Token<'_>) {
        match self.stack.last_mut() {
            Some(Frame::Message(frame)) => match token.kind {
                TokenKind::Word if !frame.colon => self.start_field(token),
                TokenKind::Word | TokenKind::Scalar => {
                    frame.colon = false;
                    if let Some((field, path, _)) = frame.field.take() {
                        self.value(field.as_ref(), &path, token);
                    }
                }
                TokenKind::Symbol(b':') => frame.colon = true,
                TokenKind::Symbol(b'{' | b'<') => {
                    frame.colon = false;
                    let (field, path, name) = frame.field.take().unwrap_or((None, String::new(), token.start));
                    self.open_message(field, path, name);
                }
                TokenKind::Symbol(b'[') => self.open_list(token),
                TokenKind::Symbol(b'}' | b'>') if self.stack.len() > 1 => {
                    self.stack.pop();
                }
                TokenKind::Symbol(_) => {}
            },
            Some(Frame::List(field, path)) => {
                let (field, path) = (field.clone(), path.clone());
                match token.kind {
                    TokenKind::Word => self.check_enum(field.as_ref(), &path, token),
                    TokenKind::Symbol(b'{' | b'<') => self.open_message(field, path, token.start),
                    TokenKind::Symbol(b'[') => self.stack.push(Frame::List(field, path)),
                    TokenKind::Symbol(b']') => {
                        self.stack.pop();
                    }
                    _ => {}
                }
            }
            None => {}
        }
    }

    fn start_field(&mut self, token: &Token<'_>) {
        let Some(Frame::Message(frame)) = self.stack.last_mut() else { return };
        if let Some((Some(field), path, _)) = frame.field.take() {
            let text = format!("expected ':' or '{{' after '{}', got {}", field.name(), quoted(token.text));
            self.report(token.start, path, text);
            return;
        }
        frame.field = Some((None, String::new(), token.start));
        let Some(message) = &frame.descriptor else { return };
        let path = if frame.path.is_empty() { token.text.to_owned() } else { format!("{}.{}", frame.path, token.text) };
        let Some(field) = message.get_field_by_name(token.text) else {
            let table = &path[..path.len() - token.text.len()];
            let siblings: Vec<_> = message.fields().map(|field| field.name().to_owned()).collect();
            let candidates: Vec<_> = siblings.iter().map(|name| format!("{table}{name}")).collect();
            let candidates: Vec<_> = candidates.iter().chain(&self.known).map(String::as_str).collect();
            let siblings: Vec<_> = siblings.iter().map(String::as_str).collect();
            let text = nearest::unknown_key_among(&path, &candidates, &siblings);
            self.report(token.start, path, text);
            return;
        };
        let repeated = field.is_list() || field.is_map();
        frame.field = Some((Some(field), path.clone(), token.start));
        if !self.scan.fields.contains_key(&path) {
            self.place(path, token.start);
        } else if !repeated {
            self.report(token.start, path, "given twice".to_owned());
        }
    }

    fn open_message(&mut self, field: Option<FieldDescriptor>, mut path: String, at: usize) {
        let message = field.as_ref().and_then(|field| match field.kind() {
            Kind::Message(message) => Some(message),
            _ => None,
        });
        if field.is_some_and(|field| field.is_list() || field.is_map()) {
            let count = self.counts.entry(path.clone()).or_insert(0);
            path = format!("{path}[{count}]");
            *count += 1;
            self.place(path.clone(), at);
        }
        self.stack.push(Frame::Message(MessageFrame::new(message, path)));
    }

    fn open_list(&mut self, token: &Token<'_>) {
        let Some(Frame::Message(frame)) = self.stack.last_mut() else { return };
        let Some((field, path, _)) = frame.field.take() else {
            let path = frame.path.clone();
            self.report(token.start, path, "extensions and type expansions are not supported".to_owned());
            self.stack.push(Frame::List(None, String::new()));
            return;
        };
        if !std::mem::take(&mut frame.colon) {
            self.scan.inserted.push(token.start);
        }
        if let Some(place) = self.scan.fields.get_mut(&path) {
            place.value.get_or_insert(token.start);
        }
        self.stack.push(Frame::List(field, path));
    }

    fn value(&mut self, field: Option<&FieldDescriptor>, path: &str, token: &Token<'_>) {
        if let Some(place) = self.scan.fields.get_mut(path) {
            place.value.get_or_insert(token.start);
        }
        if matches!(token.kind, TokenKind::Word) {
            self.check_enum(field, path, token);
        }
    }

    fn check_enum(&mut self, field: Option<&FieldDescriptor>, path: &str, token: &Token<'_>) {
        let Some(Kind::Enum(values)) = field.map(FieldDescriptor::kind) else { return };
        if values.get_value_by_name(token.text).is_none() {
            let names: Vec<_> = values.values().map(|value| value.name().to_owned()).collect();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let hint = nearest::nearest(token.text, &names).map_or_else(
                || format!(": expected one of '{}'", names.join("', '")),
                |name| format!(", did you mean '{name}'?"),
            );
            self.report(token.start, path.to_owned(), format!("unknown value {}{hint}", quoted(token.text)));
        }
    }

    fn place(&mut self, path: String, name: usize) {
        self.scan.order.push((name, path.clone()));
        self.scan.fields.insert(path, FieldPlace { name, value: None });
    }

    fn report(&mut self, offset: usize, path: String, text: String) {
        if self.scan.problems.len() < MAX_PROBLEMS {
            self.scan.problems.push(self.scan.lines.place(offset).problem(path, text));
        }
    }
}

/// The paths of the fields of singular messages, so that a key in the wrong message finds its place.
fn paths_of(root: &MessageDescriptor) -> Vec<String> {
    let mut paths = Vec::new();
    for field in root.fields().filter(|field| !field.is_list() && !field.is_map()) {
        if let Kind::Message(message) = field.kind() {
            paths.extend(message.fields().map(|inner| format!("{}.{}", field.name(), inner.name())));
        }
    }
    paths
}

#[derive(Clone, Copy, PartialEq)]
enum TokenKind {
    /// A name or a bare value: letters, digits, underscores.
    Word,
    /// A number, a string.
    Scalar,
    Symbol(u8),
}

struct Token<'t> {
    kind: TokenKind,
    start: usize,
    text: &'t str,
}

/// Splits the text; never fails: whatever it does not know is a symbol, and the real parser complains.
struct Tokens<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Tokens<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The end of the run of bytes from `start` for which `keep` holds.
    fn run(&self, start: usize, keep: impl Fn(u8) -> bool) -> usize {
        self.text.as_bytes()[start..].iter().position(|b| !keep(*b)).map_or(self.text.len(), |n| start + n)
    }

    /// The end of the string that starts at `start`: after its quote, or at the end of the line.
    fn string(&self, start: usize) -> usize {
        let bytes = self.text.as_bytes();
        let mut at = start + 1;
        while let Some(b) = bytes.get(at) {
            match b {
                b'\\' => at += 2,
                b'\n' => return at,
                b if *b == bytes[start] => return at + 1,
                _ => at += 1,
            }
        }
        bytes.len()
    }
}

impl<'t> Iterator for Tokens<'t> {
    type Item = Token<'t>;

    fn next(&mut self) -> Option<Token<'t>> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        loop {
            let start = self.at;
            let (kind, end) = match *self.text.as_bytes().get(start)? {
                b'#' => {
                    self.at = self.run(start, |b| b != b'\n');
                    continue;
                }
                b if b.is_ascii_whitespace() || !b.is_ascii() => {
                    self.at = start + 1;
                    continue;
                }
                b'"' | b'\'' => (TokenKind::Scalar, self.string(start)),
                b if b.is_ascii_digit() || b"+-.".contains(&b) => {
                    (TokenKind::Scalar, self.run(start + 1, |b| word(b) || b == b'.'))
                }
                b if word(b) => (TokenKind::Word, self.run(start, word)),
                b => (TokenKind::Symbol(b), start + 1),
            };
            self.at = end;
            // A string that ends in the middle of a character is one that the parser refuses.
            return Some(Token { kind, start, text: self.text.get(start..end).unwrap_or("") });
        }
    }
}
