#!/usr/bin/env python3
"""tritonclient.grpc inference (sync, async_infer, stream, aio) against a running gateway.

Why: this client is what users of the protocol already have; it must work unchanged. Who calls it: run.sh, in a process
of its own, because tritonclient.grpc and kserve register the same messages.
"""

import asyncio
import queue
import threading

import grpc as grpclib
import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
from checks import DEMO, IDENTITIES, bits, identical, same, same_classes, setup
from grpc_case import build, verify
from tritonclient.grpc import service_pb2, service_pb2_grpc

ready, registry, checks = setup("triton_grpc")
ADDRESS = ready["grpc"]
client = grpc.InferenceServerClient(ADDRESS)
channel = grpclib.insecure_channel(ADDRESS)
stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)


def everything():
    return [(m, v, c) for m, versions in DEMO.items() for v in versions for c in registry.cases(m, v)]


# ---- inference ---------------------------------------------------------------------------------------------------


def golden(model, version):
    for case in registry.cases(model, version):
        result = client.infer(model, *build(case)[:1], model_version=version, outputs=build(case)[1])
        answer = result.get_response()
        assert (answer.model_name, answer.model_version) == (model, version), answer
        assert answer.raw_output_contents, "raw in must be raw out"
        verify(case, result)


def identity(kind):
    model = f"identity-{kind}"
    for case in registry.cases(model):
        identical(case[1]["y"][1], client.infer(model, build(case)[0]).as_numpy("y"), "y")


TYPED = {
    "FP32": "fp32_contents", "FP64": "fp64_contents", "INT64": "int64_contents", "INT32": "int_contents",
    "INT16": "int_contents", "INT8": "int_contents", "UINT8": "uint_contents", "BOOL": "bool_contents",
    "BYTES": "bytes_contents",
}  # fmt: skip


def typed(model, version="1"):
    """Typed contents in, typed contents out, with the same bits as raw."""
    for case in registry.cases(model, version):
        request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
        for name, (datatype, value) in case[0].items():
            tensor = request.inputs.add(name=name, datatype=datatype, shape=list(value.shape))
            getattr(tensor.contents, TYPED[datatype]).extend(value.reshape(-1).tolist())
        answer = stub.ModelInfer(request)
        assert not answer.raw_output_contents, "typed in must be typed out"
        raw = client.infer(model, build(case)[0], model_version=version)
        for out in answer.outputs:
            want = raw.as_numpy(out.name)
            got = np.array(list(getattr(out.contents, TYPED[out.datatype])), want.dtype).reshape(list(out.shape))
            assert bits(got) == bits(want), f"{out.name}: typed {got.tolist()}, raw {want.tolist()}"
            same(case[1][out.name], got, out.name)


def outputs_and_parameters():
    case = registry.cases("digits-linear", "2")[1]
    result = client.infer(
        "digits-linear",
        build(case)[0],
        model_version="2",
        outputs=[grpc.InferRequestedOutput("probabilities"), grpc.InferRequestedOutput("label")],
        request_id="a-7",
        priority=1,
        timeout=5_000_000,
        headers={"x-request-id": "trace-me"},
        parameters={"user_id": "u17", "count": 3, "flag": True, "ratio": 0.5},
    )
    answer = result.get_response()
    assert answer.id == "a-7" and [o.name for o in answer.outputs] == ["probabilities", "label"], answer
    verify(case, result)
    for label, version in (("stable", "1"), ("canary", "2")):
        case = registry.cases("digits-linear", version)[2]
        verify(case, client.infer("digits-linear", build(case)[0], model_version=label))


def shapes():
    for case in registry.cases("two-in-two-out"):
        verify(case, client.infer("two-in-two-out", build(case)[0][::-1]))
    for model in ("no-batch", "no-batch-dim-vector"):
        for case in registry.cases(model):
            verify(case, client.infer(model, build(case)[0]))


def classification():
    case = registry.cases("digits-cnn")[2]
    out = grpc.InferRequestedOutput("probabilities", class_count=3)
    result = client.infer("digits-cnn", build(case)[0], outputs=[out])
    same_classes(result.as_numpy("probabilities"), case[1]["probabilities"][1], 3)


def non_finite():
    case = registry.cases("nan-out")[1]
    result = client.infer("nan-out", build(case)[0])
    inverse = result.as_numpy("inverse")
    assert inverse[0, 0] == np.inf and inverse[1, 0] == -np.inf, inverse
    log = result.as_numpy("log")
    assert log[0, 0] == -np.inf and np.isnan(log[2, 1]), log


def compression(algorithm):
    for model, version, case in everything():
        verify(case, client.infer(model, build(case)[0], model_version=version, compression_algorithm=algorithm))


def large():
    """More than the 4 MiB that a gRPC server accepts unless told otherwise."""
    name, rows = registry.rows("digits-linear", "2")
    many = np.tile(rows, (2000, 1))
    want = np.tile(np.concatenate([c[1]["label"][1] for c in registry.cases("digits-linear", "2")]), 2000)
    ins = [grpc.InferInput(name, list(many.shape), "FP32").set_data_from_numpy(many)]
    result = client.infer("digits-linear", ins, outputs=[grpc.InferRequestedOutput("label")])
    same(("INT64", want), result.as_numpy("label"), "label")


