#!/usr/bin/env python3
"""Writes one tiny model per spelling of the operators that the engine implements or repairs itself, with ONNX Runtime's
answers beside it.

Why: the standard leaves much of `ai.onnx.ml` open, so ONNX Runtime's answers are the measure. The models that a gateway
serves are in ../fixtures; these are only for the engine. Who calls it: a person who adds an operator; the tests use the
committed files only.

Usage: python tests/operators/make_operators.py   (packages: ../fixtures/requirements.txt)
"""

import json
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fixtures"))

from make_fixtures import model, save, tensor_json  # noqa: E402

NUMPY = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32}


def f32(rng, *shape):
    return rng.uniform(-1, 1, shape).astype(np.float32)


def ml(name, inputs, outputs, op, attributes, feeds, version=3):
    """One ai.onnx.ml node over all inputs."""
    made = model(name, inputs, outputs, [(op, list(inputs), list(outputs), {**attributes, "domain": "ai.onnx.ml"})])
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", version))
    save(HERE, name, made, feeds)


def rows(rng, kind, *shape):
    """Rows with many values that meet thresholds exactly."""
    values = rng.uniform(-2, 2, shape)
    values = np.where(rng.random(shape) < 0.4, np.round(values * 2) / 2, values)
    return values.astype(NUMPY[kind])


# ---- trees -------------------------------------------------------------------------------------------------------

MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def grow(rnd, depth, features, modes, missing):
    nodes = []

    def build(left):
        at = len(nodes)
        nodes.append(None)
        if left == 0 or rnd.random() < 0.15:
            nodes[at] = ("LEAF", 0, 0.0, 0, 0, 0)
        else:
            yes, no = build(left - 1), build(left - 1)
            value = rnd.choice([-1, -0.5, 0, 0.5, 1]) if rnd.random() < 0.6 else rnd.uniform(-2, 2)
            nodes[at] = (rnd.choice(modes), rnd.randrange(features), value, yes, no, rnd.choice(missing))
        return at

    build(depth)
    return nodes


def ensemble(rnd, features):
    """The attributes nodes_…, and the (tree, node) ids of the leaves."""
    modes = rnd.choice([["BRANCH_LEQ"], MODES, [rnd.choice(MODES)]])
    missing = rnd.choice([[0], [0, 1], [1]])
    depth = rnd.choice([0, 1, 2, 3])
    trees = [grow(rnd, depth, features, modes, missing) for _ in range(rnd.choice([1, 2, 5]))]
    flat = [(t, n, *node) for t, tree in enumerate(trees) for n, node in enumerate(tree)]
    names = ["treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids"]
    attributes = {f"nodes_{name}": [row[i] for row in flat] for i, name in enumerate(names)}
    if missing != [0]:
        attributes["nodes_missing_value_tracks_true"] = [row[7] for row in flat]
    return attributes, [(row[0], row[1]) for row in flat if row[2] == "LEAF"]


def weights(rnd, leaves, count, prefix):
    """Weights for `count` classes or targets; returns whether all go to one of them, and the attributes."""
    positive, sided, side = rnd.random() < 0.5, rnd.random() < 0.4, rnd.randrange(count)
    given = []
    for tree, node in leaves:
        for target in [side] if sided else rnd.sample(range(count), rnd.choice([count, rnd.randint(1, count)])):
            value = rnd.uniform(0, 0.3) if positive else rnd.uniform(-1, 1)
            given.append((tree, node, target, value))
    names = ["treeids", "nodeids", "ids", "weights"]
    return {f"{prefix}_{name}": [row[i] for row in given] for i, name in enumerate(names)}


