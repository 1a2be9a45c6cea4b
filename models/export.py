"""ONNX graphs out of fitted models, and the files of a version: what is written, not what is learned.

Why: the graphs are written node by node or by skl2onnx, so that a file holds what is wanted and nothing else, byte for byte the
same on every run. Who calls it: make_models.py.
"""

import hashlib
import json

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType

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


def export_mlp(name, net, mean, scale):
    weights = {"mean": mean.astype(np.float32), "scale": scale.astype(np.float32)}
    steps = [("Sub", ["features", "mean"], ["centred"], {}), ("Div", ["centred", "scale"], ["x0"], {})]
    for i in range(net.layers):
        weights[f"dense{i}"], weights[f"dense{i}_bias"] = net.params[f"w{i}"], net.params[f"b{i}"]
        last = i + 1 == net.layers
        steps.append(("Gemm", [f"x{i}", f"dense{i}", f"dense{i}_bias"], ["logits" if last else f"h{i}"], {}))
        if not last:
            steps.append(("Relu", [f"h{i}"], [f"x{i + 1}"], {}))
    return classifier_graph(name, "features", len(mean), steps, weights)


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
