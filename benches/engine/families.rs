//! The kinds of models that are measured. All but the demo registry's CNN are built here, with random weights: what an answer
//! costs depends on the shapes. Used by the benchmark and by its other process, which must see the same.

use tract_onnx::pb::tensor_proto::DataType;

use crate::graph::{Graph, Rng, float, floats, int, ints, text, texts};

#[path = "../support/forests.rs"]
#[expect(dead_code, reason = "rows are made otherwise here")]
mod forests;

/// A model and what it takes.
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) model: Vec<u8>,
    pub(crate) inputs: Vec<Input>,
}

/// An input of a model.
pub(crate) struct Input {
    pub(crate) values: Values,
    /// Its shape without the rows.
    pub(crate) row: Vec<usize>,
}

#[derive(Clone, Copy)]
pub(crate) enum Values {
    Floats,
    /// From 0 to 1.
    Units,
    /// All ones.
    Ones,
    /// INT64, from 0 to below this.
    Ids(i64),
}

impl Input {
    /// The whole shape.
    pub(crate) fn shape(&self, rows: usize) -> Vec<usize> {
        std::iter::once(rows).chain(self.row.iter().copied()).collect()
    }

    /// Little-endian bytes, the same in every process.
    pub(crate) fn bytes(&self, rows: usize) -> Vec<u8> {
        let mut rng = Rng::new(7);
        let count = rows * self.row.iter().product::<usize>();
        match self.values {
            Values::Floats => (0..count).flat_map(|_| rng.normal().to_le_bytes()).collect(),
            Values::Units => (0..count).flat_map(|_| rng.unit().to_le_bytes()).collect(),
            Values::Ones => (0..count).flat_map(|_| 1_f32.to_le_bytes()).collect(),
            Values::Ids(end) => (0..count).flat_map(|_| ((rng.bits() >> 20) as i64 % end).to_le_bytes()).collect(),
        }
    }
}

/// All of them.
pub(crate) fn families() -> Vec<Family> {
    let floats = |row: &[usize]| vec![Input { values: Values::Floats, row: row.to_vec() }];
    let family = |name: &str, model: Vec<u8>, inputs: Vec<Input>| Family { name: name.to_owned(), model, inputs };
    let digits = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/models/digits-cnn/1/model.onnx"));
    let mut all = vec![family("tiny MLP", mlp(), floats(&[30]))];
    let ids = Input { values: Values::Ids(1000), row: vec![8] };
    all.push(family("DLRM-like", recommender(), floats(&[13]).into_iter().chain([ids]).collect()));
    for (trees, depth) in [(200, 6), (100, 8)] {
        for classifier in [true, false] {
            let kind = if classifier { "classifier" } else { "regressor" };
            let name = format!("trees {trees}x{depth} {kind}");
            all.push(family(&name, ensemble(trees, depth, classifier), floats(&[30])));
        }
    }
    for shape in &forests::SHAPES[2..] {
        let input = Input { values: Values::Units, row: vec![shape.features] };
        all.push(family(&format!("forest {}", shape.name), shape.model(), vec![input]));
    }
    all.extend(digits.ok().map(|model| family("CNN of digits", model, floats(&[64]))));
    all.push(family("small ResNet", resnet(), floats(&[3, 32, 32])));
    all.push(family("MobileNet-like", mobile(), floats(&[3, 96, 96])));
    let tokens = Input { values: Values::Ids(1000), row: vec![LENGTH] };
    let mask = Input { values: Values::Ones, row: vec![LENGTH] };
    all.push(family("MobileNetV3-small", mobile_v3(), floats(&[3, 224, 224])));
    all.push(family("transformer", transformer(), vec![tokens, mask]));
    all
}

fn mlp() -> Vec<u8> {
    let mut g = Graph::new(1);
    g.input("x", DataType::Float, &[30]);
    let mut x = "x".to_owned();
    for (from, to) in [(30, 64), (64, 32)] {
        x = g.dense(&x, from, to);
        x = g.relu(&x);
    }
    x = g.dense(&x, 32, 2);
    x = g.op("Softmax", &[&x], vec![int("axis", -1)]);
    g.output("p", &x, DataType::Float, &[2]);
    g.encode()
}

