#!/usr/bin/env python3
"""Trains the models of this demo registry and writes them with golden answers.

Why: the gateway is shown and tested on models that really learned something. The data sets are the ones that
scikit-learn carries in its package, so nothing is downloaded; the answers in golden.json are ONNX Runtime's.
Who calls it: a person who wants to change a model (`models/README.md` says how). Builds, tests and serving use the
committed files only.

Usage: python models/make_models.py [--out DIR]
"""

import argparse
import hashlib
import json
import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one thread: the same sums in the same order on every run

import numpy as np
import onnxruntime as ort
from nets import SEED, Cnn, Mlp, fit, shift_pixels
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

OPSETS = {"": 17, "ai.onnx.ml": 3}
IR_VERSION = 8
CASE_ROWS = (1, 3, 7)
NUMPY_TO_OIP = {"float32": "FP32", "int64": "INT64"}


# ---- export ------------------------------------------------------------------------------------------------------


def classifier_graph(name, source, width, steps, weights):
    """An ONNX model from its node list; adds softmax and argmax as `probabilities` [N, classes] and `label` [N]."""
    classes = int(next(v for k, v in reversed(weights.items()) if v.ndim == 1).shape[0])
    nodes = [helper.make_node(op, ins, outs, name=outs[0], **attrs) for op, ins, outs, attrs in steps]
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], name="probabilities", axis=1))
    nodes.append(helper.make_node("ArgMax", ["logits"], ["label"], name="label", axis=1, keepdims=0))
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, ["N", width])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", classes]),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSETS[""])], producer_name="make_models.py")
    model.ir_version = IR_VERSION
    return model


def export_cnn(net):
    p = net.params
    weights = {
        "sixteen": np.float32(16).reshape(1),
        "image": np.array([-1, 1, 8, 8], np.int64),
        "flat": np.array([-1, 512], np.int64),
        "conv0": p["c0"].reshape(16, 1, 3, 3),
        "conv0_bias": p["cb0"],
        "conv1": p["c1"].reshape(32, 16, 3, 3),
        "conv1_bias": p["cb1"],
        "dense0": p["w0"],
        "dense0_bias": p["b0"],
        "dense1": p["w1"],
        "dense1_bias": p["b1"],
    }
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    steps = [
        ("Div", ["pixels", "sixteen"], ["scaled"], {}),
        ("Reshape", ["scaled", "image"], ["images"], {}),
        ("Conv", ["images", "conv0", "conv0_bias"], ["conv0_out"], conv),
        ("Relu", ["conv0_out"], ["relu0"], {}),
        ("Conv", ["relu0", "conv1", "conv1_bias"], ["conv1_out"], conv),
        ("Relu", ["conv1_out"], ["relu1"], {}),
        ("MaxPool", ["relu1"], ["pooled"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Reshape", ["pooled", "flat"], ["flattened"], {}),
        ("Gemm", ["flattened", "dense0", "dense0_bias"], ["dense0_out"], {}),
        ("Relu", ["dense0_out"], ["relu2"], {}),
        ("Gemm", ["relu2", "dense1", "dense1_bias"], ["logits"], {}),
    ]
    return classifier_graph("digits-cnn", "pixels", 64, steps, weights)


def export_mlp(net, mean, scale):
    weights = {"mean": mean.astype(np.float32), "scale": scale.astype(np.float32)}
    steps = [("Sub", ["features", "mean"], ["centred"], {}), ("Div", ["centred", "scale"], ["x0"], {})]
    for i in range(net.layers):
        weights[f"dense{i}"], weights[f"dense{i}_bias"] = net.params[f"w{i}"], net.params[f"b{i}"]
        last = i + 1 == net.layers
        steps.append(("Gemm", [f"x{i}", f"dense{i}", f"dense{i}_bias"], ["logits" if last else f"h{i}"], {}))
        if not last:
            steps.append(("Relu", [f"h{i}"], [f"x{i + 1}"], {}))
    return classifier_graph("breast-cancer-mlp", "features", len(mean), steps, weights)


def export_sklearn(name, estimator, source, width, *, named_batch):
    """What skl2onnx makes of a fitted estimator; `named_batch` False leaves the batch dimension without a name."""
    options = {"zipmap": False} if hasattr(estimator, "predict_proba") else None
    model = convert_sklearn(
        estimator, name, [(source, FloatTensorType([None, width]))], options=options, target_opset=OPSETS
    )
    model.ir_version = IR_VERSION
    versions = {opset.domain: opset.version for opset in model.opset_import}  # skl2onnx names a domain twice
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*pair) for pair in sorted(versions.items()))
    if named_batch:
        for value in [*model.graph.input, *model.graph.output]:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    return model


# ---- files -------------------------------------------------------------------------------------------------------


def flat_json(array):
    """A flat list whose decimals give back exactly the same FP32 bits (shortest decimals that do)."""
    if array.dtype != np.float32:
        return array.reshape(-1).tolist()
    values = [float(str(v)) for v in array.reshape(-1)]
    assert np.array_equal(np.array(values, np.float64).astype(np.float32), array.reshape(-1))
    return values


def tensor_json(name, array):
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": NUMPY_TO_OIP[str(array.dtype)],
        "data": flat_json(array),
    }


def golden(session, rows):
    """Golden cases of 1, 3 and 7 of the given held-out rows, answered by ONNX Runtime."""
    source = session.get_inputs()[0].name
    names = [o.name for o in session.get_outputs()]
    cases, start = [], 0
    for count in CASE_ROWS:
        batch = np.ascontiguousarray(rows[start : start + count])
        start += count
        answers = session.run(names, {source: batch})
        cases.append(
            {
                "inputs": [tensor_json(source, batch)],
                "outputs": [tensor_json(n, a) for n, a in zip(names, answers)],
            }
        )
    return {"cases": cases}


