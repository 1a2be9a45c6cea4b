#!/usr/bin/env python3
"""tritonclient.grpc beside plain inference: health, metadata, index, statistics, deadlines, cancellation, errors.

Why: dashboards, load generators and start-up scripts live on these calls. Who calls it: run.sh.
"""

import queue

import grpc as grpclib
import numpy as np
import tritonclient.grpc as grpc
from checks import DEMO, EXTENSIONS, refused, setup, until
from grpc_case import build, verify
from tritonclient.utils import InferenceServerException

ready, registry, checks = setup("triton_grpc_state")
client = grpc.InferenceServerClient(ready["grpc"])
channel = grpclib.insecure_channel(ready["grpc"])


# ---- health, metadata, config, index, statistics -----------------------------------------------------------------


def health():
    assert client.is_server_live() and client.is_server_ready()
    for model, versions in DEMO.items():
        assert client.is_model_ready(model)
        assert all(client.is_model_ready(model, v) for v in versions)
    assert not client.is_model_ready("no-such-model")
    assert not client.is_model_ready("digits-linear", "99")
    assert not client.is_model_ready("unknown-op")


def standard_health():
    """grpc.health.v1 by its bytes: field 1 of the request is the service, field 1 of the answer the status."""
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    for service in ("", "inference.GRPCInferenceService", "digits-cnn"):
        name = service.encode()
        assert check(b"\x0a" + bytes([len(name)]) + name if name else b"") == b"\x08\x01", service
    try:
        check(b"\x0a\x04none")
    except grpclib.RpcError as error:
        assert error.code() == grpclib.StatusCode.NOT_FOUND, error
        return
    raise AssertionError("an unknown service must be NOT_FOUND")


def server_metadata():
    meta = client.get_server_metadata()
    assert meta.name == "weir" and meta.version, meta
    assert EXTENSIONS <= set(meta.extensions), EXTENSIONS - set(meta.extensions)
    assert client.get_server_metadata(as_json=True)["name"] == "weir"


def model_metadata():
    for model, versions in DEMO.items():
        meta = client.get_model_metadata(model)
        assert meta.name == model and meta.platform and sorted(meta.versions) == versions, meta
        case = registry.cases(model, versions[-1])[0]
        for told, side in ((meta.inputs, case[0]), (meta.outputs, case[1])):
            told = {t.name: (t.datatype, list(t.shape)) for t in told}
            assert told == {n: (d, [-1, *v.shape[1:]]) for n, (d, v) in side.items()}, (model, told)
    refused(InferenceServerException, lambda: client.get_model_metadata("no-such-model"), "NOT_FOUND")


def model_config():
    config = client.get_model_config("digits-linear").config
    assert config.name == "digits-linear" and config.max_batch_size > 1, config
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [("pixels", 11, [64])], config
    assert {o.name: o.data_type for o in config.output} == {"label": 9, "probabilities": 11}, config
    assert client.get_model_config("no-batch").config.max_batch_size == 0
    refused(InferenceServerException, lambda: client.get_model_config("no-such-model"), "NOT_FOUND")


def repository_index():
    index = {(m.name, m.version): m for m in client.get_model_repository_index().models}
    for model, versions in DEMO.items():
        assert all(index[(model, v)].state == "READY" for v in versions), index
    broken = [m for (name, _), m in index.items() if name == "unknown-op"]
    assert broken and broken[0].state == "UNAVAILABLE" and "FancyOp" in broken[0].reason, broken


def statistics():
    def snapshot():
        (one,) = client.get_inference_statistics("breast-cancer-mlp", "1").model_stats
        return one

    before = snapshot()
    case = registry.cases("breast-cancer-mlp")[2]
    for _ in range(5):
        client.infer("breast-cancer-mlp", build(case)[0])

    def grown():
        after = snapshot()
        return after if after.inference_stats.success.count - before.inference_stats.success.count == 5 else None

    after = until(grown, "five more successes in the statistics")
    assert after.inference_count - before.inference_count == 35, (before, after)
    assert 1 <= after.execution_count - before.execution_count <= 35, (before, after)
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    assert sum(b.compute_infer.count for b in after.batch_stats) == after.execution_count, after.batch_stats
    refused(InferenceServerException, lambda: client.get_inference_statistics("no-such-model"), "NOT_FOUND")


