#!/usr/bin/env python3
"""tritonclient (HTTP and gRPC) calls the demo routes exactly as it calls models.

Why: nobody should need another client, or another way of calling, because a name has several models behind it. Who calls it:
run.sh.
"""

import asyncio
import queue

import grpc_case
import http_case
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http
from checks import refused, same, setup
from routes import PLATFORMS, USERS, VERSIONS, Routes, threshold
from tritonclient.utils import InferenceServerException

ready, registry, checks = setup("triton_routes")
over_http = http.InferenceServerClient(ready["http"])
over_grpc = grpc.InferenceServerClient(ready["grpc"])
CLIENTS = {"HTTP": (over_http, http_case), "gRPC": (over_grpc, grpc_case)}
routes = Routes(registry)


def told(result):
    """The response parameters of either client's answer as plain values."""
    answer = result.get_response()
    if isinstance(answer, dict):
        return answer["parameters"]
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in answer.parameters.items()}


def named(result):
    answer = result.get_response()
    return (answer["model_name"], answer["model_version"]) if isinstance(answer, dict) else (
        answer.model_name, answer.model_version)  # fmt: skip


def cascade_threshold():
    return threshold(over_grpc.get_model_config("digits-cascade").config.parameters["weir_route"].string_value)


def described(route):
    assert over_http.is_model_ready(route) and over_grpc.is_model_ready(route)
    assert over_http.is_model_ready(route, "1") and not over_http.is_model_ready(route, "2")
    metadata, over = over_http.get_model_metadata(route), over_grpc.get_model_metadata(route)
    assert metadata["platform"] == over.platform == PLATFORMS[route], (metadata, over)
    assert metadata["versions"] == list(over.versions) == ["1"], (metadata, over)
    assert [o["name"] for o in metadata["outputs"]] == [o.name for o in over.outputs], (metadata, over)
    config, over = over_http.get_model_config(route), over_grpc.get_model_config(route).config
    assert config["platform"] == over.platform == PLATFORMS[route], (config, over)
    assert config["parameters"]["weir_route"]["string_value"] == over.parameters["weir_route"].string_value
    listed = [m for m in over_http.get_model_repository_index() if m["name"] == route]
    assert [(m["version"], m["state"]) for m in listed] == [("1", "READY")], listed
    assert [m.name for m in over_grpc.get_model_repository_index().models].count(route) == 1


def answers(protocol, route):
    client, encode = CLIENTS[protocol]
    case = routes.cases(cascade_threshold())[route]
    before = counted(route)
    for version in ("", "1"):
        ins, outs = encode.build(case)
        result = client.infer(route, ins, model_version=version, outputs=outs)
        assert named(result) == (route, "1") and told(result)["weir_revision"] == 1, result.get_response()
        encode.verify(case, result)
    assert counted(route) == before + 2
    error = refused(InferenceServerException, lambda: client.infer(route, ins, model_version="2"), "2")
    assert error.status() in ("404", "StatusCode.NOT_FOUND"), error.status()


def counted(route):
    stats = over_grpc.get_inference_statistics(route).model_stats
    assert len(stats) == 1 and over_http.get_inference_statistics(route)["model_stats"][0]["name"] == route
    return stats[0].inference_stats.success.count


def encodings(route):
    case = routes.cases(cascade_threshold())[route]
    for binary_in in (True, False):
        for binary_out in (True, False):
            ins, outs = http_case.build(case, binary_in, binary_out)
            http_case.verify(case, over_http.infer(route, ins, outputs=outs))


def sticky(protocol):
    """A user has one version, however and however often they call, and both are there."""
    client, encode = CLIENTS[protocol]
    seen = {}
    for user in USERS * 2:
        ins = encode.build(routes.split("stable"))[0]
        for more in ({"parameters": {"user_id": user}}, {"headers": {"x-user-id": user}}):
            result = client.infer("digits", ins, **more)
            params = told(result)
            variant = params["weir_variant"]
            assert params["weir_sticky"] is True and params["weir_model"] == "digits-linear", params
            assert params["weir_version"] == VERSIONS[variant], params
            assert seen.setdefault(user, variant) == variant, f"{user}: {variant}, before {seen[user]}"
            encode.verify(routes.split(variant), result)
    assert set(seen.values()) == set(VERSIONS), seen
    assert told(client.infer("digits", ins))["weir_sticky"] is False
    return seen


def both_agree():
    assert sticky("HTTP") == sticky("gRPC")


def explained(protocol):
    client, encode = CLIENTS[protocol]
    for route, (case, path) in (
        ("digits-cascade", routes.cascade(cascade_threshold())),
        ("digits-switch", routes.switch()),
    ):
        result = client.infer(route, encode.build(case)[0], parameters={"weir_explain": True})
        encode.verify(case, result)
        same(("INT32", path), result.as_numpy("weir_path"), "weir_path")
        if route == "digits-cascade":
            last = int(path.sum())
            assert 0 < last < len(path), "the golden rows do not use both stages"
            assert told(result)["weir_stage_rows"] == f"{len(path) - last},{last}", told(result)


def stream():
    got = queue.Queue()
    cases = routes.cases(cascade_threshold())
    with grpc.InferenceServerClient(ready["grpc"]) as own:
        own.start_stream(callback=lambda result, error: got.put((result, error)))
        for route, case in cases.items():
            own.async_stream_infer(route, grpc_case.build(case)[0], request_id=route)
        for _ in cases:
            result, error = got.get(timeout=30)
            assert error is None, error
            grpc_case.verify(cases[result.get_response().id], result)
        own.stop_stream()


async def together():
    cases = routes.cases(cascade_threshold())
    async with grpc_aio.InferenceServerClient(ready["grpc"]) as aio:

        async def one(route, case):
            grpc_case.verify(case, await aio.infer(route, grpc_case.build(case)[0]))

        await asyncio.gather(*(one(*work) for work in list(cases.items()) * 20))


def main():
    for route in PLATFORMS:
        checks.run(f"{route}: ready, metadata, config, index", described, route)
    for route in routes.cases(cascade_threshold()):
        for protocol in CLIENTS:
            checks.run(f"{route}: answers, versions, statistics over {protocol}", answers, protocol, route)
        checks.run(f"{route}: JSON and binary, both ways", encodings, route)
    checks.run("digits: users keep their version, the same over HTTP and gRPC", both_agree)
    for protocol in CLIENTS:
        checks.run(f"weir_explain and weir_stage_rows over {protocol}", explained, protocol)
    checks.run("routes in one stream", stream)
    asyncio.run(checks.run_async("aio 60 requests to routes at once", together))
    checks.finish()


if __name__ == "__main__":
    main()
