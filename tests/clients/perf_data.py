#!/usr/bin/env python3
"""Writes golden rows as perf_analyzer's input files, <model>.json and <model>-answers.json.

Why: load made of real rows. The second file also has the labels that must come back; over HTTP the tool wants every
output there, and compares floats bit by bit, so it serves gRPC only. Who calls it: perf.sh, as `perf_data.py REGISTRY OUT`.
"""

import json
import sys
from pathlib import Path

from checks import Registry

registry, out = Registry(sys.argv[1]), Path(sys.argv[2])
for model, version in (("digits-linear", "2"), ("digits-cnn", "1")):
    data, validation = [], []
    for inputs, outputs in registry.cases(model, version):
        for row, label in zip(inputs["pixels"][1], outputs["label"][1]):
            data.append({"pixels": {"content": row.tolist(), "shape": [64]}})
            validation.append({"label": {"content": [int(label)], "shape": [1]}})
    (out / f"{model}.json").write_text(json.dumps({"data": data}))
    (out / f"{model}-answers.json").write_text(json.dumps({"data": data, "validation_data": validation}))