def trees():
    made = 0
    seed = 0
    while made < 48:
        seed += 1
        rnd, rng = random.Random(seed), np.random.default_rng(seed)
        classify = made % 3 != 2
        post = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"][made % 5]
        features = rnd.choice([1, 3])
        attributes, leaves = ensemble(rnd, features)
        attributes["post_transform"] = post
        count = rnd.choice([1, 2, 2, 2, 3] if classify else [1, 2, 3])
        if classify and count == 2 and post == "PROBIT":
            continue  # ONNX Runtime leaves the second score as it finds it
        attributes |= weights(rnd, leaves, count, "class" if classify else "target")
        bases = rnd.choice([0, count, 1 if count == 2 and classify else 0])
        if bases:
            attributes["base_values"] = [rnd.uniform(-1, 1) for _ in range(bases)]
        kind = rnd.choice(["FP32", "FP32", "FP64", "INT64", "INT32"] if classify else ["FP32", "FP32", "FP64"])
        if classify:
            strings = count > 1 and rnd.random() < 0.3
            labels = {"classlabels_strings": [f"class {k}" for k in range(count)]}
            attributes |= labels if strings else {"classlabels_int64s": [k * 3 + 5 for k in range(count)]}
            outputs = {"label": ("BYTES" if strings else "INT64", ["N"]), "scores": ("FP32", ["N", count])}
            op = "TreeEnsembleClassifier"
        else:
            attributes["n_targets"] = count
            attributes["aggregate_function"] = ["SUM", "AVERAGE", "MIN", "MAX"][made // 3 % 4]
            outputs, op = {"y": ("FP32", ["N", count])}, "TreeEnsembleRegressor"
        many = rows(rng, kind, 9, features)
        if kind.startswith("FP"):
            many[rng.random(many.shape) < 0.2] = np.nan
        feeds = [{"x": rows(rng, kind, 1, features)}, {"x": many}]
        ml(f"tree-{made:02}", {"x": (kind, ["N", features])}, outputs, op, attributes, feeds)
        made += 1


# ---- trees of the newer spelling ---------------------------------------------------------------------------------

MEMBER = len(MODES)
SPLITS = [-1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 0.1, 1 / 3]


def newer(rnd, kind, features, targets, depth):
    """The attributes of a TreeEnsemble but those that finish, with branches of every mode."""
    nodes, modes, splits, members, leaves = [], [], [], [], []

    def leaf():
        leaves.append((rnd.randrange(targets), rnd.uniform(-1, 1)))
        return len(leaves) - 1, 1

    def build(left):
        if left == 0 or (left < depth and rnd.random() < 0.2):
            return leaf()
        at = len(nodes)
        mode = rnd.choice([*range(MEMBER), MEMBER, MEMBER])
        modes.append(mode)
        splits.append(rnd.choice(SPLITS) if mode != MEMBER else 0)
        if mode == MEMBER:
            # Of others ONNX Runtime looks at the integer part of a row's value.
            members.extend([*rnd.sample([0, 1, 2, 3, 30], rnd.choice([1, 2, 5])), float("nan")])
        nodes.append(None)
        (yes, yes_leaf), (no, no_leaf) = build(left - 1), build(left - 1)
        nodes[at] = (rnd.randrange(features), rnd.randrange(2), yes, yes_leaf, no, no_leaf)
        return at, 0

    roots = [build(depth)[0] for _ in range(rnd.choice([1, 3]))]
    names = ["featureids", "missing_value_tracks_true", "truenodeids", "trueleafs", "falsenodeids", "falseleafs"]
    attributes = {f"nodes_{name}": [node[i] for node in nodes] for i, name in enumerate(names)}
    tensors = {"nodes_splits": splits, "leaf_weights": [weight for _, weight in leaves]}
    if members:
        tensors["membership_values"] = members
    attributes |= {name: numpy_helper.from_array(np.array(values, NUMPY[kind])) for name, values in tensors.items()}
    attributes["nodes_modes"] = numpy_helper.from_array(np.array(modes, np.uint8))
    return attributes | {"leaf_targetids": [target for target, _ in leaves], "tree_roots": roots}


def tree_ensembles():
    """TreeEnsemble: both precisions, every aggregate and mode, sets, missing values. Where there are several targets ONNX
    Runtime reads the numbers of SOFTMAX and LOGISTIC the other way round, so these are left out, and it computes those of
    doubles in single precision."""
    for number in range(16):
        rnd, rng = random.Random(700 + number), np.random.default_rng(700 + number)
        kind, features, targets = ["FP32", "FP64"][number % 2], rnd.choice([1, 3]), rnd.choice([1, 2, 3])
        attributes = newer(rnd, kind, features, targets, 1 + number % 4)
        attributes |= {"aggregate_function": number // 2 % 4, "post_transform": [0, 0, 3, 0][number % 4], "n_targets": targets}
        many = rng.choice(SPLITS, (12, features)).astype(NUMPY[kind])
        many[rng.random(many.shape) < 0.2] = np.nan
        ml(f"tree-ensemble-{number:02}", {"x": (kind, ["N", features])}, {"y": (kind, ["N", targets])}, "TreeEnsemble",
           attributes, [{"x": rows(rng, kind, 1, features)}, {"x": many}], version=5)  # fmt: skip


def tree_tensors():
    """The older operators with their numbers in tensors of doubles, which single precision would tell apart otherwise."""
    for number in range(6):
        rnd, rng = random.Random(900 + number), np.random.default_rng(900 + number)
        classify, count = number % 2 == 0, [3, 2, 2, 3, 3, 1][number]
        attributes, leaves = ensemble(rnd, 3)
        attributes |= weights(rnd, leaves, count, "class" if classify else "target")
        attributes["nodes_values"] = [rnd.choice([0.1, 1 / 3, 0.5]) for _ in attributes["nodes_values"]]
        if number > 2:
            attributes["base_values"] = [rnd.uniform(-1, 1) for _ in range(count)]
        for name in ("nodes_values", "base_values", "class_weights", "target_weights"):
            if name in attributes:
                attributes[f"{name}_as_tensor"] = numpy_helper.from_array(np.array(attributes.pop(name), np.float64))
        x = {"x": ("FP64", ["N", 3])}
        # The nearest numbers of single precision are on the other side of the thresholds.
        near = rng.choice([0.1, 1 / 3, 0.5, float(np.float32(0.1)), float(np.float32(1 / 3))], (12, 3))
        feeds = [{"x": rows(rng, "FP64", 1, 3)}, {"x": near}]
        if classify:
            labels = {"classlabels_strings": [f"class {k}" for k in range(count)]}
            attributes |= labels if number == 0 else {"classlabels_int64s": [k * 3 + 5 for k in range(count)]}
            outputs = {"label": ("BYTES" if number == 0 else "INT64", ["N"]), "scores": ("FP32", ["N", count])}
            ml(f"tree-tensors-{number}", x, outputs, "TreeEnsembleClassifier", attributes, feeds)
        else:
            attributes["n_targets"] = count
            ml(f"tree-tensors-{number}", x, {"y": ("FP32", ["N", count])}, "TreeEnsembleRegressor", attributes, feeds)


# ---- linear models and what surrounds them -----------------------------------------------------------------------


def linear(rng):
    for number, (kind, labels, products, post) in enumerate(
        [
            ("FP32", {"classlabels_ints": [3, 8]}, 1, "NONE"),
            ("FP32", {"classlabels_ints": [3, 8]}, 1, "LOGISTIC"),
            ("FP32", {"classlabels_strings": ["no", "yes"]}, 1, "SOFTMAX"),
            ("FP64", {"classlabels_ints": [3, 8]}, 2, "LOGISTIC"),
            ("INT64", {"classlabels_ints": [0, 1, 2]}, 3, "SOFTMAX"),
            ("INT32", {"classlabels_strings": ["a", "b", "c"]}, 3, "NONE"),
            ("FP32", {"classlabels_ints": [0, 1, 2]}, 3, "SOFTMAX_ZERO"),
        ]
    ):
        (texts, names) = next(iter(labels.items()))
        columns = 2 if len(names) == 2 else products
        kinds = "BYTES" if texts.endswith("strings") else "INT64"
        attributes = {**labels, "coefficients": f32(rng, products * 4).tolist(), "post_transform": post}
        attributes["intercepts"] = f32(rng, products).tolist()
        outputs = {"label": (kinds, ["N"]), "scores": ("FP32", ["N", columns])}
        feeds = [{"x": rows(rng, kind, n, 4)} for n in (1, 9)]
        ml(f"linear-classifier-{number}", {"x": (kind, ["N", 4])}, outputs, "LinearClassifier", attributes, feeds)

    for number, (targets, post, intercepts) in enumerate([(1, "NONE", 1), (1, "NONE", 0), (3, "NONE", 3), (3, "SOFTMAX", 3)]):
        attributes = {"coefficients": f32(rng, targets * 4).tolist(), "targets": targets, "post_transform": post}
        if intercepts:
            attributes["intercepts"] = f32(rng, intercepts).tolist()
        feeds = [{"x": rows(rng, "FP32", n, 4)} for n in (1, 9)]
        ml(f"linear-regressor-{number}", {"x": ("FP32", ["N", 4])}, {"y": ("FP32", ["N", targets])},
           "LinearRegressor", attributes, feeds)  # fmt: skip


def around(rng):
    for number, (kind, count) in enumerate([("FP32", 3), ("FP32", 1), ("FP64", 3), ("INT64", 3), ("INT32", 1)]):
        attributes = {"offset": f32(rng, count).tolist(), "scale": (f32(rng, count) * 3).tolist()}
        feeds = [{"x": rows(rng, kind, n, 3)} for n in (1, 5)]
        ml(f"scaler-{number}", {"x": (kind, ["N", 3])}, {"y": ("FP32", ["N", 3])}, "Scaler", attributes, feeds)
    for norm in ("MAX", "L1", "L2"):
        for kind in ("FP32", "INT64"):
            some = rows(rng, kind, 6, 3)
            some[1], some[2] = 0, -np.abs(some[2])
            name = f"normalizer-{norm.lower()}-{kind.lower()}"
            ml(name, {"x": (kind, ["N", 3])}, {"y": ("FP32", ["N", 3])}, "Normalizer", {"norm": norm},
               [{"x": some[:1]}, {"x": some}])  # fmt: skip


def look_ups(rng):
    """LabelEncoder in every pair of types, OneHotEncoder and what fills gaps."""
    keys = {"int64s": [7, -1, 0], "floats": [0.5, float("nan"), -0.0], "strings": ["a", "", "żółw"]}
    values = {"int64s": [10, 20, 30], "floats": [1.5, -2.5, 0.25], "strings": ["x", "y", "z"]}
    asked = {
        "int64s": ("INT64", np.array([[7, 0, 5], [-1, -1, 2]])),
        "floats": ("FP32", np.float32([[0.5, 0.0, 5], [np.nan, -0.0, 2]])),
        "strings": ("BYTES", np.array([["a", "b", ""], ["żółw", "a", "A"]], object)),
    }
    kinds = {"int64s": "INT64", "floats": "FP32", "strings": "BYTES"}
    for old in keys:
        for new in values:
            if old == new == "floats" or old == new == "int64s":
                continue  # not implemented by ONNX Runtime
            kind, x = asked[old]
            attributes = {f"keys_{old}": keys[old], f"values_{new}": values[new]}
            if old == "int64s":
                attributes |= {"default_string": "none", "default_float": 9.5, "default_int64": 99}
            ml(f"label-encoder-{old}-{new}", {"x": (kind, ["N", 3])}, {"y": (kinds[new], ["N", 3])}, "LabelEncoder",
               attributes, [{"x": x[:1]}, {"x": x}])  # fmt: skip
    # Since version 4 keys and values are tensors, and NaN is a key like any other.
    tensors = {
        "keys_tensor": numpy_helper.from_array(np.float32([0.5, np.nan])),
        "values_tensor": numpy_helper.from_array(np.array([10, 20])),
        "default_tensor": numpy_helper.from_array(np.array([-7])),
    }
    kind, x = asked["floats"]
    ml("label-encoder-tensors", {"x": (kind, ["N", 3])}, {"y": ("INT64", ["N", 3])}, "LabelEncoder", tensors,
       [{"x": x[:1]}, {"x": x}], version=4)  # fmt: skip
    for name, categories, (kind, x) in (
        ("ints", {"cats_int64s": [7, 0, -1]}, asked["int64s"]),
        ("strings", {"cats_strings": ["a", "", "b"]}, asked["strings"]),
    ):
        ml(f"one-hot-{name}", {"x": (kind, ["N", 3])}, {"y": ("FP32", ["N", 3, 3])}, "OneHotEncoder",
           {**categories, "zeros": 1}, [{"x": x[:1]}, {"x": x}])  # fmt: skip
    holes = f32(rng, 4, 3)
    holes[0, 1] = holes[2, 2] = holes[3, 1] = np.nan
    holes[1, 1] = 5
    x = {"x": ("FP32", ["N", 3])}
    y = {"y": ("FP32", ["N", 3])}
    for number, (by, replaced) in enumerate([([1.0, 2.0, 3.0], float("nan")), ([9.0], float("nan")), ([1.0, 2.0, 3.0], 5.0)]):
        attributes = {"imputed_value_floats": by, "replaced_value_float": replaced}
        ml(f"imputer-{number}", x, y, "Imputer", attributes, [{"x": holes[:1]}, {"x": holes}])
    ml("imputer-ints", {"x": ("INT64", ["N", 3])}, {"y": ("INT64", ["N", 3])}, "Imputer",
       {"imputed_value_int64s": [1, 2, 3], "replaced_value_int64": -1}, [{"x": np.array([[-1, 0, -1], [5, -1, 6]])}])  # fmt: skip
    ml("binarizer", x, y, "Binarizer", {"threshold": 0.25}, [{"x": np.float32([[0.25, 0.3, -1]])}, {"x": f32(rng, 4, 3)}])
    ml("feature-vectorizer", {"a": ("FP32", ["N", 2]), "b": ("FP32", ["N", 2])}, {"y": ("FP32", ["N", 3])},
       "FeatureVectorizer", {"inputdimensions": [2, 1]},
       [{"a": f32(rng, n, 2), "b": f32(rng, n, 2)} for n in (1, 3)])  # fmt: skip


def both_ways(rng):
    """What is looked up either way, with and without what to answer for the rest; features that are cut and filled up."""
    pairs = {"cats_int64s": [7, -1, 7], "cats_strings": ["a", "", "żółw"]}
    texts = ("BYTES", np.array([["a", "b", ""], ["żółw", "a", "A"]], object))
    numbers = ("INT64", np.array([[7, 0, 1], [-1, 2, 3]]))
    rest = {"default_string": "none", "default_int64": 99}
    for op, name, attributes, version in (
        ("CategoryMapper", "category-mapper", pairs, 1),
        ("LabelEncoder", "label-encoder-first", {"classes_strings": ["a", "", "żółw"]}, 1),
    ):
        for (kind, x), (other, _) in ((texts, numbers), (numbers, texts)):
            for more in ({}, rest):
                ml(f"{name}-{kind.lower()}{'-rest' if more else ''}", {"x": (kind, ["N", 3])}, {"y": (other, ["N", 3])}, op,
                   {**attributes, **more}, [{"x": x[:1]}, {"x": x}], version)  # fmt: skip
    for kind, draw in (("FP32", lambda n: f32(rng, n, 2)), ("INT64", lambda n: rng.integers(-9, 9, (n, 2)))):
        ml(f"feature-vectorizer-{kind.lower()}", {name: (kind, ["N", 2]) for name in "abc"}, {"y": ("FP32", ["N", 8])},
           "FeatureVectorizer", {"inputdimensions": [5, 1, 2]}, [{name: draw(n) for name in "abc"} for n in (1, 3)], 1)  # fmt: skip


def extractors(rng):
    """What is picked, out of a table and out of a list, by indices of zero, one and two dimensions."""
    table = {"x": f32(rng, 4, 3)}
    for number, at in enumerate([np.array([2]), np.array([0, 2, 2]), np.array([[1], [0]])]):
        made = model(f"extractor-{number}", {"x": ("FP32", ["N", 3])}, {"y": ("FP32", ["N", at.size])},
                     [("ArrayFeatureExtractor", ["x", "at"], ["y"], {"domain": "ai.onnx.ml"})], {"at": at})  # fmt: skip
        made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
        save(HERE, f"extractor-{number}", made, [{"x": table["x"][:1]}, table])
    made = model("extractor-labels", {"x": ("FP32", ["N", 3])}, {"y": ("BYTES", [1, "N"])},
                 [("ArgMax", ["x"], ["best"], {"axis": 1}),
                  ("ArrayFeatureExtractor", ["labels", "best"], ["y"], {"domain": "ai.onnx.ml"})],
                 {"labels": np.array(["a", "b", "c"], object)})  # fmt: skip
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    save(HERE, "extractor-labels", made, [{"x": table["x"][:1]}, table])


def machines(rng):
    """Support vector machines: every kernel, two and three classes, with and without probabilities, linear ones."""
    x = {"x": ("FP32", ["N", 3])}
    feeds = [{"x": f32(rng, n, 3)} for n in (1, 9)]
    number = 0
    for kernel in ("LINEAR", "POLY", "RBF", "SIGMOID"):
        shared = {"kernel_type": kernel, "kernel_params": [0.7, 0.3, 3.0], "support_vectors": f32(rng, 5 * 3).tolist()}
        for classes, probable, post in ((2, 0, "NONE"), (2, 1, "NONE"), (3, 0, "NONE"), (3, 1, "SOFTMAX"), (2, 0, "LOGISTIC")):
            pairs = classes * (classes - 1) // 2
            attributes = {
                **shared,
                "coefficients": f32(rng, (classes - 1) * 5).tolist(),
                "rho": f32(rng, pairs).tolist(),
                "vectors_per_class": [2, 3] if classes == 2 else [2, 1, 2],
                "post_transform": post,
            }
            if probable:
                attributes |= {"prob_a": (-np.abs(f32(rng, pairs))).tolist(), "prob_b": f32(rng, pairs).tolist()}
            strings = number % 3 == 2
            labels = [f"c{k}" for k in range(classes)] if strings else [k * 2 + 3 for k in range(classes)]
            attributes["classlabels_strings" if strings else "classlabels_ints"] = labels
            columns = classes if probable or classes == 2 else pairs
            outputs = {"label": ("BYTES" if strings else "INT64", ["N"]), "scores": ("FP32", ["N", columns])}
            ml(f"svm-classifier-{number:02}", x, outputs, "SVMClassifier", attributes, feeds)
            number += 1
        for one_class in (0, 1):
            attributes = {**shared, "coefficients": f32(rng, 5).tolist(), "rho": f32(rng, 1).tolist(), "n_supports": 5}
            attributes["one_class"] = one_class
            ml(f"svm-regressor-{kernel.lower()}-{one_class}", x, {"y": ("FP32", ["N", 1])}, "SVMRegressor", attributes, feeds)
    linear = {"kernel_params": [0.0, 0.0, 0.0], "rho": [0.25]}
    ml("svm-regressor-liblinear", x, {"y": ("FP32", ["N", 1])}, "SVMRegressor",
       {**linear, "coefficients": f32(rng, 3).tolist(), "n_supports": 0}, feeds)  # fmt: skip
    for classes, post in ((2, "NONE"), (2, "LOGISTIC"), (3, "NONE"), (3, "SOFTMAX")):
        attributes = {**linear, "coefficients": f32(rng, 3 * classes).tolist(), "post_transform": post}
        attributes["classlabels_ints"] = [k * 2 + 3 for k in range(classes)]
        ml(f"svm-classifier-liblinear-{classes}-{post.lower()}", x,
           {"label": ("INT64", ["N"]), "scores": ("FP32", ["N", classes])}, "SVMClassifier", attributes, feeds)  # fmt: skip


def zip_map(rng):
    """ONNX Runtime answers a list of maps; here the probabilities come as the tensor they were."""
    made = model("zip-map", {"x": ("FP32", ["N", 2])}, {"y": ("FP32", ["N", 2])}, [
        ("Softmax", ["x"], ["p"], {"axis": 1}),
        ("ZipMap", ["p"], ["y"], {"classlabels_int64s": [3, 8], "domain": "ai.onnx.ml"}),
    ])  # fmt: skip
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    maps = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    made.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(maps))
    save(HERE, "zip-map", made)
    x = f32(rng, 3, 2)
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    answer = np.float32([[row[3], row[8]] for row in session.run(["y"], {"x": x})[0]])
    case = {"inputs": [tensor_json("x", x)], "outputs": [tensor_json("y", answer)]}
    (HERE / "zip-map" / "1" / "expected.json").write_text(json.dumps({"cases": [case]}) + "\n")


# ---- standard operators ------------------------------------------------------------------------------------------


def plain(name, inputs, outputs, nodes, consts, feeds):
    save(HERE, name, model(name, inputs, outputs, nodes, consts), feeds)


def repaired(rng):
    """What the graph library overflows on, or wants constants for."""
    for keep in (0, 1):
        some = np.concatenate([f32(rng, 2, 3) * 2000, np.float32([[-5000, -5000, -5000], [5000, 4000, 0]])])
        plain(f"log-sum-exp-{keep}", {"x": ("FP32", ["N", 3])}, {"y": ("FP32", ["N", 1] if keep else ["N"])},
              [("ReduceLogSumExp", ["x"], ["y"], {"axes": [-1], "keepdims": keep})], {},
              [{"x": some[:1]}, {"x": some}])  # fmt: skip
    for zero in ("INT8", "UINT8"):
        plain(f"quantize-by-input-{zero.lower()}",
              {"x": ("FP32", ["N", 3]), "scale": ("FP32", ["N"])}, {"y": ("FP32", ["N", 3])},
              [("Cast", ["by"], ["zero"], {"to": TensorProto.INT8 if zero == "INT8" else TensorProto.UINT8}),
               ("ReduceMax", ["scale"], ["most"], {"keepdims": 0}),
               ("QuantizeLinear", ["x", "most", "zero"], ["q"], {}),
               ("DequantizeLinear", ["q", "most", "zero"], ["y"], {})], {"by": np.float32(3)},
              [{"x": f32(rng, n, 3) * 9, "scale": np.abs(f32(rng, n)) + np.float32(0.02)} for n in (1, 4)])  # fmt: skip


def recurrent(rng):
    """Sessions must not carry state from one run to the next."""
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        weight, again = f32(rng, 1, gates * 2, 3), f32(rng, 1, gates * 2, 2)
        plain(op.lower(), {"x": ("FP32", [4, 2, 3])}, {"y": ("FP32", [1, 2, 2])},
              [(op, ["x", "w", "r"], ["", "y"], {"hidden_size": 2})], {"w": weight, "r": again},
              [{"x": f32(rng, 4, 2, 3)} for _ in range(2)])  # fmt: skip
    body = helper.make_graph(
        [helper.make_node("Add", ["sum", "row"], ["next"]), helper.make_node("Identity", ["next"], ["out"])],
        "body",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in ("sum", "row")],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in ("next", "out")],
    )
    plain("scan", {"x": ("FP32", [3, 2])}, {"last": ("FP32", [2]), "all": ("FP32", [3, 2])},
          [("Scan", ["zero", "x"], ["last", "all"], {"body": body, "num_scan_inputs": 1})],
          {"zero": np.zeros(2, np.float32)}, [{"x": f32(rng, 3, 2)} for _ in range(2)])  # fmt: skip


