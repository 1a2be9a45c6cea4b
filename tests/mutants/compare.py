#!/usr/bin/env python3
"""Asks ONNX Runtime what Weir was asked about mutated models, and says where the answers differ.

Why: a model that is wrong somewhere and still loads must mean the same in both engines, or be refused. Who calls it: a
person who has run the test `engine::mutants` with WEIR_MUTANTS_OUT=DIR; README.md here has the commands.

Usage: python tests/mutants/compare.py DIR   (packages: requirements.txt here). Exit code 1 when an answer differs.
"""

import argparse
import json
import multiprocessing
import resource
import sys
from pathlib import Path

import numpy as np

MEMORY = 6 << 30
PATIENCE = 120
DTYPES = {
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32,
    "INT64": np.int64, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "BOOL": np.bool_,
}  # fmt: skip
# |a - b| <= t + t |b|, as everywhere in Weir.
TOLERANCE = {np.dtype(np.float16): 1e-2, np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-9}


def tensor(record):
    if record["datatype"] == "BYTES":
        return np.array(record["data"], object).reshape(record["shape"])
    return np.frombuffer(bytes.fromhex(record["data"]), DTYPES[record["datatype"]]).reshape(record["shape"])


def equal(ours, theirs):
    """Which elements are the same; a text when types or shapes already differ."""
    if list(ours.shape) != list(theirs.shape):
        return f"shape {list(ours.shape)}, theirs {list(theirs.shape)}"
    if theirs.dtype.kind in "OUS":
        return np.array([str(a) == str(b) for a, b in zip(ours.ravel(), theirs.ravel())], bool)
    if theirs.dtype.kind == "f":
        limit = TOLERANCE.get(theirs.dtype, 1e-4)
        if ours.dtype.kind != "f":
            return f"{ours.dtype}, theirs {theirs.dtype}"
        a, b = ours.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
        with np.errstate(all="ignore"):
            return (np.abs(a - b) <= limit + limit * np.abs(b)) | (a == b) | (np.isnan(a) & np.isnan(b))
    return (ours == theirs).ravel() if ours.dtype == theirs.dtype else f"{ours.dtype}, theirs {theirs.dtype}"


def difference(ours, theirs):
    """What differs; None when nothing does."""
    theirs = np.asarray(theirs)
    same = equal(ours, theirs)
    if isinstance(same, str):
        return same
    if same.all():
        return None
    at = int(np.argmin(same))
    return f"element {at} of {same.size}: {ours.ravel()[at]}, theirs {theirs.ravel()[at]} ({(~same).sum()} differ)"


def zipped(model, output):
    """The classes of the ZipMap that an output comes from; none when it comes from something else."""
    import onnx

    graph = (onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model, load_external_data=False)).graph
    for node in (node for node in graph.node if node.op_type == "ZipMap" and output in node.output):
        given = {attribute.name: attribute for attribute in node.attribute}
        texts = [name.decode() for name in given["classlabels_strings"].strings] if "classlabels_strings" in given else []
        return texts or list(given["classlabels_int64s"].ints)
    return []


def plain(model, output, answer):
    """A tensor; of a list of maps from class to probability, which Weir answers as a tensor, the probabilities in the order of the
    classes in the file."""
    if not (isinstance(answer, list) and all(isinstance(row, dict) for row in answer)):
        return answer
    classes = zipped(model, output)
    return np.array([[row[name] for name in classes] for row in answer], np.float32).reshape(len(answer), len(classes))


def ask(model, feeds, optimise=True):
    """ONNX Runtime's outputs by name."""
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return {name: plain(model, name, answer) for name, answer in zip(names, session.run(names, feeds))}


def inner(model, feeds):
    """Every value inside the graph by name, constants left out."""
    import onnx

    graph = onnx.load(str(model), load_external_data=False)
    known = {output.name for output in graph.graph.output}
    for name in {name for node in graph.graph.node for name in node.output if name and name not in known}:
        graph.graph.output.append(onnx.ValueInfoProto(name=name))
    return ask(graph.SerializeToString(), feeds, optimise=False)


def beyond_floats(model, feeds):
    """True when some value inside the graph is no finite number, or a constant is none."""
    import onnx

    graph = onnx.load(str(model), load_external_data=False)
    finite = lambda value: not (value.dtype.kind == "f" and not np.isfinite(value).all())  # noqa: E731
    if not all(finite(onnx.numpy_helper.to_array(tensor)) for tensor in graph.graph.initializer):
        return True
    attributes = [attribute for node in graph.graph.node for attribute in node.attribute]
    if not all(np.isfinite([*attribute.floats, attribute.f]).all() for attribute in attributes):
        return True
    return not all(finite(value) for value in inner(model, feeds).values() if isinstance(value, np.ndarray))


