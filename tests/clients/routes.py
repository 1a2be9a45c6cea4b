"""What the demo routes must answer: made from the golden answers of their parts, without Weir.

Why: to a client a route is a model, so the same is checked of it, and the right answer follows from its parts. Who calls it:
triton_routes.py and kserve_routes.py.
"""

import json

import numpy as np

PLATFORMS = {
    "digits": "weir_split",
    "digits-cascade": "weir_cascade",
    "digits-switch": "weir_switch",
    "wine-ensemble": "weir_ensemble",
}
USERS = [f"u{number}" for number in range(40)]
VERSIONS = {"stable": "1", "canary": "2"}
MEMBERS = ("wine-forest", "wine-linear", "wine-mlp")


class Routes:
    """Cases of the routes on the registry that the server was started on."""

    def __init__(self, registry):
        self.registry = registry

    def split(self, variant):
        """A case as this variant of `digits` answers it."""
        return self.registry.cases("digits-linear", VERSIONS[variant])[1]

    def cascade(self, threshold):
        """A case of `digits-cascade`, and the stage that answers each row."""
        first, last = (self.registry.cases(*model)[2] for model in (("digits-linear", "2"), ("digits-cnn", "1")))
        sure = first[1]["probabilities"][1].max(axis=1)
        assert np.abs(sure - threshold).min() > 1e-4, "a golden row is too close to the threshold to tell"
        path = (sure < threshold).astype(np.int32)
        return (first[0], merged(path, first[1], last[1])), path

    def switch(self):
        """A case of `digits-switch` with upright and turned digits in turns, and the case that answers each row."""
        turned, upright = (self.registry.cases(*model)[2] for model in (("digits-sideways", "1"), ("digits-linear", "2")))
        path = np.arange(len(turned[0]["pixels"][1]), dtype=np.int32) % 2
        return (merged(path, turned[0], upright[0]), merged(path, turned[1], upright[1])), path

    def ensemble(self):
        """A case of `wine-ensemble`."""
        cases = [self.registry.cases(member)[2] for member in MEMBERS]
        mean = np.mean([case[1]["probabilities"][1].astype(np.float64) for case in cases], axis=0)
        return cases[0][0], {"probabilities": ("FP32", mean.astype(np.float32))}

    def cases(self, threshold):
        """A case of every route that always answers the same, by route."""
        return {
            "digits-cascade": self.cascade(threshold)[0],
            "digits-switch": self.switch()[0],
            "wine-ensemble": self.ensemble(),
        }


def merged(path, *parts):
    """Row by row the tensors of the part that the path names."""
    names = parts[0]
    rows = {name: np.stack([parts[part][name][1][row] for row, part in enumerate(path)]) for name in names}
    return {name: (names[name][0], value) for name, value in rows.items()}


def threshold(config):
    """The threshold of the cascade, from its configuration's `weir_route`."""
    return json.loads(config)["stage"][0]["accept"]["at_least"]
