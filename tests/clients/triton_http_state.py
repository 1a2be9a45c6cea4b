#!/usr/bin/env python3
"""tritonclient.http beside inference: health, metadata, configuration, index, statistics, settings, errors.

Why: dashboards, load generators and start-up scripts live on these calls. Who calls it: run.sh.
"""

import json

import numpy as np
import tritonclient.http as http
from checks import DEMO, EXTENSIONS, raw_http, refused, setup, until
from http_case import build
from tritonclient.utils import InferenceServerException

ready, registry, checks = setup("triton_http_state")
ADDRESS = ready["http"]
client = http.InferenceServerClient(ADDRESS)


# ---- health, metadata, config, index, statistics -----------------------------------------------------------------


def health():
    assert client.is_server_live() and client.is_server_ready()
    for path, body in (("live", {"live": True}), ("ready", {"ready": True})):
        status, headers, text = raw_http(ADDRESS, "GET", f"/v2/health/{path}")
        assert status == 200 and json.loads(text) == body, (status, text)
        assert headers["content-type"].startswith("application/json"), headers


def model_ready():
    for model, versions in DEMO.items():
        assert client.is_model_ready(model), model
        for version in versions:
            assert client.is_model_ready(model, version), (model, version)
    assert not client.is_model_ready("no-such-model")
    assert not client.is_model_ready("digits-linear", "99")
    assert not client.is_model_ready("unknown-op")


def server_metadata():
    meta = client.get_server_metadata()
    assert meta["name"] == "weir" and meta["version"], meta
    listed = set(meta["extensions"])
    assert EXTENSIONS <= listed, f"missing {EXTENSIONS - listed}"
    assert not any("shared_memory" in e for e in listed), listed


def model_metadata():
    for model, versions in DEMO.items():
        meta = client.get_model_metadata(model)
        assert meta["name"] == model and meta["platform"], meta
        assert sorted(meta["versions"]) == versions, meta
        case = registry.cases(model, versions[-1])[0]
        for kind, side in (("inputs", case[0]), ("outputs", case[1])):
            told = {t["name"]: (t["datatype"], t["shape"]) for t in meta[kind]}
            assert told == {n: (d, [-1, *v.shape[1:]]) for n, (d, v) in side.items()}, (model, told)
    meta = client.get_model_metadata("digits-linear", "1")
    assert meta["versions"] == ["1"] or "1" in meta["versions"], meta


def model_config():
    config = client.get_model_config("digits-linear")
    assert config["name"] == "digits-linear" and config["max_batch_size"] > 1, config
    (entry,) = config["input"]
    assert (entry["name"], entry["data_type"]) == ("pixels", "TYPE_FP32"), entry
    assert [int(d) for d in entry["dims"]] == [64], entry
    outputs = {o["name"]: (o["data_type"], [int(d) for d in o["dims"]]) for o in config["output"]}
    # A tensor [N] has no dims left once the batch is taken away; Triton writes that as [1] with a reshape to [].
    assert outputs["probabilities"] == ("TYPE_FP32", [10]), outputs
    assert outputs["label"][0] == "TYPE_INT64", outputs
    assert client.get_model_config("no-batch")["max_batch_size"] == 0
    refused(InferenceServerException, lambda: client.get_model_config("no-such-model"), "404")


def repository_index():
    index = {(m["name"], m.get("version", "")): m for m in client.get_model_repository_index()}
    for model, versions in DEMO.items():
        for version in versions:
            assert index[(model, version)]["state"] == "READY", index[(model, version)]
    broken = [m for (name, _), m in index.items() if name == "unknown-op"]
    assert broken and broken[0]["state"] == "UNAVAILABLE" and "FancyOp" in broken[0]["reason"], broken
    status, _, body = raw_http(ADDRESS, "POST", "/v2/repository/index", b'{"ready":true}')
    assert status == 200, status
    assert {m["state"] for m in json.loads(body)} == {"READY"}, body


