"""tritonclient.grpc requests made from golden cases.

Why: both gRPC scripts build the same requests. Who calls it: triton_grpc.py and triton_grpc_state.py.
"""

import tritonclient.grpc as grpc
from checks import same


def build(case, outputs=None):
    """tritonclient inputs and requested outputs for a golden case."""
    ins = []
    for name, (datatype, value) in case[0].items():
        ins.append(grpc.InferInput(name, list(value.shape), datatype).set_data_from_numpy(value))
    return ins, [grpc.InferRequestedOutput(n) for n in (outputs or case[1])]


def verify(case, result):
    for name, want in case[1].items():
        same(want, result.as_numpy(name), name)
