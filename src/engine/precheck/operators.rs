//! Which operators a graph uses: all must be known, and known under the domain they are asked for in, since the graph
//! library looks at the operator's name alone. Also lists those that make rows depend on each other.

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

use super::{super::LoadError, label, quoted, shown, subgraphs};

/// The operators of `ai.onnx.ml`; none of them exists in `ai.onnx`.
const ML: [&str; 19] = [
    "ArrayFeatureExtractor",
    "Binarizer",
    "CastMap",
    "CategoryMapper",
    "DictVectorizer",
    "FeatureVectorizer",
    "Imputer",
    "LabelEncoder",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "OneHotEncoder",
    "SVMClassifier",
    "SVMRegressor",
    "Scaler",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
    "ZipMap",
];

/// Those whose input is a map, which neither protocol has.
const OF_MAPS: [&str; 2] = ["CastMap", "DictVectorizer"];

/// The operators of `com.microsoft` that mean there what the graph library makes of them.
const MICROSOFT: [&str; 13] = [
    "BiasGelu",
    "FastGelu",
    "GatherBlockQuantized",
    "Gelu",
    "GroupQueryAttention",
    "MatMulNBits",
    "MultiHeadAttention",
    "QuickGelu",
    "RotaryEmbedding",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "Tokenizer",
];

/// Operators that draw random numbers.
const RANDOM: [&str; 6] =
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"];

/// Refuses operators that cannot be run, all in one text.
///
/// # Errors
/// `operator 'FancyOp' (domain 'ai.onnx') of node 'o' is not supported`, and the names of the others; an operator that takes
/// maps, whichever engine would know it.
pub(super) fn check(graph: &GraphProto, known: &dyn Fn(&NodeProto) -> bool) -> Result<(), LoadError> {
    let mut missing: Vec<&NodeProto> = Vec::new();
    let mut of_maps = None;
    visit(graph, &mut |node| {
        if domain(node) == "ai.onnx.ml" && OF_MAPS.contains(&node.op_type.as_str()) {
            of_maps = of_maps.or(Some(node));
        }
        if !known(node) && !missing.iter().any(|other| same_operator(other, node)) {
            missing.push(node);
        }
    });
    if let Some(node) = of_maps {
        let text = format!(
            "{}: takes a map, and requests carry tensors: export the model without it, with its keys as columns",
            label(node)
        );
        return Err(LoadError::new(text));
    }
    let Some((first, others)) = missing.split_first() else { return Ok(()) };
    let name = if first.name.is_empty() { first.output.first() } else { Some(&first.name) };
    let mut text = format!(
        "operator {} (domain {}) of node {} is not supported",
        quoted(&first.op_type),
        quoted(domain(first)),
        quoted(name.map_or("", String::as_str)),
    );
    if !others.is_empty() {
        let others: Vec<_> =
            others.iter().take(8).map(|node| format!("{}.{}", shown(domain(node)), shown(&node.op_type))).collect();
        text.push_str(&format!("; nor are {}", others.join(", ")));
    }
    Err(LoadError::new(text))
}

/// Nodes whose answers differ from run to run, or depend on the whole batch, as `node 'x' (Op)`.
pub(in super::super) fn order_dependent(graph: &GraphProto) -> Vec<String> {
    let mut found = Vec::new();
    visit(graph, &mut |node| {
        if is_order_dependent(node) {
            found.push(label(node));
        }
    });
    found
}

fn is_order_dependent(node: &NodeProto) -> bool {
    let op = node.op_type.as_str();
    let flag = |name: &str| node.attribute.iter().any(|attribute| attribute.name == name && attribute.i != 0);
    match op {
        // The scale is taken over the whole tensor.
        "DynamicQuantizeLinear" => true,
        "BatchNormalization" => flag("training_mode"),
        // Training is switched on by a third input; a model made for inference leaves it out.
        "Dropout" => node.input.get(2).is_some_and(|name| !name.is_empty()),
        _ => RANDOM.contains(&op),
    }
}

fn domain(node: &NodeProto) -> &str {
    if node.domain.is_empty() { "ai.onnx" } else { &node.domain }
}

fn same_operator(a: &NodeProto, b: &NodeProto) -> bool {
    domain(a) == domain(b) && a.op_type == b.op_type
}

/// Whether the graph library, which looks at names alone, would take a node for the operator that its domain says.
pub(in super::super) fn in_domain(node: &NodeProto) -> bool {
    let op = node.op_type.as_str();
    match domain(node) {
        "ai.onnx" => !ML.contains(&op) && op != "Tokenizer",
        "ai.onnx.ml" => ML.contains(&op),
        "com.microsoft" => MICROSOFT.contains(&op),
        _ => false,
    }
}

/// Calls `each` for every node, those inside attributes included.
fn visit<'a>(graph: &'a GraphProto, each: &mut impl FnMut(&'a NodeProto)) {
    for node in &graph.node {
        each(node);
        subgraphs(node).for_each(|inner| visit(inner, each));
    }
}

/// True for attributes with content that nothing here can run.
pub(super) fn is_sparse(attribute: &AttributeProto) -> bool {
    attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty()
}
