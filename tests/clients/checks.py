"""What the client scripts share: endpoints, expected answers, comparing, counting.

Why: every script makes the same kind of statement ("this client, called this way, gets the right answer") and must say
so in one plain line. Who calls it: triton_http.py, triton_grpc.py, kserve_client.py, and perf.sh for its input data.
"""

import argparse
import http.client
import json
import os
import sys
import time
import traceback
from pathlib import Path

import numpy as np

NUMPY = {
    "BOOL": np.bool_, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "UINT8": np.uint8,
    "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "FP16": np.float16, "FP32": np.float32,
    "FP64": np.float64, "BYTES": np.object_,
}  # fmt: skip
TOLERANCE = {"FP16": 1e-2, "FP32": 1e-4, "FP64": 1e-9}
EXTENSIONS = {"binary_tensor_data", "classification", "parameters", "statistics", "model_repository",
              "model_configuration", "schedule_policy", "trace", "logging"}  # fmt: skip

# Every model of the demo registry with the versions it serves, and the fixtures that run.sh puts beside them.
DEMO = {
    "digits-linear": ["1", "2"],
    "digits-cnn": ["1"],
    "breast-cancer-mlp": ["1"],
    "digits-orientation": ["1"],
    "digits-sideways": ["1"],
    "wine-forest": ["1"],
    "wine-linear": ["1"],
    "wine-mlp": ["1"],
    "diabetes-forest": ["1"],
}
IDENTITIES = ["fp32", "fp64", "fp16", "int8", "int16", "int32", "int64", "uint8", "bool", "string"]


class Registry:
    """The registry folder that the server was started on."""

    def __init__(self, root):
        self.root = Path(root)

    def cases(self, model, version="1"):
        """Golden (or expected) cases as [({input: (datatype, array)}, {output: (datatype, array)})]."""
        folder = self.root / model / version
        path = folder / "golden.json"
        path = path if path.exists() else folder / "expected.json"
        return [(tensors(c["inputs"]), tensors(c["outputs"])) for c in json.loads(path.read_text())["cases"]]

    def rows(self, model, version="1"):
        """All golden rows of a one-input model as (input name, array)."""
        cases = self.cases(model, version)
        (name,) = cases[0][0]
        return name, np.concatenate([c[0][name][1] for c in cases])


def tensors(entries):
    return {e["name"]: (e["datatype"], array(e)) for e in entries}


def array(entry):
    data = entry["data"]
    if entry["datatype"] == "BYTES":
        data = [text.encode() for text in data]
    return np.array(data, NUMPY[entry["datatype"]]).reshape(entry["shape"])


def same(want, got, what=""):
    """`got` (numpy, from a client) is the wanted (datatype, array): equal, or within the tolerance for floats."""
    datatype, expected = want
    assert got is not None, f"{what}: no such output in the answer"
    assert list(got.shape) == list(expected.shape), f"{what}: shape {list(got.shape)}, expected {list(expected.shape)}"
    if datatype == "BYTES":
        flat = [v.encode() if isinstance(v, str) else bytes(v) for v in got.reshape(-1).tolist()]
        assert flat == expected.reshape(-1).tolist(), f"{what}: {flat} is not {expected.reshape(-1).tolist()}"
        return
    assert got.dtype == expected.dtype, f"{what}: {got.dtype}, expected {expected.dtype}"
    if datatype in TOLERANCE:
        limit = TOLERANCE[datatype]
        assert np.allclose(got, expected, rtol=limit, atol=limit, equal_nan=True), (
            f"{what}: off by {np.nanmax(np.abs(got.astype(np.float64) - expected.astype(np.float64)))}"
        )
    else:
        assert np.array_equal(got, expected), f"{what}: {got.tolist()} is not {expected.tolist()}"


def bits(array_):
    """The bytes of a tensor, for answers that must be identical and not just close."""
    if array_.dtype == np.object_:
        return [v.encode() if isinstance(v, str) else bytes(v) for v in array_.reshape(-1).tolist()]
    return np.ascontiguousarray(array_).tobytes()


def identical(want, got, what=""):
    assert got is not None, f"{what}: no such output in the answer"
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    assert bits(got) == bits(want), f"{what}: the bits differ: {got.tolist()}, expected {want.tolist()}"


def classes(scores, k):
    """What the classification extension answers for scores [rows, n]: the k best as value and index, per row."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [[(float(row[i]), int(i)) for i in best] for row, best in zip(scores, order)]


def same_classes(got, scores, k):
    """`got` is BYTES [rows, k] of "<value>:<index>[:<label>]", best first."""
    assert got.shape == (len(scores), k), f"shape {got.shape}, expected {(len(scores), k)}"
    for row, texts, best in zip(scores, got.tolist(), classes(scores, k)):
        for text, (value, index) in zip(texts, best):
            text = text.decode() if isinstance(text, bytes) else text
            told_value, told_index = text.split(":")[:2]
            assert abs(float(told_value) - value) <= 2e-4, f"{text!r}: expected the value {value}"
            tied = abs(float(row[int(told_index)]) - value) < 1e-4
            assert int(told_index) == index or tied, f"{text!r}: expected the index {index}"


def raw_http(address, method, path, body=None, headers=None):
    """One request without any client library: (status, headers in lower case, body)."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def strict_json(body):
    """Parses JSON and refuses the bare NaN and Infinity tokens that Python would let pass."""

    def refuse(token):
        raise AssertionError(f"not JSON: {token}")

    return json.loads(body, parse_constant=refuse)


def until(condition, what, seconds=10):
    """Waits for a condition to hold; counters may be published a moment after the answer."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.02)


class Checks:
    """Runs named checks, prints a line for each, and knows the exit code."""

    def __init__(self, client):
        self.client, self.passed, self.failed = client, 0, 0

    def run(self, name, check, *args):
        try:
            check(*args)
        except Exception as error:  # noqa: BLE001 - any failure of a client call is a failed check
            self.failed += 1
            text = str(error) or type(error).__name__
            print(f"FAIL {self.client}: {name}: {' '.join(text.split())[:400]}", flush=True)
            if os.environ.get("CHECKS_TRACE"):
                traceback.print_exc()
        else:
            self.passed += 1
            print(f"ok   {self.client}: {name}", flush=True)

    async def run_async(self, name, check, *args):
        try:
            await check(*args)
        except Exception as error:  # noqa: BLE001
            self.run(name, _raise, error)
        else:
            self.run(name, lambda: None)

    def finish(self):
        print(f"{self.client}: {self.passed} passed, {self.failed} failed", flush=True)
        sys.exit(1 if self.failed else 0)


def _raise(error):
    raise error


def refused(error_type, call, *wanted):
    """`call` fails with `error_type` and its text or status holds every wanted piece; returns the error."""
    try:
        call()
    except error_type as error:
        text = f"{error} {getattr(error, 'status', lambda: '')()}"
        for piece in wanted:
            assert piece in text, f"refused, but {text!r} lacks {piece!r}"
        return error
    raise AssertionError("was not refused")


def setup(client):
    """Command line of a client script: (endpoints of the ready file, Registry, Checks)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready", required=True, help="the server's ready file")
    parser.add_argument("--registry", required=True, help="the folder it serves")
    args = parser.parse_args()
    return json.loads(Path(args.ready).read_text()), Registry(args.registry), Checks(client)