/// Eight categories with tables of their own, crossed with each other and with what a tower makes of the numbers.
fn recommender() -> Vec<u8> {
    let mut g = Graph::new(2);
    g.input("numbers", DataType::Float, &[13]);
    g.input("ids", DataType::Int64, &[8]);
    let dense = g.dense("numbers", 13, 64);
    let dense = g.relu(&dense);
    let dense = g.dense(&dense, 64, 32);
    let dense = g.relu(&dense);
    let table = g.weights(&[8000, 32], 32);
    let offsets: Vec<i64> = (0..8).map(|at| at * 1000).collect();
    let offsets = g.sizes(&[1, 8], &offsets);
    let ids = g.op("Add", &["ids", &offsets], Vec::new());
    let rows = g.op("Gather", &[&table, &ids], vec![int("axis", 0)]);
    let one = g.sizes(&[1], &[1]);
    let alone = g.op("Unsqueeze", &[&dense, &one], Vec::new());
    let parts = g.op("Concat", &[&alone, &rows], vec![int("axis", 1)]);
    let turned = g.op("Transpose", &[&parts], vec![ints("perm", vec![0, 2, 1])]);
    let crossed = g.op("MatMul", &[&parts, &turned], Vec::new());
    let flat = g.op("Flatten", &[&crossed], vec![int("axis", 1)]);
    let all = g.op("Concat", &[&dense, &flat], vec![int("axis", 1)]);
    let top = g.dense(&all, 113, 64);
    let top = g.relu(&top);
    let top = g.dense(&top, 64, 1);
    let top = g.op("Sigmoid", &[&top], Vec::new());
    g.output("p", &top, DataType::Float, &[1]);
    g.encode()
}

/// Complete trees over 30 features, as LightGBM and scikit-learn export them.
fn ensemble(trees: usize, depth: u32, classifier: bool) -> Vec<u8> {
    let mut g = Graph::new(3);
    g.input("x", DataType::Float, &[30]);
    let inner = (1_usize << depth) - 1;
    let mut of: [Vec<i64>; 5] = Default::default();
    let (mut values, mut modes) = (Vec::new(), Vec::new());
    let (mut leaves, mut weights): ([Vec<i64>; 2], Vec<f32>) = Default::default();
    for tree in 0..trees as i64 {
        for node in 0..2 * inner + 1 {
            let leaf = node >= inner;
            let branch = |child: usize| if leaf { 0 } else { child as i64 };
            let feature = if leaf { 0 } else { (g.rng().bits() >> 20) as i64 % 30 };
            for (list, value) in
                of.iter_mut().zip([tree, node as i64, feature, branch(2 * node + 1), branch(2 * node + 2)])
            {
                list.push(value);
            }
            values.push(if leaf { 0.0 } else { g.rng().normal() });
            modes.push(if leaf { b"LEAF".to_vec() } else { b"BRANCH_LEQ".to_vec() });
            if leaf {
                leaves[0].push(tree);
                leaves[1].push(node as i64);
                weights.push(g.rng().normal() * 0.1);
            }
        }
    }
    let [tree_ids, node_ids, features, yes, no] = of;
    let [leaf_trees, leaf_nodes] = leaves;
    let prefix = if classifier { "class" } else { "target" };
    let mut attributes = vec![
        ints("nodes_treeids", tree_ids),
        ints("nodes_nodeids", node_ids),
        ints("nodes_featureids", features),
        floats("nodes_values", values),
        texts("nodes_modes", modes),
        ints("nodes_truenodeids", yes),
        ints("nodes_falsenodeids", no),
        ints(&format!("{prefix}_ids"), vec![0; weights.len()]),
        ints(&format!("{prefix}_treeids"), leaf_trees),
        ints(&format!("{prefix}_nodeids"), leaf_nodes),
        floats(&format!("{prefix}_weights"), weights),
    ];
    if classifier {
        attributes.push(ints("classlabels_int64s", vec![0, 1]));
        attributes.push(text("post_transform", "LOGISTIC"));
        g.node(("ai.onnx.ml", "TreeEnsembleClassifier"), &["x"], &["l", "s"], attributes);
        g.output("label", "l", DataType::Int64, &[]);
        g.output("p", "s", DataType::Float, &[2]);
    } else {
        attributes.push(int("n_targets", 1));
        g.node(("ai.onnx.ml", "TreeEnsembleRegressor"), &["x"], &["s"], attributes);
        g.output("y", "s", DataType::Float, &[1]);
    }
    g.encode()
}

/// Six blocks of two convolutions, on images of 32 by 32.
fn resnet() -> Vec<u8> {
    let mut g = Graph::new(4);
    g.input("x", DataType::Float, &[3, 32, 32]);
    let x = g.conv("x", (3, 16, 3), 1, 1);
    let mut x = g.relu(&x);
    let mut from = 16;
    for (to, stride) in [(16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)] {
        let body = g.conv(&x, (from, to, 3), stride, 1);
        let body = g.relu(&body);
        let body = g.conv(&body, (to, to, 3), 1, 1);
        let short = if stride == 1 { x } else { g.conv(&x, (from, to, 1), stride, 1) };
        x = g.op("Add", &[&body, &short], Vec::new());
        x = g.relu(&x);
        from = to;
    }
    head(g, &x, from)
}

