//! `make-models`: models of a known cost for the stress scenarios, written as a registry directory. Weights come from a
//! seed, so nothing large has to be kept anywhere. Used by `main`.

use std::fs;
use std::path::Path;

use prost::Message as _;

use crate::cli::MakeModelsArgs;
use crate::error::{Fault, Result};
use crate::onnx::{Attribute, Constant, FLOAT, Graph, INTS, Model, Node, OperatorSet, ValueInfo, batched};

/// IR version and operator set that every ONNX runtime of the last years reads.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// Channels of every convolution.
const CHANNELS: i64 = 64;
/// Height and width of the small network's input: 256 bytes a row, so that a client core can offer many times what a
/// server core computes.
const SMALL_SIDE: i64 = 8;
/// Height and width of the large network's input.
const LARGE_SIDE: i64 = 64;
/// Height and width of pictures that are only averaged: 3 kB, 48 kB and 602 kB a row, next to nothing to compute.
const PICTURES: [i64; 3] = [16, 64, 224];
/// What the small model of every scenario looks like: a classifier of 30 features.
const TINY: [i64; 4] = [30, 128, 64, 2];

/// A graph under construction: a chain of operators.
struct Chain {
    rng: fastrand::Rng,
    graph: Graph,
    /// Name of the value that the next operator reads.
    at: String,
}

/// Writes every model under `args.directory`; says what was written, a line each.
///
/// # Errors
/// A directory that cannot be written.
pub(crate) fn make(args: &MakeModelsArgs) -> Result<Vec<String>> {
    let mut models = vec![
        ("load-tiny".to_owned(), tiny(1, false)),
        ("load-tagged".to_owned(), tiny(2, true)),
        ("load-cnn".to_owned(), cnn(3, SMALL_SIDE, args.cnn_layers)),
        ("load-flood".to_owned(), cnn(4, SMALL_SIDE, args.cnn_layers)),
        ("load-slow".to_owned(), cnn(5, LARGE_SIDE, args.slow_layers)),
    ];
    models.extend(PICTURES.map(|side| (format!("load-picture-{side}"), picture(side))));
    models.extend(
        (1..=args.copies).map(|number| (format!("load-copy-{number:04}"), tiny(u64::from(number) + 100, false))),
    );
    models.iter().map(|(name, model)| write(&args.directory, name, model)).collect()
}

fn write(directory: &Path, name: &str, model: &Model) -> Result<String> {
    let version = directory.join(name).join("1");
    fs::create_dir_all(&version).map_err(|e| Fault::new(version.display(), e))?;
    // By rename: a server that watches the directory never reads half a file.
    let (draft, file) = (version.join(".model.onnx.draft"), version.join("model.onnx"));
    let bytes = model.encode_to_vec();
    fs::write(&draft, &bytes).map_err(|e| Fault::new(draft.display(), e))?;
    fs::rename(&draft, &file).map_err(|e| Fault::new(file.display(), e))?;
    Ok(format!("{}: {} bytes", file.display(), bytes.len()))
}

/// An MLP of 30-128-64-2; with `tagged`, a second input comes back as a second output.
fn tiny(seed: u64, tagged: bool) -> Model {
    let mut chain = Chain::new(seed, batched("x", &TINY[..1]));
    for sizes in TINY.windows(2) {
        chain.dense(sizes[0], sizes[1]);
        if sizes[1] != TINY[TINY.len() - 1] {
            chain.push("Relu", &[], Vec::new());
        }
    }
    let last = TINY[TINY.len() - 1];
    if !tagged {
        return chain.finish("y", &[last]);
    }
    chain.graph.input.push(batched("tag", &[1]));
    chain.graph.output.push(batched("tag_out", &[1]));
    let one = chain.constant(&[1, 1], 0.0);
    if let Some(constant) = chain.graph.initializer.last_mut() {
        constant.raw_data = 1.0_f32.to_le_bytes().to_vec();
    }
    let tag = Node {
        input: vec!["tag".to_owned(), one],
        output: vec!["tag_out".to_owned()],
        // Not the name of its input: some engines keep both in one table.
        name: "tag_times_one".to_owned(),
        op_type: "Mul".to_owned(),
        attribute: Vec::new(),
    };
    chain.graph.node.push(tag);
    chain.finish("y", &[last])
}

/// A chain of 3x3 convolutions on one picture of `side` x `side` per row; `layers` of them share their weights, so that
/// the cost grows and the file does not.
fn cnn(seed: u64, side: i64, layers: u32) -> Model {
    let mut chain = Chain::new(seed, batched("x", &[1, side, side]));
    let (first, shared) = (chain.kernel(1), chain.kernel(CHANNELS));
    chain.convolve(first);
    for _ in 0..layers {
        chain.convolve(shared.clone());
    }
    chain.push("GlobalAveragePool", &[], Vec::new());
    chain.push("Flatten", &[], Vec::new());
    chain.dense(CHANNELS, 10);
    chain.finish("y", &[10])
}