def dynamic(rng):
    """Dimensions other than the batch that are only known when a request comes."""
    sizes = [(1, 4), (3, 4), (3, 7), (1, 4)]
    feeds = [{"x": f32(rng, n, s, 3)} for n, s in sizes]
    x = {"x": ("FP32", ["N", "S", 3])}
    plain("attention", x, {"y": ("FP32", ["N", "S", "S"])},
          [("Transpose", ["x"], ["t"], {"perm": [0, 2, 1]}), ("MatMul", ["x", "t"], ["a"], {}),
           ("Softmax", ["a"], ["y"], {"axis": -1})], {}, feeds)  # fmt: skip
    plain("flatten", x, {"y": ("FP32", ["N", "S", 2])},
          [("Flatten", ["x"], ["flat"], {"axis": 2}), ("MatMul", ["flat", "w"], ["p"], {}),
           ("Shape", ["x"], ["shape"], {}), ("Gather", ["shape", "first"], ["kept"], {"axis": 0}),
           ("Concat", ["kept", "two"], ["to"], {"axis": 0}), ("Reshape", ["p", "to"], ["y"], {})],
          {"w": f32(rng, 3, 2), "first": np.array([0, 1]), "two": np.array([2])}, feeds)  # fmt: skip
    plain("range", {"n": ("INT64", [])}, {"y": ("INT64", ["L"])}, [("Range", ["zero", "n", "one"], ["y"], {})],
          {"zero": np.array(0), "one": np.array(1)}, [{"n": np.array(n)} for n in (4, 9)])  # fmt: skip
    plain("gather", {"i": ("INT64", ["N"])}, {"y": ("FP32", ["N"])}, [("Gather", ["t", "i"], ["y"], {"axis": 0})],
          {"t": f32(rng, 4)}, [{"i": np.array([0, 3])}])  # fmt: skip
    plain("two-names", {"a": ("FP32", ["A", 4]), "b": ("FP32", ["B", 4])}, {"y": ("FP32", ["A", "B"])},
          [("Transpose", ["b"], ["t"], {"perm": [1, 0]}), ("MatMul", ["a", "t"], ["y"], {})], {},
          [{"a": f32(rng, 2, 4), "b": f32(rng, 3, 4)}])  # fmt: skip
    plain("square", {"x": ("FP32", ["N", "N"])}, {"y": ("FP32", ["N", "N"])}, [("Relu", ["x"], ["y"], {})], {},
          [{"x": f32(rng, n, n)} for n in (2, 3)])  # fmt: skip
    plain("not", {"x": ("BOOL", ["N", 2])}, {"y": ("BOOL", ["N", 2])}, [("Not", ["x"], ["y"], {})], {},
          [{"x": np.array([[True, False]])}])  # fmt: skip


