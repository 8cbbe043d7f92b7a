"""A version whose U-Net costs what U-Nets cost: convolutions, group norms, attention to itself and to the text.

It knows nothing; its weights are chance.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tiny
import torch
from torch import nn
from torch.nn import functional

from exporters import to_onnx
from exporters.graph_config import make_config
from serving.drawing_task import CONTEXT, LATENTS, TEXT, TIMESTEP, TOKENS, UNET
from serving.repository.config import write_config
from serving.tasks.generate_images import GenerateImages

WIDTH, CHANNELS, LENGTH = 32, 64, 6


class _Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first, self.second = nn.GroupNorm(8, before), nn.GroupNorm(8, after)
        self.one, self.two = (nn.Conv2d(size, after, 3, padding=1) for size in (before, after))
        self.time, self.past = nn.Linear(CHANNELS, after), nn.Conv2d(before, after, 1)

    def forward(self, x, time):
        found = self.one(functional.silu(self.first(x))) + self.time(time)[:, :, None, None]
        return self.past(x) + self.two(functional.silu(self.second(found)))


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.query, self.out = (
            nn.GroupNorm(8, CHANNELS),
            nn.Linear(CHANNELS, CHANNELS),
            nn.Linear(CHANNELS, CHANNELS),
        )
        self.keys, self.values = nn.Linear(width, CHANNELS), nn.Linear(width, CHANNELS)

    def forward(self, x, context=None):
        places = self.norm(x).flatten(2).transpose(1, 2)
        seen = places if context is None else context
        asked = (part.unsqueeze(1) for part in (self.query(places), self.keys(seen), self.values(seen)))  # one head
        found = functional.scaled_dot_product_attention(*asked).squeeze(1)
        return x + self.out(found).transpose(1, 2).reshape(x.shape)


class _UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, CHANNELS, 3, padding=1), nn.Conv2d(CHANNELS, 3, 3, padding=1)
        self.down, self.deep, self.up = (
            _Block(CHANNELS, CHANNELS),
            _Block(CHANNELS, CHANNELS),
            _Block(2 * CHANNELS, CHANNELS),
        )
        self.smaller = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1)
        self.itself, self.text = _Attention(CHANNELS), _Attention(WIDTH)

    def forward(self, latents, timestep, context):
        waves = timestep * torch.exp(-torch.arange(CHANNELS // 2) / 4)
        time = torch.cat([waves.sin(), waves.cos()], dim=1)
        high = self.down(self.first(latents), time)
        low = self.text(self.itself(self.deep(self.smaller(high), time)), context)
        return self.last(self.up(torch.cat([functional.interpolate(low, scale_factor=2.0), high], dim=1), time))


class _Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(len(tiny.DRAWING_WORDS), WIDTH)

    def forward(self, tokens):
        return self.words(tokens)


def add_unet(root: Path, *, side: int = 16, instances: int = 1, **changes) -> None:
    """Publishes generate-images/1, of pictures of `side` pixels. changes: of the manifest's preprocessing."""
    name = "generate-images"
    folder = tiny.add_diffusion(root, name, size=side)
    torch.manual_seed(0)
    rows = {
        LATENTS: np.zeros((2, 3, side, side), np.float32),
        TIMESTEP: np.zeros((2, 1), np.float32),
        CONTEXT: np.zeros((2, LENGTH, WIDTH), np.float32),
    }
    for role, graph, network, example in (
        (UNET, name, _UNet(), rows),
        (TEXT, f"{name}.text", _Text(), {TOKENS: np.zeros((2, LENGTH), np.int64)}),
    ):
        content = to_onnx.export(network, GenerateImages.signatures[role], example)
        (root / graph / "1/model.onnx").write_bytes(content)
        config = make_config(content, graph, max_batch_size=16, instances=instances)
        write_config(root / graph / "config.pbtxt", config)
    graphs = {UNET: name, TEXT: f"{name}.text", "decoder": f"{name}.decoder"}
    preprocessing = tiny.drawing_preprocessing(side) | {"clip": None, **changes}
    tiny.write_graphs_manifest(folder, graphs, task=name, labels=None, preprocessing=preprocessing)
