#!/usr/bin/env python3
"""The Python of docs/assignment.md, run as it stands there, gives the variants that the server gives.

Why: people reproduce assignments in notebooks from that text. Both sides are held against assignment.jsonl: this script for
the documentation, the unit tests of src/compose/assign.rs for the server. Who calls it: run.sh, or a person with --write, which
makes the file anew (from the documentation, never from the server).
"""

import json
import random
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CASES = HERE / "assignment.jsonl"
KEYS = 1000


def documented():
    """The functions of the documentation."""
    text = (HERE.parent.parent / "docs" / "assignment.md").read_text()
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(compile(source, "docs/assignment.md", "exec"), names)  # noqa: S102 - our own documentation
    return names["number"], names["assign"]


def cases():
    """Salts, keys and weights of every kind, the same on every run."""
    draw = random.Random(20240229)
    splits = [
        {"control": 90, "candidate": 10},
        {"control": 80, "candidate": 20},
        {"a": 1, "b": 1, "c": 1},
        {"off": 0, "half": 0.5, "tiny": 1e-6, "much": 1e6, "größer": 2.25},
        {"only": 3},
    ]
    for i in range(KEYS):
        keys = [f"u{i}".encode(), str(i).encode(), f"Ünïcode {i}".encode(), draw.randbytes(i % 40), b"k" * (i % 600 if i % 50 == 4 else 1)]
        yield ["checkout-2026-11", "", "зима", "s" * 100][i % 7 % 4], keys[i % 5], splits[i % 11 % 5]


def answers():
    number, assign = documented()
    for salt, key, weights in cases():
        name = assign(salt, key, weights)
        u = number(salt.encode(), key, name.encode())
        shadow = number((salt + "/shadow").encode(), key, b"")
        arms = list(weights.items())
        yield {"salt": salt, "key": key.hex(), "arms": arms, "arm": name, "u": u, "shadow": shadow}


def main():
    if sys.argv[1:] == ["--write"]:
        CASES.write_text("".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers()))
        return
    from checks import setup

    _, _, checks = setup("assignment")
    checks.run(f"docs/assignment.md on {KEYS} keys", compare)
    checks.finish()


def compare():
    wanted = [json.loads(line) for line in CASES.read_text().splitlines()]
    got = json.loads(json.dumps(list(answers())))
    assert len(got) == len(wanted) == KEYS, (len(got), len(wanted))
    for ours, theirs in zip(got, wanted):
        assert ours == theirs, f"{ours}, expected {theirs}"


if __name__ == "__main__":
    main()
