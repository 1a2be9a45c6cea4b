"""Two small neural networks in plain numpy, with their training loop.

Why: the demo models are trained without a deep-learning framework, so that anybody can repeat it in seconds.
Who calls it: make_models.py, after it has limited numpy to one thread.
"""

import numpy as np

SEED = 7


def softmax(logits):
    """Row-wise probabilities of logits [rows, classes]."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


class Adam:
    """Adam over a dict of parameter arrays, updated in place."""

    def __init__(self, params, rate, decay):
        self.params, self.rate, self.decay, self.step = params, rate, decay, 0
        self.first = {k: np.zeros_like(v) for k, v in params.items()}
        self.second = {k: np.zeros_like(v) for k, v in params.items()}

    def update(self, grads, scale):
        self.step += 1
        for name, grad in grads.items():
            weight = self.params[name]
            if weight.ndim > 1:
                grad = grad + self.decay * weight
            self.first[name] = 0.9 * self.first[name] + 0.1 * grad
            self.second[name] = 0.999 * self.second[name] + 0.001 * grad * grad
            mean = self.first[name] / (1 - 0.9**self.step)
            spread = np.sqrt(self.second[name] / (1 - 0.999**self.step))
            weight -= (scale * self.rate * mean / (spread + 1e-8)).astype(np.float32)


def fit(net, rows, labels, *, epochs, rate, decay, augment=None):
    """Trains `net` (params, forward, backward) on rows with cross entropy; the rate falls as a cosine."""
    rng = np.random.default_rng(SEED)
    adam = Adam(net.params, rate, decay)
    for epoch in range(epochs):
        scale = 0.5 * (1 + np.cos(np.pi * epoch / epochs))
        order = rng.permutation(len(rows))
        for start in range(0, len(order), 32):
            take = order[start : start + 32]
            batch = augment(rng, rows[take]) if augment else rows[take]
            delta = softmax(net.forward(batch))
            delta[np.arange(len(take)), labels[take]] -= 1
            adam.update(net.backward(delta / len(take)), scale)
    return net


def he(rng, fan_in, shape):
    return (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)


class Mlp:
    """Dense layers with ReLU between them: widths [in, hidden…, classes]."""

    def __init__(self, widths):
        rng = np.random.default_rng(SEED)
        self.layers = len(widths) - 1
        self.params = {}
        for i in range(self.layers):
            self.params[f"w{i}"] = he(rng, widths[i], (widths[i], widths[i + 1]))
            self.params[f"b{i}"] = np.zeros(widths[i + 1], np.float32)

    def forward(self, x):
        self.kept = []
        for i in range(self.layers):
            self.kept.append(x)
            x = x @ self.params[f"w{i}"] + self.params[f"b{i}"]
            if i + 1 < self.layers:
                x = np.maximum(x, 0)
        return x

    def backward(self, delta):
        grads = {}
        for i in reversed(range(self.layers)):
            grads[f"w{i}"] = self.kept[i].T @ delta
            grads[f"b{i}"] = delta.sum(axis=0)
            if i:
                delta = (delta @ self.params[f"w{i}"].T) * (self.kept[i] > 0)
        return grads


def windows(x):
    """All 3x3 windows of x [n, c, h, w] with a border of zeros: [n, h, w, c*9]."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return view.transpose(0, 2, 3, 1, 4, 5).reshape(n, h, w, c * 9)


def unwindows(delta, channels):
    """The gradient of `windows`: sums window gradients [n, h, w, c*9] back onto [n, c, h, w]."""
    n, h, w, _ = delta.shape
    delta = delta.reshape(n, h, w, channels, 3, 3)
    padded = np.zeros((n, channels, h + 2, w + 2), np.float32)
    for i in range(3):
        for j in range(3):
            padded[:, :, i : i + h, j : j + w] += delta[:, :, :, :, i, j].transpose(0, 3, 1, 2)
    return padded[:, :, 1:-1, 1:-1]


class Cnn:
    """conv3x3(1→16) ReLU, conv3x3(16→32) ReLU, max-pool 2, dense 64 ReLU, dense 10; takes rows of 64 pixels in 0..1."""

    def __init__(self):
        rng = np.random.default_rng(SEED)
        self.head = Mlp([512, 64, 10])
        self.params = {
            "c0": he(rng, 9, (16, 9)),
            "cb0": np.zeros(16, np.float32),
            "c1": he(rng, 144, (32, 144)),
            "cb1": np.zeros(32, np.float32),
            **self.head.params,
        }

    def forward(self, rows):
        p = self.params
        self.win0 = windows(rows.reshape(-1, 1, 8, 8))
        self.a0 = np.maximum(self.win0 @ p["c0"].T + p["cb0"], 0).transpose(0, 3, 1, 2)
        self.win1 = windows(self.a0)
        self.a1 = np.maximum(self.win1 @ p["c1"].T + p["cb1"], 0).transpose(0, 3, 1, 2)
        n = len(rows)
        blocks = self.a1.reshape(n, 32, 4, 2, 4, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, 32, 4, 4, 4)
        self.winner = blocks.argmax(axis=-1)
        return self.head.forward(blocks.max(axis=-1).reshape(n, 512))

    def backward(self, delta):
        grads = self.head.backward(delta)
        n = len(delta)
        pooled = ((delta @ self.params["w1"].T) * (self.head.kept[1] > 0)) @ self.params["w0"].T
        blocks = np.zeros((n, 32, 4, 4, 4), np.float32)
        np.put_along_axis(blocks, self.winner[..., None], pooled.reshape(n, 32, 4, 4, 1).astype(np.float32), axis=-1)
        grid = blocks.reshape(n, 32, 4, 4, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, 32, 8, 8)
        grid = (grid * (self.a1 > 0)).transpose(0, 2, 3, 1)
        grads["c1"] = grid.reshape(-1, 32).T @ self.win1.reshape(-1, 144)
        grads["cb1"] = grid.sum(axis=(0, 1, 2))
        below = unwindows(grid @ self.params["c1"], 16)
        below = (below * (self.a0 > 0)).transpose(0, 2, 3, 1)
        grads["c0"] = below.reshape(-1, 16).T @ self.win0.reshape(-1, 9)
        grads["cb0"] = below.sum(axis=(0, 1, 2))
        return grads


def shift_pixels(rng, rows):
    """Moves each 8x8 image by at most one pixel in each direction, which is what handwriting does anyway."""
    images = np.pad(rows.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    moves = rng.integers(0, 3, (len(rows), 2))
    return np.stack([im[i : i + 8, j : j + 8] for im, (i, j) in zip(images, moves)]).reshape(-1, 64)
