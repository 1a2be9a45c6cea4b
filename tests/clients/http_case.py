"""tritonclient.http requests made from golden cases.

Why: both HTTP scripts build the same requests. Who calls it: triton_http.py and triton_http_state.py.
"""

import tritonclient.http as http
from checks import same


def build(case, binary_in=True, binary_out=True, outputs=None):
    """tritonclient inputs and requested outputs for a golden case."""
    ins = []
    for name, (datatype, value) in case[0].items():
        ins.append(http.InferInput(name, list(value.shape), datatype).set_data_from_numpy(value, binary_data=binary_in))
    return ins, [http.InferRequestedOutput(n, binary_data=binary_out) for n in (outputs or case[1])]


def verify(case, result):
    for name, want in case[1].items():
        same(want, result.as_numpy(name), name)
