#!/usr/bin/env python3
"""kserve's inference clients call the demo routes exactly as they call models.

Why: see triton_routes.py. Who calls it: run.sh, in a process of its own, because kserve and tritonclient.grpc register the same
messages.
"""

import asyncio
import logging

import httpx
from checks import same, setup
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from routes import PLATFORMS, USERS, VERSIONS, Routes, threshold

logging.disable(logging.CRITICAL)  # the SDK logs refused calls, which are wanted here
ready, registry, checks = setup("kserve_routes")
BASE = f"http://{ready['http']}"
routes = Routes(registry)


def request(route, case, binary=True, parameters=None):
    ins = []
    for name, (datatype, value) in case[0].items():
        tensor = InferInput(name, list(value.shape), datatype)
        tensor.set_data_from_numpy(value, binary_data=binary)
        ins.append(tensor)
    return InferRequest(route, ins, parameters=parameters, request_id="k-1")


def verify(case, answer):
    for name, want in case[1].items():
        tensor = answer.get_output_by_name(name)
        assert tensor is not None, f"no output {name}"
        same(want, tensor.as_numpy(), name)


def told(answer):
    """Response parameters as plain values; over gRPC the SDK leaves the protocol's messages."""
    plain = lambda value: getattr(value, value.WhichOneof("parameter_choice")) if hasattr(value, "WhichOneof") else value
    return {name: plain(value) for name, value in (answer.parameters or {}).items()}


async def cascade_threshold():
    async with httpx.AsyncClient() as http:
        config = (await http.get(f"{BASE}/v2/models/digits-cascade/config")).json()
    return threshold(config["parameters"]["weir_route"]["string_value"])


async def both(rest, grpc):
    async def over_rest(route, case, binary, parameters=None):
        return await rest.infer(BASE, request(route, case, binary, parameters), model_name=route)

    async def over_grpc(route, case, binary, parameters=None):
        return await grpc.infer(request(route, case, binary, parameters))

    async def health():
        for route in PLATFORMS:
            assert await rest.is_model_ready(BASE, route) is True, route
            assert await grpc.is_model_ready(route) is True, route

    async def answers(call, route, binary):
        case = routes.cases(await cascade_threshold())[route]
        answer = await call(route, case, binary)
        assert answer.model_name == route and answer.id == "k-1" and told(answer)["weir_revision"] == 1, answer
        verify(case, answer)

    async def sticky():
        seen = {}
        for user in USERS:
            for call in (over_rest, over_grpc) * 2:
                answer = await call("digits", routes.split("stable"), True, {"user_id": user})
                params = told(answer)
                variant = params["weir_variant"]
                assert params["weir_sticky"] is True and params["weir_version"] == VERSIONS[variant], params
                assert seen.setdefault(user, variant) == variant, f"{user}: {variant}, before {seen[user]}"
                verify(routes.split(variant), answer)
        assert set(seen.values()) == set(VERSIONS), seen

    async def explained(call):
        case, path = routes.switch()
        answer = await call("digits-switch", case, True, {"weir_explain": True})
        verify(case, answer)
        same(("INT32", path), answer.get_output_by_name("weir_path").as_numpy(), "weir_path")

    await checks.run_async("routes are ready", health)
    for route in routes.cases(await cascade_threshold()):
        for call, kinds in ((over_rest, ("binary", "JSON")), (over_grpc, ("raw", "typed"))):
            for kind, binary in zip(kinds, (True, False)):
                await checks.run_async(f"{route} {call.__name__} {kind}", answers, call, route, binary)
    await checks.run_async("digits: users keep their version, the same over REST and gRPC", sticky)
    for call in (over_rest, over_grpc):
        await checks.run_async(f"weir_explain {call.__name__}", explained, call)


async def main():
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as rest:
        async with InferenceGRPCClient(ready["grpc"], retries=0) as grpc:
            await both(rest, grpc)


if __name__ == "__main__":
    asyncio.run(main())
    checks.finish()