# ---- many at once ------------------------------------------------------------------------------------------------


def async_infer():
    work = everything() * 4
    answers = [None] * len(work)
    done = threading.Semaphore(0)

    def keep(i):
        def callback(result, error):
            answers[i] = (result, error)
            done.release()

        return callback

    for i, (model, version, case) in enumerate(work):
        client.async_infer(model, build(case)[0], keep(i), model_version=version, request_id=str(i))
    for _ in work:
        assert done.acquire(timeout=30), "an answer is missing"
    for i, ((_, _, case), (result, error)) in enumerate(zip(work, answers)):
        assert error is None, error
        assert result.get_response().id == str(i)
        verify(case, result)


def stream():
    """Fifty requests on one stream, one of them wrong: its error comes in the stream, and the stream goes on."""
    got = queue.Queue()
    with grpc.InferenceServerClient(ADDRESS) as own:
        own.start_stream(callback=lambda result, error: got.put((result, error)))
        work = (everything() * 3)[:50]
        for i, (model, version, case) in enumerate(work):
            own.async_stream_infer(model, build(case)[0], model_version=version, request_id=str(i))
            if i == 20:
                own.async_stream_infer("no-such-model", build(case)[0], request_id="wrong")
        seen, errors = set(), []
        for _ in range(len(work) + 1):
            result, error = got.get(timeout=30)
            if error is not None:
                errors.append(error)
                continue
            index = int(result.get_response().id)
            verify(work[index][2], result)
            seen.add(index)
        own.stop_stream()
    assert len(seen) == len(work), f"{len(seen)} of {len(work)}"
    assert len(errors) == 1 and "no-such-model" in str(errors[0]), errors


def final_response():
    got = queue.Queue()
    with grpc.InferenceServerClient(ADDRESS) as own:
        own.start_stream(callback=lambda result, error: got.put((result, error)), compression_algorithm="gzip")
        case = registry.cases("digits-cnn")[0]
        own.async_stream_infer("digits-cnn", build(case)[0], enable_empty_final_response=True)
        result, error = got.get(timeout=30)
        own.stop_stream()
    assert error is None, error
    assert result.get_response().parameters["triton_final_response"].bool_param, result.get_response().parameters
    verify(case, result)


# ---- aio ---------------------------------------------------------------------------------------------------------


async def aio_all():
    async with grpc_aio.InferenceServerClient(ADDRESS) as aio:

        async def state():
            assert await aio.is_server_live() and await aio.is_server_ready()
            assert await aio.is_model_ready("digits-cnn")
            assert (await aio.get_server_metadata()).name == "weir"
            assert (await aio.get_model_metadata("digits-cnn")).name == "digits-cnn"
            assert (await aio.get_model_config("digits-cnn")).config.name == "digits-cnn"
            assert (await aio.get_inference_statistics("digits-cnn")).model_stats
            assert (await aio.get_model_repository_index()).models

        async def one(model, version, case):
            verify(case, await aio.infer(model, build(case)[0], model_version=version))

        async def together():
            await asyncio.gather(*(one(*work) for work in everything() * 4))

        async def streamed():
            work = everything()

            async def requests():
                for i, (model, version, case) in enumerate(work):
                    yield {
                        "model_name": model,
                        "model_version": version,
                        "inputs": build(case)[0],
                        "request_id": str(i),
                    }

            seen = 0
            async for result, error in aio.stream_infer(requests()):
                assert error is None, error
                verify(work[int(result.get_response().id)][2], result)
                seen += 1
            assert seen == len(work), f"{seen} of {len(work)}"

        await checks.run_async("aio health, metadata, config, statistics, index", state)
        await checks.run_async("aio 120 requests at once", together)
        await checks.run_async("aio stream_infer", streamed)


def same_port():
    """gRPC is answered on the HTTP port as well."""
    with grpc.InferenceServerClient(ready["http"]) as own:
        case = registry.cases("digits-cnn")[1]
        verify(case, own.infer("digits-cnn", build(case)[0]))


def main():
    for model, versions in DEMO.items():
        for version in versions:
            checks.run(f"{model}/{version} raw", golden, model, version)
            checks.run(f"{model}/{version} typed", typed, model, version)
    for kind in IDENTITIES:
        checks.run(f"identity {kind} raw", identity, kind)
        if kind != "fp16":
            checks.run(f"identity {kind} typed", typed, f"identity-{kind}")
    checks.run("requested outputs, id, parameters, labels", outputs_and_parameters)
    checks.run("several inputs, no batch dimension", shapes)
    checks.run("classification", classification)
    checks.run("non-finite outputs", non_finite)
    checks.run("gzip", compression, "gzip")
    checks.run("deflate", compression, "deflate")
    checks.run("22,000 rows in one request of 5.6 MB", large)
    checks.run("async_infer, 120 requests under way", async_infer)
    checks.run("stream of 50 with one error", stream)
    checks.run("stream, gzip, final response flag", final_response)
    checks.run("gRPC on the HTTP port", same_port)
    asyncio.run(aio_all())
    checks.finish()


if __name__ == "__main__":
    main()
