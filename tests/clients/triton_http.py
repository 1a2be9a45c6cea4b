#!/usr/bin/env python3
"""tritonclient.http inference (sync, async_infer, aio) against a running gateway.

Why: this client is what users of the protocol already have; it must work unchanged. Who calls it: run.sh.
"""

import asyncio
import json
from pathlib import Path

import numpy as np
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from checks import (
    DEMO, IDENTITIES, identical, raw_http, refused, same, same_classes, setup, strict_json,
)  # fmt: skip
from http_case import build, verify
from tritonclient.utils import InferenceServerException

ready, registry, checks = setup("triton_http")
ADDRESS = ready["http"]
client = http.InferenceServerClient(ADDRESS, concurrency=8)
SAMPLE = Path(__file__).resolve().parents[2] / "docs/samples/digit.json"
MODES = [(i, o) for i in (True, False) for o in (True, False)]


def name_of(binary):
    return "binary" if binary else "JSON"


# ---- inference ---------------------------------------------------------------------------------------------------


def golden(model, version, binary_in, binary_out):
    for case in registry.cases(model, version):
        ins, outs = build(case, binary_in, binary_out)
        result = client.infer(model, ins, model_version=version, outputs=outs)
        answer = result.get_response()
        assert (answer["model_name"], answer["model_version"]) == (model, version), answer
        verify(case, result)


def identity(kind, binary_in, binary_out):
    model = f"identity-{kind}"
    for case in registry.cases(model):
        ins, outs = build(case, binary_in, binary_out)
        result = client.infer(model, ins, outputs=outs)
        identical(case[1]["y"][1], result.as_numpy("y"), "y")


def fp16_json():
    case = registry.cases("identity-fp16")[0]
    ins, _ = build(case)
    refused(
        InferenceServerException,
        lambda: client.infer("identity-fp16", ins, outputs=build(case, True, False)[1]),
        "400",
        "FP16",
    )


def binary_by_default():
    case = registry.cases("digits-cnn")[2]
    verify(case, client.infer("digits-cnn", build(case)[0]))


def several_inputs():
    for binary_in, binary_out in MODES:
        for case in registry.cases("two-in-two-out"):
            ins, outs = build(case, binary_in, binary_out)
            verify(case, client.infer("two-in-two-out", ins[::-1], outputs=outs))
    case = registry.cases("two-in-two-out")[1]
    ins = [build(case, True)[0][0], build(case, False)[0][1]]
    outs = [http.InferRequestedOutput("sum", binary_data=False), http.InferRequestedOutput("double", binary_data=True)]
    verify(case, client.infer("two-in-two-out", ins, outputs=outs))


def some_outputs():
    case = registry.cases("digits-linear", "2")[1]
    for binary in (True, False):
        ins, outs = build(case, True, binary, ["label"])
        result = client.infer("digits-linear", ins, outputs=outs)
        assert [o["name"] for o in result.get_response()["outputs"]] == ["label"]
        same(case[1]["label"], result.as_numpy("label"), "label")
        ins, outs = build(case, True, binary, ["probabilities", "label"])
        result = client.infer("digits-linear", ins, outputs=outs)
        assert [o["name"] for o in result.get_response()["outputs"]] == ["probabilities", "label"]
        verify(case, result)


def no_batch():
    for model in ("no-batch", "no-batch-dim-vector"):
        for case in registry.cases(model):
            verify(case, client.infer(model, build(case)[0]))


def non_finite():
    for case in registry.cases("nan-out"):
        ins, outs = build(case, True, False)
        verify(case_nan(case), client.infer("nan-out", ins, outputs=outs))
    x = np.float32([[-1, 0]])
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": x.reshape(-1).tolist()}]}
    status, _, text = raw_http(ADDRESS, "POST", "/v2/models/nan-out/infer", json.dumps(body).encode())
    assert status == 200, (status, text)
    answer = strict_json(text)
    data = {o["name"]: o["data"] for o in answer["outputs"]}
    assert data == {"log": [None, None], "inverse": [-1.0, None]}, data
    assert "weir_nonfinite" in text.decode(), answer
    ins = [http.InferInput("x", [1, 2], "FP32").set_data_from_numpy(x)]
    result = client.infer("nan-out", ins)
    log, inverse = result.as_numpy("log"), result.as_numpy("inverse")
    assert np.isnan(log[0, 0]) and log[0, 1] == -np.inf and inverse[0, 1] == np.inf, (log, inverse)