def statistics():
    def snapshot():
        (one,) = client.get_inference_statistics("breast-cancer-mlp", "1")["model_stats"]
        return one

    before = snapshot()
    case = registry.cases("breast-cancer-mlp")[1]
    for _ in range(5):
        client.infer("breast-cancer-mlp", build(case)[0])

    def grown():
        after = snapshot()
        done = after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"]
        return after if done == 5 else None

    after = until(grown, "five more successes in the statistics")
    assert after["inference_count"] - before["inference_count"] == 15, (before, after)
    assert 1 <= after["execution_count"] - before["execution_count"] <= 5, (before, after)
    assert after["last_inference"] >= before["last_inference"] > 0 or after["last_inference"] > 0
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    names = {(s["name"], s["version"]) for s in client.get_inference_statistics()["model_stats"]}
    assert {("digits-linear", "1"), ("digits-linear", "2"), ("wine-forest", "1")} <= names, names


def settings():
    assert "log_info" in client.get_log_settings()
    assert "trace_level" in client.get_trace_settings()
    refused(InferenceServerException, lambda: client.update_log_settings({"log_verbose_level": 1}), "503", "--log-level")
    refused(InferenceServerException, lambda: client.update_trace_settings(settings={"trace_rate": "1"}), "503", "--log-level")


# ---- errors ------------------------------------------------------------------------------------------------------


def errors():
    case = registry.cases("digits-linear", "2")[0]
    ins, _ = build(case)

    def expect(status, text, call):
        refused(InferenceServerException, call, status, text)

    wrong_shape = [http.InferInput("pixels", [1, 63], "FP32").set_data_from_numpy(np.zeros((1, 63), np.float32))]
    wrong_type = [http.InferInput("pixels", [1, 64], "FP64").set_data_from_numpy(np.zeros((1, 64)))]
    wrong_name = [http.InferInput("pixel", [1, 64], "FP32").set_data_from_numpy(np.zeros((1, 64), np.float32))]
    no_rows = [http.InferInput("pixels", [0, 64], "FP32").set_data_from_numpy(np.zeros((0, 64), np.float32))]
    expect("404", "no-such-model", lambda: client.infer("no-such-model", ins))
    expect("404", "99", lambda: client.infer("digits-linear", ins, model_version="99"))
    expect("400", "version", lambda: client.infer("digits-linear", ins, model_version="1e3"))
    expect("503", "unknown-op", lambda: client.infer("unknown-op", ins))
    expect("400", "pixels", lambda: client.infer("digits-linear", wrong_shape))
    expect("400", "FP64", lambda: client.infer("digits-linear", wrong_type))
    expect("400", "pixel", lambda: client.infer("digits-linear", wrong_name))
    expect("400", "pixels", lambda: client.infer("digits-linear", no_rows))
    expect("400", "pixels", lambda: client.infer("digits-linear", ins + ins))
    expect("400", "nothing", lambda: client.infer("digits-linear", ins, outputs=[http.InferRequestedOutput("nothing")]))
    region = http.InferInput("pixels", [1, 64], "FP32").set_shared_memory("region", 256)
    expect("501", "shared memory", lambda: client.infer("digits-linear", [region]))
    expect("501", "", lambda: client.get_system_shared_memory_status())
    expect("503", "explicit", lambda: client.load_model("digits-linear"))
    expect("503", "explicit", lambda: client.unload_model("digits-linear"))
    expect("501", "", lambda: client.load_model("digits-linear", config="{}"))


def error_bodies():
    for method, path, body, wanted in (
        ("GET", "/v2/nothing", None, 404),
        ("GET", "/v2/models/digits-linear/infer", None, 405),
        ("POST", "/v2/models/digits-linear/infer", b"", 400),
        ("POST", "/v2/models/digits-linear/infer", b'{"inputs":[', 400),
        ("POST", "/v2/models/digits-linear/infer", b'{"inputs":[]}', 400),
    ):
        status, headers, text = raw_http(ADDRESS, method, path, body)
        assert status == wanted, (path, body, status, text)
        assert isinstance(json.loads(text)["error"], str) and len(json.loads(text)["error"]) <= 512, text
        assert headers["content-type"].startswith("application/json"), headers


def main():
    checks.run("health", health)
    checks.run("model ready", model_ready)
    checks.run("server metadata", server_metadata)
    checks.run("model metadata", model_metadata)
    checks.run("model config", model_config)
    checks.run("repository index", repository_index)
    checks.run("statistics", statistics)
    checks.run("trace and log settings", settings)
    checks.run("errors", errors)
    checks.run("error bodies", error_bodies)
    checks.finish()


if __name__ == "__main__":
    main()
