#!/usr/bin/env python3
"""Trains a small model of every family that people export to ONNX, exports it as its exporter writes it, and stores ONNX
Runtime's answers for one, three and 32 real rows.

Why: what people serve comes out of exporters, not out of the standard's test cases; the engine has to load it and answer the
same. Who calls it: a person who adds a family or moves to newer exporters. The test uses the committed files only.

Usage: python tests/exporters/make.py [NAME ...]   (packages: requirements.txt here; all families where none is named)
"""

import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fixtures"))

import boosters  # noqa: E402
import sklearn_models  # noqa: E402
import torch_models  # noqa: E402
from make_fixtures import json, tensor_json  # noqa: E402

MAX_MODEL_BYTES = 200_000


def plain(answer):
    """A tensor; of a list of maps from class to probability, the probabilities in the order of the classes."""
    if isinstance(answer, list) and answer and isinstance(answer[0], dict):
        return np.array([[row[key] for key in sorted(row)] for row in answer], np.float32)
    return np.asarray(answer)


def save(name, family, made, feeds):
    """One folder: the model, and the answers with the name of the family."""
    folder = HERE / name / "1"
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.mkdir(parents=True)
    data = made if isinstance(made, bytes) else made.SerializeToString(deterministic=True)
    assert len(data) <= MAX_MODEL_BYTES, f"{name}: {len(data)} bytes"
    (folder / "model.onnx").write_bytes(data)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    lines = []
    for feed in feeds:
        answers = [plain(answer) for answer in session.run(names, feed)]
        case = {
            "inputs": [tensor_json(key, value) for key, value in feed.items()],
            "outputs": [tensor_json(key, value) for key, value in zip(names, answers)],
        }
        lines.append(json.dumps(case, separators=(",", ":")))
    head = '{"family":' + json.dumps(family) + ',"cases":[\n'
    (folder / "expected.json").write_text(head + ",\n".join(lines) + "\n]}\n")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{name}: {family}; model {len(data)} bytes, folder {size}", flush=True)


def batches(columns, sizes=(1, 3, 32)):
    """Requests of so many rows, one after the other, from {input: rows}."""
    feeds, at = [], 0
    for size in sizes:
        feeds.append({name: np.ascontiguousarray(rows[at : at + size]) for name, rows in columns.items()})
        at += size
    return feeds


def main():
    warnings.simplefilter("ignore")
    ort.set_default_logger_severity(3)
    wanted, failed = sys.argv[1:], []
    for module in [sklearn_models, boosters, torch_models]:
        for name, (family, build) in module.FAMILIES.items():
            if wanted and name not in wanted:
                continue
            try:
                made, columns = build()
                save(name, family, made, batches(columns))
            except Exception as error:  # the others are made all the same
                failed.append(name)
                print(f"{name}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    print(f"not made: {failed}" if failed else "all made")


if __name__ == "__main__":
    main()
