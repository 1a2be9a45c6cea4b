"""Families of torch, trained for a moment on digits and exported by both of its exporters. Called by make.py."""

import io

import numpy as np
import torch
from sklearn_models import HELD, cancer, digits
from torch import nn

OPSET = 17
torch.set_num_threads(1)


def images():
    """Digits as [rows, 1, 8, 8], brightness 0 to 1."""
    rows, target = digits()
    return (rows / 16).reshape(-1, 1, 8, 8), target


def rows_of_pixels():
    """The same as eight steps of eight numbers."""
    rows, target = images()
    return rows[:, 0], target


class Residual(nn.Module):
    def __init__(self, channels, stride=1, separable=False):
        super().__init__()
        groups = channels if separable else 1
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, stride, 1, groups=groups, bias=False),
            nn.BatchNorm2d(channels),
            nn.Hardswish() if separable else nn.ReLU(),
            nn.Conv2d(channels, channels, 1 if separable else 3, 1, 0 if separable else 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


class Squeeze(nn.Module):
    """Channels weighed by what is in all of them."""

    def __init__(self, channels):
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 4, 1), nn.ReLU(), nn.Conv2d(4, channels, 1), nn.Hardsigmoid()
        )

    def forward(self, x):
        return x * self.weigh(x)


class Recurrent(nn.Module):
    def __init__(self, cell, **options):
        super().__init__()
        self.cell = cell(8, 24, batch_first=True, **options)
        self.head = nn.Linear(48 if options.get("bidirectional") else 24, 10)

    def forward(self, x):
        steps, _ = self.cell(x)
        return self.head(steps[:, -1])