def of_nothing(model, feeds):
    """True when a node reduces an empty tensor whose operator's own text says that this is undefined."""
    import onnx

    graph = onnx.load(str(model), load_external_data=False)
    undefined = lambda node: "empty set of values yields undefined" in onnx.defs.get_schema(node.op_type).doc  # noqa: E731
    reductions = [node for node in graph.graph.node if node.op_type.startswith("Reduce") and undefined(node)]
    if not reductions:
        return False
    values = {**feeds, **inner(model, feeds)}
    values.update((tensor.name, onnx.numpy_helper.to_array(tensor)) for tensor in graph.graph.initializer)
    return any(np.size(values.get(node.input[0], 0)) == 0 for node in reductions)


def out_of_range(model, feeds):
    """True when a float is cast to an integer that cannot be it, which the operator's own text says is undefined."""
    import onnx

    graph = onnx.load(str(model), load_external_data=False)
    values = {**feeds, **inner(model, feeds)}
    values.update((tensor.name, onnx.numpy_helper.to_array(tensor)) for tensor in graph.graph.initializer)
    for node in (node for node in graph.graph.node if node.op_type == "Cast"):
        kind = onnx.helper.tensor_dtype_to_np_dtype(next(a.i for a in node.attribute if a.name == "to"))
        value = np.trunc(np.asarray(values.get(node.input[0], 0), np.float64))
        if kind.kind in "iu" and not ((value >= np.iinfo(kind).min) & (value <= np.iinfo(kind).max)).all():
            return True
    return False


def named_twice(model, output, ours, theirs):
    """True when all that differs are columns whose class a ZipMap names again further on, of which a map keeps the last."""
    classes, same = zipped(model, output), equal(ours, theirs)
    last = [name not in classes[at + 1 :] for at, name in enumerate(classes)]
    return not isinstance(same, str) and not all(last) and bool(same.reshape(-1, len(classes))[:, last].all())


def misnumbered(model, feeds, output, ours):
    """True when ONNX Runtime agrees once the numbers 1 and 2 of a transform, which it reads the other way round, are exchanged; in
    single precision, in which it transforms doubles, too."""
    import onnx

    graph, swapped = onnx.load(str(model), load_external_data=False), {1: 2, 2: 1}
    for node in (node for node in graph.graph.node if node.op_type == "TreeEnsemble"):
        for attribute in (attribute for attribute in node.attribute if attribute.name == "post_transform"):
            attribute.i = swapped.get(attribute.i, attribute.i)
    theirs = ask(graph.SerializeToString(), feeds)[output]
    return ours.dtype.kind == "f" and difference(ours.astype(np.float32), theirs.astype(np.float32)) is None


def misshapen(model, feeds, output, ours, theirs):
    """True when the shape that the standard's own rules infer for an output is Weir's, and not theirs."""
    import onnx

    graph = onnx.load(str(model), load_external_data=False)
    for value in graph.graph.input:
        if value.name in feeds:
            for dim, size in zip(value.type.tensor_type.shape.dim, feeds[value.name].shape):
                dim.dim_value = size
    for value in (*graph.graph.output, *graph.graph.value_info):
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph.output
    shapes = {value.name: [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
              for value in inferred if value.type.tensor_type.HasField("shape")}  # fmt: skip
    return shapes.get(output) == list(ours.shape) and list(np.shape(theirs)) != list(ours.shape)


def widen(graph):
    """Makes every 32-bit float of a graph one of 64 bits."""
    import onnx

    float32, float64 = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
    tensors = list(graph.initializer)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == float32:
            value.type.tensor_type.elem_type = float64
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            for body in (attribute.g, *attribute.graphs):
                widen(body)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == float32:
                attribute.i = float64
        if node.op_type == "ConstantOfShape" and not node.attribute:
            node.attribute.append(onnx.helper.make_attribute("value", onnx.helper.make_tensor("", float64, [1], [0])))
    for tensor in tensors:
        if tensor.data_type == float32:
            wide = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))


def nearer(model, feeds, output, ours, theirs):
    """True when ONNX Runtime contradicts itself once it has doubles for floats, and Weir's floats are as near to those."""
    import onnx

    graph = onnx.load(str(model), load_external_data=False)
    widen(graph.graph)
    wide = {name: value.astype(np.float64) if value.dtype == np.float32 else value for name, value in feeds.items()}
    try:
        exact = ask(graph.SerializeToString(), wide, optimise=False)[output]
    except Exception:
        return False  # not every operator takes doubles
    if ours.dtype.kind != "f" or difference(theirs, np.asarray(exact).astype(np.float32)) is None:
        return False
    away = lambda value: np.abs(value.astype(np.float64) - exact).max()  # noqa: E731
    return ours.shape == exact.shape and bool(away(ours) <= away(theirs))


