#!/usr/bin/env python3
"""Packs the backend test cases of the PyPI package `onnx` into one file that the engine's conformance test reads.

Why: newer packages do not ship the node tests as files any more, they compute them; packing them once makes the test run
anywhere without Python or network, on the same numbers every time, and costs 4 MB. Who calls it: a person who moves to a
newer `onnx`; then the expectations are written again (see README.md). The test uses the committed file only.

Usage: pip install onnx==1.23.2 && python tests/conformance/pack.py

The file is gzip of: u32 (little-endian) length of a JSON text, that text, and the blobs it counts, one after another. The
text holds `package`, `blobs` (their lengths) and `cases`: name, operator, rtol, atol, the blob of the model (ModelProto),
and sets of inputs and outputs, each a blob (TensorProto) or null for what is not a tensor.
"""

import gzip
import json
import re
import struct
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import DATA_DIR, load_model_tests

OUT = Path(__file__).resolve().parent / "cases.bin.gz"

# Cases of the older collections that are larger than this are left out: they repeat operators with more numbers.
MAX_BYTES = 24_000


class Blobs:
    """Bytes by number, equal ones once."""

    def __init__(self):
        self.all, self.known = [], {}

    def add(self, content):
        if content not in self.known:
            self.known[content] = len(self.all)
            self.all.append(content)
        return self.known[content]


def tensor(value):
    """The bytes of a TensorProto; None for sequences, maps and absent optionals."""
    if value is None or isinstance(value, (list, dict)):
        return None
    if isinstance(value, TensorProto):
        value = numpy_helper.to_array(value)
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind in "US":
        texts = [item if isinstance(item, bytes) else str(item).encode() for item in array.reshape(-1)]
        return TensorProto(data_type=TensorProto.STRING, dims=array.shape, string_data=texts).SerializeToString()
    return numpy_helper.from_array(array).SerializeToString()


def node_cases():
    """(name, model bytes, rtol, atol, sets) of the computed cases."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = onnx.backend.test.case.node.collect_testcases(None)
    for case in cases:
        sets = [([tensor(v) for v in ins], [tensor(v) for v in outs]) for ins, outs in case.data_sets]
        yield case.name, case.model.SerializeToString(), case.rtol, case.atol, sets


def stored_cases(kind):
    """The same for a collection that the package ships as files."""
    for case in sorted(load_model_tests(DATA_DIR, kind), key=lambda case: case.name):
        folder = Path(case.model_dir)
        sets = []
        for part in sorted(folder.glob("test_data_set_*")):
            count = lambda what: len(list(part.glob(f"{what}_*.pb")))  # noqa: B023, E731
            read = lambda what: [stored(part / f"{what}_{i}.pb") for i in range(count(what))]  # noqa: B023, E731
            sets.append((read("input"), read("output")))
        model = (folder / "model.onnx").read_bytes()
        if len(model) + sum(len(v or b"") for ins, outs in sets for v in ins + outs) <= MAX_BYTES:
            yield f"{case.name}@{kind}", model, case.rtol, case.atol, sets


def stored(path):
    try:
        return tensor(TensorProto.FromString(path.read_bytes()))
    except Exception:  # a sequence or an optional
        return None


def operator(name, model, by_name):
    """What a case is about: its only operator, or that of the case whose function it spells out."""
    base = re.sub(r"_expanded.*", "", name)
    if base != name and base in by_name:
        return operator(base, by_name[base], by_name)
    nodes = [node for node in onnx.load_from_string(model).graph.node if node.op_type != "Constant"]
    nodes = nodes or onnx.load_from_string(model).graph.node
    # Where there are several, the first is the one that the others prepare or look at.
    domain = nodes[0].domain if nodes else ""
    return f"{domain}.{nodes[0].op_type}" if domain not in ("", "ai.onnx") else nodes[0].op_type if nodes else "none"


def main():
    np.random.seed(0)
    found = list(node_cases())
    for kind in ["pytorch-operator", "pytorch-converted", "simple"]:
        found += stored_cases(kind)
    by_name = {name: model for name, model, *_ in found}
    blobs, cases = Blobs(), []
    number = lambda value: None if value is None else blobs.add(value)  # noqa: E731
    for name, model, rtol, atol, sets in sorted(found, key=lambda case: case[0]):
        packed = [{"inputs": [number(v) for v in ins], "outputs": [number(v) for v in outs]} for ins, outs in sets]
        op = operator(name, model, by_name)
        model = blobs.add(model)
        cases.append({"name": name, "operator": op, "rtol": rtol, "atol": atol, "model": model, "sets": packed})
    lengths = [len(blob) for blob in blobs.all]
    header = json.dumps({"package": f"onnx {onnx.__version__}", "blobs": lengths, "cases": cases}).encode()
    content = struct.pack("<I", len(header)) + header + b"".join(blobs.all)
    OUT.write_bytes(gzip.compress(content, 9, mtime=0))
    print(f"{len(cases)} cases, {len(lengths)} blobs, {len(content)} bytes, packed {OUT.stat().st_size}")


if __name__ == "__main__":
    main()