class Encoder(nn.Module):
    """Two layers of attention over the rows of an image, with learned positions."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 24)
        self.positions = nn.Parameter(torch.randn(1, 8, 24) * 0.1)
        layer = nn.TransformerEncoderLayer(24, 4, 48, dropout=0.0, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        return self.head(self.layers(self.embed(x) + self.positions).mean(1))


class Recommender(nn.Module):
    """Embeddings of two categories, crossed with what a tower makes of the numbers."""

    def __init__(self):
        super().__init__()
        self.user, self.item = nn.Embedding(200, 8), nn.Embedding(300, 8)
        self.bottom = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(11, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())

    def forward(self, numbers, user, item):
        dense = self.bottom(numbers)
        parts = torch.stack([dense, self.user(user), self.item(item)], 1)
        crossed = torch.bmm(parts, parts.transpose(1, 2))
        pairs = torch.stack([crossed[:, 0, 1], crossed[:, 0, 2], crossed[:, 1, 2]], 1)
        return self.top(torch.cat([dense, pairs], 1))


class TextClassifier(nn.Module):
    """Convolutions over token ids, the largest of each taken."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(17, 12, padding_idx=0)
        self.convolve = nn.ModuleList([nn.Conv1d(12, 16, size, padding=size // 2) for size in (3, 5)])
        self.head = nn.Linear(32, 10)

    def forward(self, tokens):
        x = self.embed(tokens).transpose(1, 2)
        return self.head(torch.cat([torch.relu(conv(x)).amax(2) for conv in self.convolve], 1))


class Segments(nn.Module):
    """Down, up again with what was on the way, a class for every pixel."""

    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.middle = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.LeakyReLU(0.1))
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.smooth = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.head = nn.Conv2d(32, 3, 1)

    def forward(self, x):
        wide = self.down(x)
        deep = self.middle(wide)
        return torch.softmax(self.head(torch.cat([wide, self.up(deep), self.smooth(deep)], 1)), 1)


def train(model, rows, target, loss=None):
    torch.manual_seed(0)
    loss = loss or nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    model.train()
    for _ in range(3):
        for start in range(0, len(target) - HELD, 64):
            end = min(start + 64, len(target) - HELD)
            batch = [torch.from_numpy(part[start:end]) for part in rows]
            optimizer.zero_grad()
            loss(model(*batch), torch.from_numpy(target[start:end])).backward()
            optimizer.step()
    return model.eval()


def export(model, names, rows, dynamo):
    sample = tuple(torch.from_numpy(part[:2]) for part in rows)
    buffer = io.BytesIO()
    if dynamo:
        batch = torch.export.Dim("N", min=1, max=4096)
        shapes = tuple({0: batch} for _ in sample)
        program = torch.onnx.export(
            model, sample, input_names=names, output_names=["y"], dynamic_shapes=shapes, dynamo=True, verbose=False
        )
        made = program.model_proto
        for node in made.graph.node:
            # Where each node was in the program is more than half of the file.
            del node.metadata_props[:]
            node.doc_string = ""
        return made
    torch.onnx.export(
        model, sample, buffer, input_names=names, output_names=["y"], opset_version=OPSET, dynamo=False,
        dynamic_axes={name: {0: "N"} for name in [*names, "y"]},
    )
    return buffer.getvalue()


def torched(make, data, dynamo=False, names=("x",), loss=None):
    def build():
        torch.manual_seed(0)
        *rows, target = data()
        model = train(make(), rows, target, loss)
        made = export(model, list(names), rows, dynamo)
        return made, {name: part[-HELD:] for name, part in zip(names, rows)}

    return build


def table():
    rows, target = cancer()
    return ((rows - rows.mean(0)) / rows.std(0)).astype(np.float32), target


def clicks():
    rows, target = table()
    user = (np.abs(rows[:, 10] * 1000).astype(np.int64)) % 200
    item = (np.abs(rows[:, 11] * 1000).astype(np.int64)) % 300
    return np.ascontiguousarray(rows[:, :6]), user, item, target.astype(np.float32).reshape(-1, 1)


def tokens():
    rows, target = digits()
    return rows.astype(np.int64), target


def pixels():
    rows, _ = images()
    return rows, np.digitize(rows[:, 0], [0.2, 0.7]).astype(np.int64)


def mlp():
    return nn.Sequential(
        nn.Linear(30, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 2)
    )


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def resnet():
    return nn.Sequential(
        nn.Conv2d(1, 20, 3, padding=1), nn.BatchNorm2d(20), nn.ReLU(), Residual(20), Residual(20, 2), Residual(20),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 10),
    )  # fmt: skip


def mobile():
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.Hardswish(), Residual(24, separable=True), Squeeze(24),
        Residual(24, 2, separable=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip


def both(name, family, make, data, **options):
    """By the older exporter, which writes what it traced, and by the newer one."""
    return {
        name: (f"{family}, by tracing", torched(make, data, **options)),
        f"{name}-dynamo": (f"{family}, by torch.export", torched(make, data, dynamo=True, **options)),
    }


FAMILIES = {
    **both("torch-mlp", "torch MLP with batch norm", mlp, table),
    **both("torch-cnn", "torch CNN", cnn, images),
    **both("torch-resnet", "torch ResNet-like CNN", resnet, images),
    **both("torch-mobile", "torch depthwise CNN with squeeze and excitation", mobile, images),
    **both("torch-segments", "torch CNN that gives an image, transposed and bilinear", Segments, pixels),
    **both("torch-lstm", "torch LSTM, both directions, two layers",
           lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True), rows_of_pixels),
    "torch-gru": ("torch GRU", torched(lambda: Recurrent(nn.GRU), rows_of_pixels)),
    "torch-rnn": ("torch RNN, relu", torched(lambda: Recurrent(nn.RNN, nonlinearity="relu"), rows_of_pixels)),
    **both("torch-transformer", "torch transformer encoder", Encoder, rows_of_pixels),
    **both("torch-dlrm", "torch recommender with embeddings", Recommender, clicks,
           names=("numbers", "user", "item"), loss=nn.BCELoss()),
    **both("torch-text", "torch convolutions over tokens", TextClassifier, tokens),
}
