#!/usr/bin/env python3
"""kserve's inference clients (v2 REST in JSON and binary, gRPC) against a running gateway.

Why: users of KServe bring this SDK; unlike others it parses the bodies of the health routes. Who calls it: run.sh, in a
process of its own, because kserve and tritonclient.grpc register the same messages.
"""

import asyncio
import logging

import grpc
import httpx
from checks import DEMO, IDENTITIES, identical, same, setup
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

logging.disable(logging.CRITICAL)  # the SDK logs refused calls, which are wanted here
ready, registry, checks = setup("kserve")
BASE = f"http://{ready['http']}"


def request(model, case, version="", binary=True, binary_out=None):
    """An InferRequest for a golden case; `binary_out` None asks for no outputs by name."""
    ins = []
    for name, (datatype, value) in case[0].items():
        tensor = InferInput(name, list(value.shape), datatype)
        tensor.set_data_from_numpy(value, binary_data=binary)
        ins.append(tensor)
    wanted = None
    if binary_out is not None:
        wanted = [RequestedOutput(n, {"binary_data": binary_out}) for n in case[1]]
    return InferRequest(model, ins, request_outputs=wanted, model_version=version, request_id="k-1")


def verify(case, answer):
    for name, want in case[1].items():
        tensor = answer.get_output_by_name(name)
        assert tensor is not None, f"no output {name}"
        same(want, tensor.as_numpy(), name)


async def rest_checks():
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as rest:

        async def health():
            assert await rest.is_server_live(BASE) is True
            assert await rest.is_server_ready(BASE) is True
            for model in DEMO:
                assert await rest.is_model_ready(BASE, model) is True, model
            assert await rest.is_model_ready(BASE, "no-such-model") is False

        async def golden(model, binary, binary_out):
            version = DEMO[model][-1]
            for case in registry.cases(model, version):
                answer = await rest.infer(BASE, request(model, case, "", binary, binary_out), model_name=model)
                assert answer.model_name == model and answer.id == "k-1", answer  # the SDK drops the version here
                verify(case, answer)

        async def identity(kind, binary):
            for case in registry.cases(f"identity-{kind}"):
                model = f"identity-{kind}"
                answer = await rest.infer(BASE, request(model, case, "", binary, binary), model_name=model)
                identical(case[1]["y"][1], answer.get_output_by_name("y").as_numpy(), "y")

        async def plain_dict():
            case = registry.cases("digits-cnn")[0]
            pixels = case[0]["pixels"][1]
            body = {"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": pixels.tolist()}]}
            verify(case, await rest.infer(BASE, body, model_name="digits-cnn"))

        async def refused():
            case = registry.cases("digits-cnn")[0]
            try:
                await rest.infer(BASE, request("no-such-model", case), model_name="no-such-model")
            except httpx.HTTPStatusError as error:
                assert error.response.status_code == 404 and "no-such-model" in str(error), error
                return
            raise AssertionError("was not refused")

        await checks.run_async("REST live, ready, model ready", health)
        for model in DEMO:
            for binary, binary_out in ((False, None), (False, False), (True, True), (True, False), (False, True)):
                kinds = {True: "binary", False: "JSON", None: "default"}
                title = f"REST {model} {kinds[binary]} in, {kinds[binary_out]} out"
                await checks.run_async(title, golden, model, binary, binary_out)
        for kind in IDENTITIES:
            for binary in (True, False) if kind != "fp16" else (True,):
                await checks.run_async(f"REST identity {kind} {'binary' if binary else 'JSON'}", identity, kind, binary)
        await checks.run_async("REST plain dict", plain_dict)
        await checks.run_async("REST unknown model", refused)


async def grpc_checks():
    async with InferenceGRPCClient(ready["grpc"], retries=0) as client:

        async def health():
            assert await client.is_server_live() is True
            assert await client.is_server_ready() is True
            for model in DEMO:
                assert await client.is_model_ready(model) is True, model
            assert await client.is_model_ready("no-such-model") is False

        async def golden(model, binary):
            version = DEMO[model][-1]
            for case in registry.cases(model, version):
                answer = await client.infer(request(model, case, version, binary))
                assert answer.model_name == model and answer.model_version == version, answer
                verify(case, answer)

        async def identity(kind, binary):
            for case in registry.cases(f"identity-{kind}"):
                answer = await client.infer(request(f"identity-{kind}", case, "", binary))
                identical(case[1]["y"][1], answer.get_output_by_name("y").as_numpy(), "y")

        async def together():
            work = [(m, c) for m, vs in DEMO.items() for c in registry.cases(m, vs[-1])] * 4

            async def one(model, case):
                verify(case, await client.infer(request(model, case)))

            await asyncio.gather(*(one(*w) for w in work))

        async def refused():
            try:
                await client.infer(request("no-such-model", registry.cases("digits-cnn")[0]))
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.NOT_FOUND, error
                return
            raise AssertionError("was not refused")

        await checks.run_async("gRPC live, ready, model ready", health)
        for model in DEMO:
            for binary in (True, False):
                await checks.run_async(f"gRPC {model} {'raw' if binary else 'typed'}", golden, model, binary)
        for kind in IDENTITIES:
            for binary in (True, False) if kind != "fp16" else (True,):
                await checks.run_async(f"gRPC identity {kind} {'raw' if binary else 'typed'}", identity, kind, binary)
        await checks.run_async("gRPC 108 requests at once", together)
        await checks.run_async("gRPC unknown model", refused)


async def main():
    await rest_checks()
    await grpc_checks()


if __name__ == "__main__":
    asyncio.run(main())
    checks.finish()