def case_nan(case):
    """JSON cannot tell NaN from the infinities: all of them come as null, which numpy reads as NaN."""
    return case[0], {n: (d, np.where(np.isfinite(v), v, np.float32(np.nan))) for n, (d, v) in case[1].items()}


def large():
    name, rows = registry.rows("digits-linear", "2")
    want = np.concatenate([c[1]["label"][1] for c in registry.cases("digits-linear", "2")])
    many = np.tile(rows, (40, 1))
    for binary in (True, False):
        ins = [http.InferInput(name, list(many.shape), "FP32").set_data_from_numpy(many, binary_data=binary)]
        outs = [http.InferRequestedOutput("label", binary_data=binary)]
        same(("INT64", np.tile(want, 40)), client.infer("digits-linear", ins, outputs=outs).as_numpy("label"), "label")


def compression(request, response, binary):
    case = registry.cases("digits-cnn")[2]
    ins, outs = build(case, binary, binary)
    result = client.infer(
        "digits-cnn",
        ins,
        outputs=outs,
        request_compression_algorithm=request,
        response_compression_algorithm=response,
    )
    verify(case, result)


def compressed_really():
    """The response is compressed when asked for, not merely readable."""
    body = (registry.root / "digits-cnn/1/golden.json").read_text()
    request = json.dumps({"inputs": json.loads(body)["cases"][2]["inputs"]}).encode()
    for encoding in ("gzip", "deflate"):
        status, headers, _ = raw_http(
            ADDRESS, "POST", "/v2/models/digits-cnn/infer", request, {"Accept-Encoding": encoding}
        )
        assert status == 200 and headers.get("content-encoding") == encoding, (status, headers)
    status, headers, _ = raw_http(ADDRESS, "POST", "/v2/models/digits-cnn/infer", request, {"Content-Encoding": "br"})
    assert 400 <= status < 500 and "gzip" in headers.get("accept-encoding", ""), (status, headers)


def classification():
    case = registry.cases("digits-cnn")[2]
    scores = case[1]["probabilities"][1]
    for binary in (True, False):
        out = http.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)
        result = client.infer("digits-cnn", build(case)[0], outputs=[out])
        (entry,) = result.get_response()["outputs"]
        assert entry["datatype"] == "BYTES" and entry["shape"] == [7, 3], entry
        same_classes(result.as_numpy("probabilities"), scores, 3)


def parameters():
    case = registry.cases("digits-linear", "1")[0]
    result = client.infer(
        "digits-linear",
        build(case)[0],
        model_version="1",
        request_id="a-7",
        priority=1,
        timeout=5_000_000,
        parameters={"user_id": "u17", "count": 3, "flag": True, "ratio": 0.5},
        headers={"x-request-id": "trace-me"},
    )
    assert result.get_response()["id"] == "a-7", result.get_response()
    verify(case, result)
    body = json.dumps({"inputs": golden_inputs("digits-linear", 0)}).encode()
    status, headers, _ = raw_http(
        ADDRESS, "POST", "/v2/models/digits-linear/infer", body, {"x-request-id": "trace-me"}
    )
    assert status == 200 and headers.get("x-request-id") == "trace-me", (status, headers)


def golden_inputs(model, index):
    text = (registry.root / model / "1" / "golden.json").read_text()
    return json.loads(text)["cases"][index]["inputs"]


def labels():
    for label, version in (("stable", "1"), ("canary", "2")):
        case = registry.cases("digits-linear", version)[1]
        result = client.infer("digits-linear", build(case)[0], model_version=label)
        assert result.get_response()["model_version"] == version, result.get_response()
        verify(case, result)


def nested_json():
    case = registry.cases("digits-cnn")[1]
    pixels = case[0]["pixels"][1]
    for data in (pixels.tolist(), pixels.astype(int).reshape(-1).tolist()):
        body = {"inputs": [{"name": "pixels", "shape": [3, 64], "datatype": "FP32", "data": data}]}
        status, _, text = raw_http(ADDRESS, "POST", "/v2/models/digits-cnn/infer", json.dumps(body).encode())
        assert status == 200, (status, text)
        told = {o["name"]: o for o in strict_json(text)["outputs"]}
        assert told["label"]["data"] == case[1]["label"][1].tolist(), told["label"]