def settings():
    assert "log_info" in client.get_log_settings().settings
    assert "trace_level" in client.get_trace_settings().settings
    refused(InferenceServerException, lambda: client.update_log_settings({"log_verbose_level": 1}), "UNAVAILABLE", "--log-level")


# ---- deadlines, cancellation, errors -----------------------------------------------------------------------------


def slow_inputs(rows):
    return [grpc.InferInput("x", [rows, 4], "FP32").set_data_from_numpy(np.ones((rows, 4), np.float32))]


def deadlines():
    for more in ({"client_timeout": 0.05}, {"timeout": 1}):
        refused(InferenceServerException, lambda: client.infer("slow", slow_inputs(400), **more), "DEADLINE_EXCEEDED")
    case = registry.cases("slow")[0]
    verify(case, client.infer("slow", build(case)[0], client_timeout=30))


def cancel():
    got = queue.Queue()
    call = client.async_infer("slow", slow_inputs(400), lambda result, error: got.put((result, error)))
    call.cancel()
    result, error = got.get(timeout=30)
    assert result is None and "CANCELLED" in str(error), (result, error)
    case = registry.cases("slow")[1]
    verify(case, client.infer("slow", build(case)[0], client_timeout=30))


def errors():
    case = registry.cases("digits-linear", "2")[0]
    ins, _ = build(case)
    zeros = np.zeros((1, 64), np.float32)
    wrong_shape = [grpc.InferInput("pixels", [1, 63], "FP32").set_data_from_numpy(zeros[:, :63].copy())]
    wrong_type = [grpc.InferInput("pixels", [1, 64], "FP64").set_data_from_numpy(zeros.astype(np.float64))]
    wrong_name = [grpc.InferInput("pixel", [1, 64], "FP32").set_data_from_numpy(zeros)]
    region = grpc.InferInput("pixels", [1, 64], "FP32")
    region.set_shared_memory("region", 256)
    nothing = [grpc.InferRequestedOutput("nothing")]
    for code, text, call in (
        ("NOT_FOUND", "no-such-model", lambda: client.infer("no-such-model", ins)),
        ("NOT_FOUND", "99", lambda: client.infer("digits-linear", ins, model_version="99")),
        ("INVALID_ARGUMENT", "version", lambda: client.infer("digits-linear", ins, model_version="1e3")),
        ("UNAVAILABLE", "unknown-op", lambda: client.infer("unknown-op", ins)),
        ("INVALID_ARGUMENT", "pixels", lambda: client.infer("digits-linear", wrong_shape)),
        ("INVALID_ARGUMENT", "FP64", lambda: client.infer("digits-linear", wrong_type)),
        ("INVALID_ARGUMENT", "pixel", lambda: client.infer("digits-linear", wrong_name)),
        ("INVALID_ARGUMENT", "pixels", lambda: client.infer("digits-linear", ins + ins)),
        ("INVALID_ARGUMENT", "nothing", lambda: client.infer("digits-linear", ins, outputs=nothing)),
        ("UNIMPLEMENTED", "shared memory", lambda: client.infer("digits-linear", [region])),
        ("UNIMPLEMENTED", "", lambda: client.get_system_shared_memory_status()),
        ("UNIMPLEMENTED", "", lambda: client.get_cuda_shared_memory_status()),
        ("UNAVAILABLE", "explicit", lambda: client.load_model("digits-linear")),
        ("UNAVAILABLE", "explicit", lambda: client.unload_model("digits-linear")),
        ("UNIMPLEMENTED", "", lambda: client.load_model("digits-linear", config="{}")),
    ):
        refused(InferenceServerException, call, code, text)


def main():
    checks.run("health and model ready", health)
    checks.run("grpc.health.v1", standard_health)
    checks.run("server metadata", server_metadata)
    checks.run("model metadata", model_metadata)
    checks.run("model config", model_config)
    checks.run("repository index", repository_index)
    checks.run("statistics", statistics)
    checks.run("trace and log settings", settings)
    checks.run("deadlines", deadlines)
    checks.run("cancellation", cancel)
    checks.run("errors", errors)
    checks.finish()


if __name__ == "__main__":
    main()