/// The mean of each of three channels: a model whose cost is that of getting the row there.
fn picture(side: i64) -> Model {
    let mut chain = Chain::new(0, batched("x", &[3, side, side]));
    chain.push("GlobalAveragePool", &[], Vec::new());
    chain.push("Flatten", &[], Vec::new());
    chain.finish("y", &[3])
}

impl Chain {
    fn new(seed: u64, input: ValueInfo) -> Self {
        let at = input.name.clone();
        let graph = Graph { name: "load".to_owned(), input: vec![input], ..Graph::default() };
        Self { rng: fastrand::Rng::with_seed(seed), graph, at }
    }

    /// An initializer of uniform values within `bound`; its name.
    fn constant(&mut self, dims: &[i64], bound: f32) -> String {
        let name = format!("w{}", self.graph.initializer.len());
        let count = dims.iter().product::<i64>();
        let values = (0..count).flat_map(|_| ((self.rng.f32() * 2.0 - 1.0) * bound).to_le_bytes());
        let raw_data = values.collect();
        self.graph.initializer.push(Constant { dims: dims.to_vec(), data_type: FLOAT, name: name.clone(), raw_data });
        name
    }

    /// Weights of a convolution of `channels` inputs; a variance of 2 over fan-in keeps values at one size behind ReLU.
    fn kernel(&mut self, channels: i64) -> String {
        self.constant(&[CHANNELS, channels, 3, 3], (6.0 / (channels * 9) as f32).sqrt())
    }

    fn convolve(&mut self, kernel: String) {
        let ints = |name: &str, ints: &[i64]| Attribute { name: name.to_owned(), ints: ints.to_vec(), kind: INTS };
        self.push("Conv", &[kernel], vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1, 1, 1, 1])]);
        self.push("Relu", &[], Vec::new());
    }

    fn dense(&mut self, from: i64, to: i64) {
        let weights = self.constant(&[from, to], (6.0 / from as f32).sqrt());
        let bias = self.constant(&[to], 0.1);
        self.push("MatMul", &[weights], Vec::new());
        self.push("Add", &[bias], Vec::new());
    }

    fn push(&mut self, operator: &str, constants: &[String], attribute: Vec<Attribute>) {
        let name = format!("n{}", self.graph.node.len());
        let input = std::iter::once(self.at.clone()).chain(constants.iter().cloned()).collect();
        let output = vec![name.clone()];
        self.graph.node.push(Node { input, output, name: name.clone(), op_type: operator.to_owned(), attribute });
        self.at = name;
    }

    /// The model whose last value is its first output.
    fn finish(mut self, output: &str, row: &[i64]) -> Model {
        for node in &mut self.graph.node {
            for name in node.output.iter_mut().filter(|name| **name == self.at) {
                *name = output.to_owned();
            }
        }
        self.graph.output.insert(0, batched(output, row));
        let opset = OperatorSet { domain: String::new(), version: OPSET };
        Model {
            ir_version: IR_VERSION,
            producer_name: "weir-loadtest".to_owned(),
            graph: Some(self.graph),
            opset_import: vec![opset],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Every value that is read was written before or is an input or a constant, and every output is written.
    fn check(model: &Model) {
        let graph = model.graph.as_ref().unwrap();
        let mut known: HashSet<&str> = graph.input.iter().map(|value| value.name.as_str()).collect();
        known.extend(graph.initializer.iter().map(|constant| constant.name.as_str()));
        for node in &graph.node {
            assert!(node.input.iter().all(|name| known.contains(name.as_str())), "{node:?}");
            assert!(node.output.iter().all(|name| known.insert(name)), "{node:?}");
        }
        assert!(graph.output.iter().all(|value| known.contains(value.name.as_str())));
        for constant in &graph.initializer {
            let count: i64 = constant.dims.iter().product();
            assert_eq!(constant.raw_data.len() as i64, count * 4, "{}", constant.name);
        }
    }

    #[test]
    fn graphs_are_whole() {
        for model in [tiny(1, false), tiny(1, true), cnn(1, SMALL_SIDE, 3), picture(16)] {
            check(&model);
            assert_eq!(Model::decode(&model.encode_to_vec()[..]).unwrap(), model);
        }
        assert_eq!(tiny(1, true).graph.unwrap().output.len(), 2);
    }

    #[test]
    fn seeds_make_the_weights() {
        assert_eq!(tiny(7, false), tiny(7, false));
        assert_ne!(tiny(7, false), tiny(8, false));
    }

    #[test]
    fn files_are_laid_out_as_a_registry() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let args = MakeModelsArgs { directory: path.clone(), copies: 2, cnn_layers: 1, slow_layers: 1 };
        assert_eq!(make(&args).unwrap().len(), 10);
        for name in
            ["load-tiny", "load-tagged", "load-cnn", "load-flood", "load-slow", "load-picture-224", "load-copy-0002"]
        {
            let bytes = fs::read(path.join(name).join("1/model.onnx")).unwrap();
            check(&Model::decode(&bytes[..]).unwrap());
        }
    }
}