def body(name, inputs, outputs, nodes, consts=None):
    """What a Loop repeats: inputs and outputs as (name, type, shape)."""
    infos = [[helper.make_tensor_value_info(n, t, s) for n, t, s in side] for side in (inputs, outputs)]
    made = [helper.make_node(op, ins, outs, **attrs) for op, ins, outs, attrs in nodes]
    return helper.make_graph(made, name, *infos, [numpy_helper.from_array(v, k) for k, v in (consts or {}).items()])


def loops(rng):
    """Loop with a number of turns that is a constant: state that is carried, outputs by turn, the number of the turn, values from
    around the loop, and a loop within a loop."""
    integer, boolean, real = TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT
    turn, on, off = ("turn", integer, []), ("on", boolean, []), ("off", boolean, [])
    same = ("Identity", ["on"], ["off"], {})
    count, yes = np.array(4), np.array(True)
    feeds = [{"x": f32(rng, n, 3)} for n in (1, 3, 5)]
    x, y = {"x": ("FP32", ["N", 3])}, {"y": ("FP32", ["N", 3])}
    state, after = ("state", real, None), ("after", real, None)
    turns = body("turns", [turn, on, state], [off, after],
                 [("MatMul", ["state", "w"], ["product"], {}), ("Add", ["product", "x"], ["sum"], {}),
                  ("Tanh", ["sum"], ["after"], {}), same])  # fmt: skip
    plain("loop-state", x, y, [("Loop", ["count", "yes", "x"], ["y"], {"body": turns})],
          {"count": count, "yes": yes, "w": f32(rng, 3, 3)}, feeds)  # fmt: skip
    counted = body("counted", [turn, on, state], [off, after, ("each", real, None)],
                   [("Cast", ["turn"], ["number"], {"to": real}), ("Mul", ["number", "half"], ["part"], {}),
                    ("Add", ["state", "part"], ["after"], {}), ("ReduceSum", ["after", "last"], ["each"], {"keepdims": 0}),
                    same],
                   {"half": np.array(0.5, np.float32)})  # fmt: skip
    plain("loop-outputs", x, {"y": ("FP32", ["N", 3]), "all": ("FP32", ["N", 4])},
          [("Loop", ["count", "", "x"], ["y", "turns"], {"body": counted}),
           ("Transpose", ["turns"], ["all"], {"perm": [1, 0]})],
          {"count": count, "last": np.array([1])}, feeds)  # fmt: skip
    inner = body("inner", [("i", integer, []), ("go", boolean, []), ("a", real, None)],
                 [("goes", boolean, []), ("b", real, None)],
                 [("Mul", ["a", "factor"], ["c"], {}), ("Add", ["c", "state"], ["b"], {}), ("Identity", ["go"], ["goes"], {})])  # fmt: skip
    outer = body("outer", [turn, on, state], [off, after],
                 [("Loop", ["two", "yes", "state"], ["within"], {"body": inner}), ("Relu", ["within"], ["after"], {}), same],
                 {"two": np.array(2)})  # fmt: skip
    plain("loop-in-loop", x, y, [("Loop", ["count", "yes", "x"], ["y"], {"body": outer})],
          {"count": count, "yes": yes, "factor": np.array(-0.5, np.float32)}, feeds)  # fmt: skip


def main():
    for folder in HERE.glob("*/1"):
        shutil.rmtree(folder.parent)
    ort.set_default_logger_severity(3)
    rng = np.random.default_rng(17)
    trees()
    linear(rng)
    around(rng)
    look_ups(rng)
    extractors(rng)
    machines(rng)
    zip_map(rng)
    repaired(rng)
    recurrent(rng)
    dynamic(rng)
<<<<<<< HEAD
    loops(np.random.default_rng(18))
=======
    tree_ensembles()
    tree_tensors()
    both_ways(np.random.default_rng(18))
>>>>>>> 49a5d9c (engine: random forests are held to the standard and to ONNX Runtime; maps are refused with the reason)
    print(len(list(HERE.glob("*/1/model.onnx"))), "models")


if __name__ == "__main__":
    main()