/// The shape of MobileNetV3-small without squeeze-and-excite, on images of 96 by 96.
fn mobile() -> Vec<u8> {
    let mut g = Graph::new(5);
    g.input("x", DataType::Float, &[3, 96, 96]);
    let x = g.conv("x", (3, 16, 3), 2, 1);
    let mut x = g.op("HardSwish", &[&x], Vec::new());
    let mut from = 16;
    let blocks = [
        (16, 16, 3, 2),
        (72, 24, 3, 2),
        (88, 24, 3, 1),
        (96, 40, 5, 2),
        (240, 40, 5, 1),
        (120, 48, 5, 1),
        (288, 96, 5, 2),
        (576, 96, 5, 1),
    ];
    for (at, (wide, to, kernel, stride)) in blocks.into_iter().enumerate() {
        let act = if at < 3 { "Relu" } else { "HardSwish" };
        let up = g.conv(&x, (from, wide, 1), 1, 1);
        let up = g.op(act, &[&up], Vec::new());
        let deep = g.conv(&up, (wide, wide, kernel), stride, wide);
        let deep = g.op(act, &[&deep], Vec::new());
        let down = g.conv(&deep, (wide, to, 1), 1, 1);
        x = if stride == 1 && from == to { g.op("Add", &[&down, &x], Vec::new()) } else { down };
        from = to;
    }
    let x = g.conv(&x, (from, 576, 1), 1, 1);
    let x = g.op("HardSwish", &[&x], Vec::new());
    head(g, &x, 576)
}

/// MobileNetV3-small as torchvision has it, on images of 224 by 224.
fn mobile_v3() -> Vec<u8> {
    let mut g = Graph::new(7);
    g.input("x", DataType::Float, &[3, 224, 224]);
    let x = g.conv("x", (3, 16, 3), 2, 1);
    let mut x = g.op("HardSwish", &[&x], Vec::new());
    let mut from = 16;
    // Taps, channels inside, channels given, channels squeezed to or 0, stride.
    let blocks = [
        (3, 16, 16, 8, 2),
        (3, 72, 24, 0, 2),
        (3, 88, 24, 0, 1),
        (5, 96, 40, 24, 2),
        (5, 240, 40, 64, 1),
        (5, 240, 40, 64, 1),
        (5, 120, 48, 32, 1),
        (5, 144, 48, 40, 1),
        (5, 288, 96, 72, 2),
        (5, 576, 96, 144, 1),
        (5, 576, 96, 144, 1),
    ];
    for (at, (kernel, wide, to, squeezed, stride)) in blocks.into_iter().enumerate() {
        let act = if at < 3 { "Relu" } else { "HardSwish" };
        let mut y = x.clone();
        if wide != from {
            y = g.conv(&y, (from, wide, 1), 1, 1);
            y = g.op(act, &[&y], Vec::new());
        }
        y = g.conv(&y, (wide, wide, kernel), stride, wide);
        y = g.op(act, &[&y], Vec::new());
        if squeezed > 0 {
            let mean = g.op("GlobalAveragePool", &[&y], Vec::new());
            let few = g.conv(&mean, (wide, squeezed, 1), 1, 1);
            let few = g.relu(&few);
            let all = g.conv(&few, (squeezed, wide, 1), 1, 1);
            let scale = g.op("HardSigmoid", &[&all], vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)]);
            y = g.op("Mul", &[&scale, &y], Vec::new());
        }
        let down = g.conv(&y, (wide, to, 1), 1, 1);
        x = if stride == 1 && from == to { g.op("Add", &[&down, &x], Vec::new()) } else { down };
        from = to;
    }
    let x = g.conv(&x, (from, 576, 1), 1, 1);
    let x = g.op("HardSwish", &[&x], Vec::new());
    let mean = g.op("GlobalAveragePool", &[&x], Vec::new());
    let flat = g.op("Flatten", &[&mean], vec![int("axis", 1)]);
    let wide = g.dense(&flat, 576, 1024);
    let wide = g.op("HardSwish", &[&wide], Vec::new());
    let logits = g.dense(&wide, 1024, 1000);
    g.output("logits", &logits, DataType::Float, &[1000]);
    g.encode()
}

