//! What the two ends of a load probe say to each other. To the child: a line of JSON, then the bytes of the files, one after the
//! other. From the child: a line of JSON. Written by the runner, read by the child, and the other way round.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Read, Write},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    engine::{Artifact, ArtifactKind},
    types::{Signature, TensorSpec},
};

/// The longest line that either end takes.
pub(super) const MAX_LINE: u64 = 1 << 20;

/// What is to be tried, and what it may use.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Question {
    /// The engine's name.
    pub(super) engine: String,
    /// The ONNX Runtime library that the server has opened.
    pub(super) onnxruntime_lib: Option<std::path::PathBuf>,
    /// The process that asks: without it the answer is of no use.
    pub(super) parent: i32,
    pub(super) allowance: Allowance,
    /// Bytes that the outputs of a run may have.
    pub(super) max_output_bytes: usize,
    /// Bytes of the model file.
    pub(super) model: usize,
    /// Names and sizes of the files beside it.
    pub(super) side_files: Vec<(String, usize)>,
}

/// What a probe may use.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Allowance {
    /// Address space in bytes.
    pub(super) memory_bytes: u64,
    /// Seconds of CPU time.
    pub(super) cpu_seconds: u64,
    /// Seconds from beginning to end.
    pub(super) wall_seconds: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// Loaded and compiled.
    pub good: bool,
    /// The engine's name.
    pub engine: String,
    /// What the engine says of the artifact, when it is not good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Inputs as the model takes them.
    #[serde(default)]
    pub inputs: Vec<Tensor>,
    /// Outputs as it gives them.
    #[serde(default)]
    pub outputs: Vec<Tensor>,
    /// Bytes of the model file and the files beside it.
    #[serde(default)]
    pub bytes: u64,
    /// Microseconds for reading and checking the graph,
    #[serde(default)]
    pub load_us: u64,
    /// for compiling it for one row,
    #[serde(default)]
    pub compile_us: u64,
    /// and for the first run on zeros, unless that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_us: Option<u64>,
    /// Why the run failed, which may be the fault of the zeros.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_error: Option<String>,
    /// The most memory that the process had at a time.
    #[serde(default)]
    pub peak_bytes: u64,
}

/// An input or output.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its datatype, as the protocol spells it.
    pub datatype: String,
    /// Its sizes; -1 for one that is free.
    pub shape: Vec<i64>,
}

impl Report {
    /// A model that cannot be loaded, and why.
    pub fn refused(engine: &str, error: impl ToString) -> Self {
        Self { engine: engine.to_owned(), error: Some(error.to_string()), ..Self::default() }
    }

    pub(super) fn with_signature(self, signature: &Signature) -> Self {
        let tensors = |specs: &[TensorSpec]| specs.iter().map(Tensor::of).collect();
        Self { inputs: tensors(&signature.inputs), outputs: tensors(&signature.outputs), ..self }
    }
}

impl Tensor {
    fn of(spec: &TensorSpec) -> Self {
        let size = |size: &Option<usize>| size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1);
        let shape = spec.shape.iter().map(size).collect();
        Self { name: spec.name.to_string(), datatype: spec.dtype.to_string(), shape }
    }
}

/// Sends a question and the files that belong to it.
///
/// # Errors
/// When the other end has gone.
pub(super) fn ask(mut to: impl Write, question: &Question, artifact: &Artifact) -> io::Result<()> {
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.write_all(&artifact.bytes)?;
    for (name, _) in &question.side_files {
        to.write_all(artifact.side_files.get(name).map_or(&[], |bytes| bytes))?;
    }
    to.flush()
}

/// The question alone: limits are set before anything of any size is read.
///
/// # Errors
/// When the line does not end, or is no question.
pub(super) fn read_question(from: &mut impl BufRead) -> io::Result<Question> {
    let mut line = Vec::new();
    from.take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

/// The files that follow a question.
///
/// # Errors
/// When they end early: the process that asked is gone.
pub(super) fn read_artifact(from: &mut impl Read, question: &Question) -> io::Result<Artifact> {
    let mut file = |size: usize| -> io::Result<Bytes> {
        let mut bytes = vec![0; size];
        from.read_exact(&mut bytes)?;
        Ok(bytes.into())
    };
    let bytes = file(question.model)?;
    let side_files = question.side_files.iter().map(|(name, size)| Ok((name.clone(), file(*size)?)));
    Ok(Artifact { kind: ArtifactKind::Onnx, bytes, side_files: side_files.collect::<io::Result<BTreeMap<_, _>>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_arrives() {
        let files = [("b.bin".to_owned(), Bytes::from_static(b"second")), ("a.bin".to_owned(), Bytes::new())];
        let artifact = Artifact {
            kind: ArtifactKind::Onnx,
            bytes: Bytes::from_static(b"model\nwith lines"),
            side_files: files.into_iter().collect(),
        };
        let question = Question {
            engine: "tract".to_owned(),
            onnxruntime_lib: None,
            parent: 7,
            allowance: Allowance { memory_bytes: 1, cpu_seconds: 2, wall_seconds: 3 },
            max_output_bytes: 4,
            model: artifact.bytes.len(),
            side_files: artifact.side_files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect(),
        };
        let mut sent = Vec::new();
        ask(&mut sent, &question, &artifact).unwrap();
        let mut from = &sent[..];
        assert_eq!(read_question(&mut from).unwrap(), question);
        let got = read_artifact(&mut from, &question).unwrap();
        assert_eq!((got.bytes, got.side_files), (artifact.bytes, artifact.side_files));
        assert!(from.is_empty());
        let mut short = &sent[..sent.len() - 1];
        read_question(&mut short).unwrap();
        assert!(read_artifact(&mut short, &question).is_err());
        assert!(read_question(&mut &b"{}\n"[..]).is_err());
    }
}