def moves(ours, theirs, others):
    """True when every element of theirs that differs from ours differs from that of some other answer of theirs, too."""
    apart = [equal(np.asarray(other), theirs) for other in (ours, *others)]
    if isinstance(apart[0], str):
        return any(isinstance(same, str) for same in apart[1:])
    still = [same for same in apart[1:] if not isinstance(same, str)]
    return len(still) < len(others) or bool((apart[0] | ~np.all(still, axis=0)).all())


def excuse(model, feeds, output, ours, theirs):
    """Why a difference says nothing about either engine, if that is so; README.md explains each."""
    if isinstance(theirs, np.ndarray) and theirs.dtype.kind == "i":
        same = equal(ours, theirs)
        if not isinstance(same, str) and (theirs.ravel()[~same] == np.iinfo(theirs.dtype).min).all():
            return "no-integer"
    if out_of_range(model, feeds):
        return "no-integer"
    if named_twice(str(model), output, ours, theirs):
        return "named-twice"
    if misnumbered(model, feeds, output, ours):
        return "misnumbered"
    if moves(ours, theirs, [ask(str(model), feeds, optimise=False)[output]]):
        return "divided"
    nearby = lambda factor: {name: value * value.dtype.type(factor) if value.dtype.kind == "f" else value
                             for name, value in feeds.items()}  # fmt: skip
    if moves(ours, theirs, [ask(str(model), nearby(factor))[output] for factor in (1 + 1e-5, 1 - 1e-5)]):
        return "unstable"
    if misshapen(model, feeds, output, ours, theirs):
        return "misshapen"
    if of_nothing(model, feeds):
        return "of-nothing"
    if nearer(model, feeds, output, ours, theirs):
        return "rounded"
    return "not-finite" if beyond_floats(model, feeds) else None


def judge(folder, seed):
    """(what it is, text): refused, agrees, differs, drawn, or an excuse."""
    model, record = folder / f"{seed}.onnx", json.loads((folder / f"{seed}.json").read_text())
    feeds = {r["name"]: tensor(r) for r in record["inputs"]}
    if b"Random" in model.read_bytes() or b"Multinomial" in model.read_bytes() or b"Bernoulli" in model.read_bytes():
        return "drawn", record["source"]
    try:
        theirs = ask(str(model), feeds)
    except Exception as error:
        return "refused", f"{type(error).__name__}: {error}".splitlines()[0][:200]
    for ours in record["outputs"]:
        name = ours["name"]
        if name not in theirs:
            return "differs", f"{record['source']}: output {name!r} is not theirs"
        text = difference(tensor(ours), theirs[name])
        if text is not None:
            return excuse(model, feeds, name, tensor(ours), theirs[name]) or "differs", f"{record['source']}: {name}: {text}"
    return "agrees", record["source"]


def work(folder, seeds, results):
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for seed in seeds:
        results.put((seed, "begun", ""))
        results.put((seed, *judge(folder, seed)))
    results.put(None)


def run(folder, seeds):
    """Every seed's judgement, in processes that may die."""
    left, judged = list(seeds), {}
    context = multiprocessing.get_context("spawn")
    while left:
        results = context.Queue()
        process = context.Process(target=work, args=(folder, left[:200], results))
        process.start()
        current, ended = None, False
        while not ended:
            try:
                item = results.get(timeout=PATIENCE if process.is_alive() else 1)
            except Exception:
                judged[current if current is not None else left[0]] = ("died", "ONNX Runtime died or hung")
                break
            if item is None:
                ended = True
            elif item[1] == "begun":
                current = item[0]
            else:
                judged[item[0]], current = item[1:], None
        process.kill()
        process.join()
        left = [seed for seed in left if seed not in judged]
    return judged


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, action="append", help="only these")
    arguments = parser.parse_args()
    seeds = arguments.seed or sorted(int(path.stem) for path in arguments.folder.glob("*.onnx"))
    judged = run(arguments.folder, seeds)
    counts = {}
    for seed in sorted(judged):
        kind, text = judged[seed]
        counts[kind] = counts.get(kind, 0) + 1
        if kind not in ("agrees", "refused", "drawn"):
            print(f"{kind} {seed} {text}")
    print(f"{len(judged)} mutants that Weir answers: " + ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))
    return 1 if counts.get("differs") else 0


if __name__ == "__main__":
    sys.exit(main())