def dump(path, value):
    """One case a line: small enough to read, and a diff shows which case moved."""
    if "cases" in value:
        lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in value["cases"])
        path.write_text('{"cases":[\n' + lines + "\n]}\n")
    else:
        path.write_text(json.dumps(value, separators=(",", ":")) + "\n")


def publish(out, name, version, model, rows):
    """Writes one version and returns an ONNX Runtime session on it."""
    folder = out / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    data = model.SerializeToString(deterministic=True)
    (folder / "model.onnx").write_bytes(data)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    dump(folder / "golden.json", golden(session, rows))
    return session


def write_manifest(folder):
    data = (folder / "model.onnx").read_bytes()
    entry = {"path": "model.onnx", "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    dump(folder / "manifest.json", {"files": [entry]})


def run(session, rows):
    return dict(
        zip([o.name for o in session.get_outputs()], session.run(None, {session.get_inputs()[0].name: rows}))
    )


def report(label, score, path):
    print(f"{label:24} {score:28} {(path / 'model.onnx').stat().st_size:8} bytes")


# ---- the models --------------------------------------------------------------------------------------------------


def make_digits(out):
    rows, labels = load_digits(return_X_y=True)
    rows = rows.astype(np.float32)
    train, test, y_train, y_test = train_test_split(rows, labels, test_size=500, random_state=SEED, stratify=labels)

    versions = {1: (300, 0.02), 2: (len(train), 0.05)}  # version: rows trained on, inverse regularisation
    fitted = {
        v: make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)).fit(train[:n], y_train[:n])
        for v, (n, c) in versions.items()
    }
    # The last golden rows are those that version 2 is least sure of: a cascade sends such rows on.
    unsure = np.argsort(fitted[2].predict_proba(test).max(axis=1))
    chosen = [i for i in range(len(test)) if i not in set(unsure[:3])][: sum(CASE_ROWS) - 3] + list(unsure[:3])

    for version, pipeline in fitted.items():
        model = export_sklearn("digits-linear", pipeline, "pixels", 64, named_batch=True)
        session = publish(out, "digits-linear", version, model, test[chosen])
        accuracy = (run(session, test)["label"] == y_test).mean()
        report(f"digits-linear/{version}", f"accuracy {accuracy:.3f} on {len(test)}", out / f"digits-linear/{version}")
    write_manifest(out / "digits-linear" / "2")

    net = fit(Cnn(), train / 16, y_train, epochs=60, rate=2e-3, decay=1e-4, augment=shift_pixels)
    session = publish(out, "digits-cnn", 1, export_cnn(net), test[chosen])
    accuracy = (run(session, test)["label"] == y_test).mean()
    report("digits-cnn/1", f"accuracy {accuracy:.3f} on {len(test)}", out / "digits-cnn/1")
    return test[:1], int(y_test[0])


def make_breast_cancer(out):
    rows, labels = load_breast_cancer(return_X_y=True)
    train, test, y_train, y_test = train_test_split(
        rows.astype(np.float32), labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    scaler = StandardScaler().fit(train)
    scaled = scaler.transform(train).astype(np.float32)
    net = fit(Mlp([30, 128, 64, 2]), scaled, y_train, epochs=40, rate=1e-3, decay=1e-3)
    model = export_mlp(net, scaler.mean_, scaler.scale_)
    session = publish(out, "breast-cancer-mlp", 1, model, test)
    accuracy = (run(session, test)["label"] == y_test).mean()
    report("breast-cancer-mlp/1", f"accuracy {accuracy:.3f} on {len(test)}", out / "breast-cancer-mlp/1")


def make_wine(out):
    rows, labels = load_wine(return_X_y=True)
    train, test, y_train, y_test = train_test_split(
        rows.astype(np.float32), labels, test_size=0.3, random_state=SEED, stratify=labels
    )
    forest = RandomForestClassifier(n_estimators=80, max_depth=6, random_state=SEED).fit(train, y_train)
    model = export_sklearn("wine-forest", forest, "features", 13, named_batch=False)
    session = publish(out, "wine-forest", 1, model, test)
    accuracy = (run(session, test)["label"] == y_test).mean()
    report("wine-forest/1", f"accuracy {accuracy:.3f} on {len(test)}", out / "wine-forest/1")


def make_diabetes(out):
    rows, target = load_diabetes(return_X_y=True)
    train, test, y_train, y_test = train_test_split(
        rows.astype(np.float32), target, test_size=0.25, random_state=SEED
    )
    forest = GradientBoostingRegressor(
        n_estimators=120, max_depth=3, learning_rate=0.05, subsample=0.7, random_state=SEED
    ).fit(train, y_train)
    model = export_sklearn("diabetes-forest", forest, "features", 10, named_batch=False)
    session = publish(out, "diabetes-forest", 1, model, test)
    (values,) = run(session, test).values()
    score = f"R2 {r2_score(y_test, values[:, 0]):.3f} on {len(test)}"
    report("diabetes-forest/1", score, out / "diabetes-forest/1")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    here = Path(__file__).resolve().parent
    parser.add_argument("--out", type=Path, default=here, help="registry folder to write (default: this one)")
    parser.add_argument("--sample", type=Path, default=here.parent / "docs/samples/digit.json")
    args = parser.parse_args()
    digit, truth = make_digits(args.out)
    make_breast_cancer(args.out)
    make_wine(args.out)
    make_diabetes(args.out)
    args.sample.parent.mkdir(parents=True, exist_ok=True)
    dump(args.sample, {"inputs": [tensor_json("pixels", digit)]})
    print(f"{args.sample.name}: a held-out {truth}")


if __name__ == "__main__":
    main()
