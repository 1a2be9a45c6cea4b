#!/usr/bin/env python3
"""Trains the models of this demo registry and writes them with golden answers.

Why: the gateway is shown and tested on models that really learned something. The data sets are the ones that
scikit-learn carries in its package, so nothing is downloaded; the answers in golden.json are ONNX Runtime's.
Who calls it: a person who wants to change a model (`models/README.md` says how). Builds, tests and serving use the
committed files only.

Usage: python models/make_models.py [--out DIR]
"""

import argparse
import json
import os
import tomllib
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one thread: the same sums in the same order on every run

import numpy as np
from export import CASE_ROWS, dump, export_cnn, export_mlp, export_sklearn, publish, run, tensor_json, write_manifest
from nets import SEED, Cnn, Mlp, fit, shift_pixels
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

TRAINED_ON = 800  # digits; the rest of those that are not held out are for calibrating cascades
HERE = Path(__file__).resolve().parent


def report(label, score, path=None):
    size = f"{(path / 'model.onnx').stat().st_size:8} bytes" if path else ""
    print(f"{label:24} {score:52} {size}")


def share_right(answers, truth):
    return (answers["label"] == truth).mean()


# ---- digits ------------------------------------------------------------------------------------------------------


def linear(strength, rows, labels):
    """Scaled pixels into a linear classifier; `strength` is inverse regularisation."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)).fit(rows, labels)


def sideways(rows):
    """Each 8x8 image turned by a quarter, as a sheet that went through the scanner on its side."""
    return np.ascontiguousarray(np.rot90(rows.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64))


def load_split_digits():
    """Rows and labels to train on, to calibrate with, and held out; nothing is in two of them."""
    rows, labels = load_digits(return_X_y=True)
    rows = rows.astype(np.float32)
    rest, test, y_rest, y_test = train_test_split(rows, labels, test_size=500, random_state=SEED, stratify=labels)
    cut = TRAINED_ON
    return (rest[:cut], y_rest[:cut]), (rest[cut:], y_rest[cut:]), (test, y_test)


def make_digits(root):
    train, calibration, test = load_split_digits()
    out = root / "models"
    versions = {1: (300, 0.02), 2: (len(train[0]), 0.05)}  # version: rows trained on, inverse regularisation
    fitted = {v: linear(strength, train[0][:n], train[1][:n]) for v, (n, strength) in versions.items()}
    # The last golden rows are those that version 2 is least sure of: a cascade sends such rows on.
    unsure = np.argsort(fitted[2].predict_proba(test[0]).max(axis=1))
    chosen = [i for i in range(len(test[0])) if i not in set(unsure[:3])][: sum(CASE_ROWS) - 3] + list(unsure[:3])

    answers = {}
    for version, pipeline in fitted.items():
        model = export_sklearn("digits-linear", pipeline, "pixels", 64, named_batch=True)
        session = publish(out, "digits-linear", version, model, test[0][chosen])
        answers[version] = run(session, test[0])
        label = f"digits-linear/{version}"
        report(label, f"accuracy {share_right(answers[version], test[1]):.3f} on {len(test[0])}", out / label)
    write_manifest(out / "digits-linear" / "2")

    net = fit(Cnn(), train[0] / 16, train[1], epochs=60, rate=2e-3, decay=1e-4, augment=shift_pixels)
    session = publish(out, "digits-cnn", 1, export_cnn(net), test[0][chosen])
    answers["cnn"] = run(session, test[0])
    report("digits-cnn/1", f"accuracy {share_right(answers['cnn'], test[1]):.3f} on {len(test[0])}", out / "digits-cnn/1")
    write_rows(root, calibration, test, answers)
    make_sideways(out, train, test, chosen, answers[2])


def write_rows(root, calibration, test, answers):
    """Rows that no model was trained on: labelled ones for `weir calibrate`, and the held-out ones for the tests."""
    samples, held_out = root / "docs/samples", root / "tests/held-out"
    samples.mkdir(parents=True, exist_ok=True)
    held_out.mkdir(parents=True, exist_ok=True)
    dump(samples / "digit.json", {"inputs": [tensor_json("pixels", test[0][:1])]})
    np.savez_compressed(samples / "digits-calibration.npz", pixels=calibration[0].astype(np.uint8), label=calibration[1])
    truth = {"inputs": [tensor_json("pixels", test[0])], "outputs": [tensor_json("truth", test[1].astype(np.int64))]}
    models = [answers[2], answers["cnn"]]
    said = [{"inputs": [], "outputs": [tensor_json(n, a) for n, a in answer.items()]} for answer in models]
    dump(held_out / "digits.json", {"cases": [truth, *said]})
    print(f"{len(calibration[0])} rows to calibrate with, {len(test[0])} held out")


def make_sideways(out, train, test, chosen, upright):
    """What the switch asks: which way up a digit is, and the specialist for those on their side."""
    both = np.concatenate([train[0], sideways(train[0])])
    turned = np.repeat([0, 1], len(train[0]))
    held = np.concatenate([test[0], sideways(test[0])])
    truth = np.concatenate([test[1], test[1]])

    model = export_sklearn("digits-orientation", linear(0.05, both, turned), "pixels", 64, named_batch=True)
    mixed = [i + len(test[0]) * (place % 2) for place, i in enumerate(chosen)]  # every other one on its side
    selector = run(publish(out, "digits-orientation", 1, model, held[mixed]), held)
    score = (selector["label"] == np.repeat([0, 1], len(test[0]))).mean()
    report("digits-orientation/1", f"accuracy {score:.3f} on {len(held)}", out / "digits-orientation/1")

    model = export_sklearn("digits-sideways", linear(0.05, both[len(train[0]) :], train[1]), "pixels", 64, named_batch=True)
    session = publish(out, "digits-sideways", 1, model, sideways(test[0])[chosen])
    on_side = run(session, held)
    score = (on_side["label"][len(test[0]) :] == test[1]).mean()
    report("digits-sideways/1", f"accuracy {score:.3f} on {len(test[0])} on their side", out / "digits-sideways/1")

    chosen_case = selector["probabilities"][:, 1] >= 0.5
    standing = np.concatenate([upright["label"], np.full(len(test[0]), -1)])
    assert not (standing[~chosen_case] == -1).any(), "a digit on its side was taken for an upright one"
    switched = (np.where(chosen_case, on_side["label"], standing) == truth).mean()
    generalist = linear(0.05, both, np.concatenate([train[1], train[1]])).predict(held)
    report("digits-switch", f"accuracy {switched:.3f} on {len(held)}, half of them on their side")
    report("", f"one linear model for both instead: {(generalist == truth).mean():.3f}")


# ---- other data sets ---------------------------------------------------------------------------------------------


def make_breast_cancer(out):
    rows, labels = load_breast_cancer(return_X_y=True)
    train, test, y_train, y_test = train_test_split(
        rows.astype(np.float32), labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    scaler = StandardScaler().fit(train)
    scaled = scaler.transform(train).astype(np.float32)
    net = fit(Mlp([30, 128, 64, 2]), scaled, y_train, epochs=40, rate=1e-3, decay=1e-3)
    model = export_mlp("breast-cancer-mlp", net, scaler.mean_, scaler.scale_)
    session = publish(out, "breast-cancer-mlp", 1, model, test)
    accuracy = share_right(run(session, test), y_test)
    report("breast-cancer-mlp/1", f"accuracy {accuracy:.3f} on {len(test)}", out / "breast-cancer-mlp/1")


def make_wine(out):
    rows, labels = load_wine(return_X_y=True)
    train, test, y_train, y_test = train_test_split(
        rows.astype(np.float32), labels, test_size=0.3, random_state=SEED, stratify=labels
    )
    forest = RandomForestClassifier(n_estimators=80, max_depth=6, random_state=SEED).fit(train, y_train)
    scaler = StandardScaler().fit(train)
    net = fit(Mlp([13, 32, 3]), scaler.transform(train).astype(np.float32), y_train, epochs=200, rate=2e-3, decay=1e-3)
    members = {
        "wine-forest": export_sklearn("wine-forest", forest, "features", 13, named_batch=False),
        "wine-linear": export_sklearn("wine-linear", linear(0.1, train, y_train), "features", 13, named_batch=True),
        "wine-mlp": export_mlp("wine-mlp", net, scaler.mean_, scaler.scale_),
    }
    said = []
    for name, model in members.items():
        answers = run(publish(out, name, 1, model, test), test)
        said.append(answers["probabilities"].astype(np.float64))
        report_wine(f"{name}/1", said[-1], y_test, out / f"{name}/1")
    report_wine("wine-ensemble", np.mean(said, axis=0), y_test)


def report_wine(label, said, truth, path=None):
    said = said / said.sum(axis=1, keepdims=True)  # the last bits of FP32
    right = (said.argmax(axis=1) == truth).mean()
    report(label, f"accuracy {right:.3f}, log loss {log_loss(truth, said):.3f} on {len(truth)}", path)


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


# ---- routes ------------------------------------------------------------------------------------------------------


def report_cascade(root):
    """What the rule of `digits-cascade` gives on the held-out digits, with the threshold that the route has."""
    route = tomllib.loads((HERE / "digits-cascade/route.toml").read_text())
    threshold = route["stage"][0]["accept"]["at_least"]
    truth, first, last = json.loads((root / "tests/held-out/digits.json").read_text())["cases"]
    column = lambda case, name: np.array(next(t["data"] for t in case["outputs"] if t["name"] == name))
    truth, labels = column(truth, "truth"), [column(case, "label") for case in (first, last)]
    kept = column(first, "probabilities").reshape(len(truth), -1).max(axis=1) >= threshold
    right = (np.where(kept, *labels) == truth).mean()
    report("digits-cascade", f"accuracy {right:.3f}, {kept.mean():.1%} answered by the first stage, at {threshold}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE.parent, help="where to write models/, docs/ and tests/")
    root = parser.parse_args().out
    make_digits(root)
    make_breast_cancer(root / "models")
    make_wine(root / "models")
    make_diabetes(root / "models")
    report_cascade(root)


if __name__ == "__main__":
    main()
