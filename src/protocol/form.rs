//! How an answer is to be written, as its request asked. `decode` of either protocol makes it, the handler keeps it while the
//! gateway works, `encode` and the classification extension read it.

/// The form of an answer: typed fields and JSON, or raw little-endian bytes; and which outputs are classified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyForm {
    raw: bool,
    outputs: Vec<OutputForm>,
}

/// What was asked of one output beyond its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutputForm {
    /// Output name.
    pub(super) name: Box<str>,
    /// Raw or not, where the output says so itself.
    pub(super) raw: Option<bool>,
    /// Classes wanted; 0 = the numbers.
    pub(super) classes: usize,
}

impl ReplyForm {
    /// Typed fields (gRPC) or JSON (HTTP) for every output.
    pub fn typed() -> Self {
        Self::default()
    }

    /// Raw bytes for every output.
    pub fn raw() -> Self {
        Self { raw: true, outputs: Vec::new() }
    }

    pub(super) fn new(raw: bool) -> Self {
        Self { raw, outputs: Vec::new() }
    }

    /// Remembers an output's wishes, unless it has none.
    pub(super) fn push(&mut self, output: OutputForm) {
        if output.raw.is_some() || output.classes > 0 {
            self.outputs.push(output);
        }
    }

    /// Whether outputs are raw where they do not say themselves.
    pub fn is_raw(&self) -> bool {
        self.raw
    }

    /// Whether an output is answered as raw bytes.
    pub fn is_raw_output(&self, name: &str) -> bool {
        self.find(name).and_then(|output| output.raw).unwrap_or(self.raw)
    }

    /// How many classes were asked of an output; 0 = its numbers.
    pub fn classes(&self, name: &str) -> usize {
        self.find(name).map_or(0, |output| output.classes)
    }

    /// Whether any output is to be classified.
    pub fn wants_classes(&self) -> bool {
        self.outputs.iter().any(|output| output.classes > 0)
    }

    fn find(&self, name: &str) -> Option<&OutputForm> {
        self.outputs.iter().find(|output| *output.name == *name)
    }
}