def raw_binary():
    case = registry.cases("digits-cnn")[0]
    status, headers, body = raw_http(
        ADDRESS,
        "POST",
        "/v2/models/digits-cnn/infer",
        case[0]["pixels"][1].tobytes(),
        {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"},
    )
    assert status == 200, (status, body)
    size = int(headers["inference-header-content-length"])
    verify(case, http.InferenceServerClient.parse_response_body(body, header_length=size))


def sample():
    status, _, body = raw_http(ADDRESS, "POST", "/v2/models/digits-cnn/infer", SAMPLE.read_bytes())
    assert status == 200, (status, body)
    told = {o["name"]: o["data"] for o in strict_json(body)["outputs"]}
    assert told["label"] == [6], told


# ---- many at once -------------------------------------------------------------------------------------------------


def async_infer():
    work = [(m, v, c) for m, versions in DEMO.items() for v in versions for c in registry.cases(m, v)] * 3
    handles = []
    for i, (model, version, case) in enumerate(work):
        ins, outs = build(case, *MODES[i % 4])
        handles.append(client.async_infer(model, ins, model_version=version, outputs=outs, request_id=str(i)))
    for i, (handle, (_, _, case)) in enumerate(zip(handles, work)):
        result = handle.get_result()
        assert result.get_response()["id"] == str(i)
        verify(case, result)


async def aio_all():
    async with http_aio.InferenceServerClient(ADDRESS) as aio:

        async def state():
            assert await aio.is_server_live() and await aio.is_server_ready()
            assert await aio.is_model_ready("digits-cnn")
            assert (await aio.get_server_metadata())["name"] == "weir"
            assert (await aio.get_model_metadata("digits-cnn"))["name"] == "digits-cnn"
            assert (await aio.get_model_config("digits-cnn"))["name"] == "digits-cnn"
            assert (await aio.get_inference_statistics("digits-cnn"))["model_stats"]
            assert await aio.get_model_repository_index()

        async def one(model, version, case, mode, **more):
            ins, outs = build(case, *mode)
            verify(case, await aio.infer(model, ins, model_version=version, outputs=outs, **more))

        async def together():
            work = [(m, v, c, mode) for m, vs in DEMO.items() for v in vs for c in registry.cases(m, v) for mode in MODES]
            await asyncio.gather(*(one(*w) for w in work))

        async def packed():
            case = registry.cases("digits-cnn")[2]
            for algorithm in ("gzip", "deflate"):
                for mode in MODES:
                    more = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
                    await one("digits-cnn", "1", case, mode, **more)

        async def wrong():
            try:
                await aio.infer("no-such-model", build(registry.cases("digits-cnn")[0])[0])
            except InferenceServerException as error:
                assert error.status() == "404", error
                return
            raise AssertionError("was not refused")

        await checks.run_async("aio health, metadata, config, statistics, index", state)
        await checks.run_async("aio 120 requests at once, all encodings", together)
        await checks.run_async("aio gzip and deflate", packed)
        await checks.run_async("aio error", wrong)


def main():
    for model, versions in DEMO.items():
        for version in versions:
            for mode in MODES:
                title = f"{model}/{version} {name_of(mode[0])} in, {name_of(mode[1])} out"
                checks.run(title, golden, model, version, *mode)
    for kind in IDENTITIES:
        for mode in MODES if kind != "fp16" else [(True, True)]:
            checks.run(f"identity {kind} {name_of(mode[0])} in, {name_of(mode[1])} out", identity, kind, *mode)
    checks.run("FP16 has no JSON form", fp16_json)
    checks.run("binary outputs by default", binary_by_default)
    checks.run("several inputs and outputs, mixed encodings", several_inputs)
    checks.run("requested outputs and their order", some_outputs)
    checks.run("models without batch dimension", no_batch)
    checks.run("non-finite outputs", non_finite)
    checks.run("440 rows in one request", large)
    for request in (None, "gzip", "deflate"):
        for response in (None, "gzip", "deflate"):
            for binary in (True, False):
                title = f"compression {request} in, {response} out, {name_of(binary)}"
                checks.run(title, compression, request, response, binary)
    checks.run("responses are compressed, unknown encodings refused", compressed_really)
    checks.run("classification", classification)
    checks.run("id, parameters, priority, timeout, request id", parameters)
    checks.run("version labels", labels)
    checks.run("nested JSON, integers for FP32", nested_json)
    checks.run("raw binary request", raw_binary)
    checks.run("the sample digit", sample)
    checks.run("async_infer, 90 requests under way", async_infer)
    asyncio.run(aio_all())
    checks.finish()


if __name__ == "__main__":
    main()