/// The mean over the image, and a class.
fn head(mut g: Graph, x: &str, channels: usize) -> Vec<u8> {
    let mean = g.op("GlobalAveragePool", &[x], Vec::new());
    let flat = g.op("Flatten", &[&mean], vec![int("axis", 1)]);
    let logits = g.dense(&flat, channels, 10);
    g.output("logits", &logits, DataType::Float, &[10]);
    g.encode()
}

const LENGTH: usize = 32;
const HIDDEN: usize = 128;
const HEADS: usize = 4;

/// Two layers of attention over 32 tokens, with a mask.
fn transformer() -> Vec<u8> {
    let mut g = Graph::new(6);
    g.input("tokens", DataType::Int64, &[LENGTH]);
    g.input("mask", DataType::Float, &[LENGTH]);
    let (table, places) = (g.weights(&[1000, HIDDEN], 2), g.weights(&[1, LENGTH, HIDDEN], 2));
    let x = g.op("Gather", &[&table, "tokens"], vec![int("axis", 0)]);
    let mut x = g.op("Add", &[&x, &places], Vec::new());
    let (one, far) = (g.constant(&[1], &[1.0]), g.constant(&[1], &[-10_000.0]));
    let hidden = g.op("Sub", &[&one, "mask"], Vec::new());
    let hidden = g.op("Mul", &[&hidden, &far], Vec::new());
    let axes = g.sizes(&[2], &[1, 2]);
    let mask = g.op("Unsqueeze", &[&hidden, &axes], Vec::new());
    for _ in 0..2 {
        let attended = attention(&mut g, &x, &mask);
        x = normalized_sum(&mut g, &x, &attended);
        let wide = g.projection(&x, HIDDEN, 4 * HIDDEN);
        let wide = gelu(&mut g, &wide);
        let narrow = g.projection(&wide, 4 * HIDDEN, HIDDEN);
        x = normalized_sum(&mut g, &x, &narrow);
    }
    let mean = g.op("ReduceMean", &[&x], vec![ints("axes", vec![1]), int("keepdims", 0)]);
    let logits = g.dense(&mean, HIDDEN, 10);
    g.output("logits", &logits, DataType::Float, &[10]);
    g.encode()
}

fn attention(g: &mut Graph, x: &str, mask: &str) -> String {
    let width = HIDDEN / HEADS;
    let split = g.sizes(&[4], &[0, LENGTH as i64, HEADS as i64, width as i64]);
    let [q, k, v] = [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]].map(|perm| {
        let part = g.projection(x, HIDDEN, HIDDEN);
        let part = g.op("Reshape", &[&part, &split], Vec::new());
        g.op("Transpose", &[&part], vec![ints("perm", perm.to_vec())])
    });
    let scores = g.op("MatMul", &[&q, &k], Vec::new());
    let root = g.constant(&[1], &[(width as f32).sqrt()]);
    let scores = g.op("Div", &[&scores, &root], Vec::new());
    let scores = g.op("Add", &[&scores, mask], Vec::new());
    let weights = g.op("Softmax", &[&scores], vec![int("axis", -1)]);
    let mixed = g.op("MatMul", &[&weights, &v], Vec::new());
    let mixed = g.op("Transpose", &[&mixed], vec![ints("perm", vec![0, 2, 1, 3])]);
    let join = g.sizes(&[3], &[0, LENGTH as i64, HIDDEN as i64]);
    let mixed = g.op("Reshape", &[&mixed, &join], Vec::new());
    g.projection(&mixed, HIDDEN, HIDDEN)
}

fn normalized_sum(g: &mut Graph, x: &str, y: &str) -> String {
    let sum = g.op("Add", &[x, y], Vec::new());
    let (scale, bias) = (g.constant(&[HIDDEN], &[1.0; HIDDEN]), g.constant(&[HIDDEN], &[0.0; HIDDEN]));
    g.op("LayerNormalization", &[&sum, &scale, &bias], vec![int("axis", -1), float("epsilon", 1e-5)])
}

/// As exporters write it before opset 20.
fn gelu(g: &mut Graph, x: &str) -> String {
    let [root, one, half] = [2_f32.sqrt(), 1.0, 0.5].map(|value| g.constant(&[1], &[value]));
    let scaled = g.op("Div", &[x, &root], Vec::new());
    let erf = g.op("Erf", &[&scaled], Vec::new());
    let raised = g.op("Add", &[&erf, &one], Vec::new());
    let product = g.op("Mul", &[x, &raised], Vec::new());
    g.op("Mul", &[&product, &half], Vec::new())
}
