"""Pictures out of noise, by the graphs that will be served and the solvers that serve them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from exporters.family import Predict
from serving.diffusion.drawing import Drawing, Sampling, guided
from serving.tasks.generate_images import (
    CONTEXT,
    DECODER,
    LATENTS,
    PIXELS,
    PREDICTION,
    TEXT,
    TIMESTEP,
    TOKENS,
    UNET,
)
from serving.tensors import Array

TOGETHER: Final = 16  # pictures that are drawn side by side


def draw(
    graphs: Mapping[str, Predict], sampling: Sampling, shape: tuple[int, int, int], asked: Asked
) -> Array:
    """Pixels uint8 [N, height, width, 3]. shape: of latents."""
    parts = [asked.part(i, i + TOGETHER) for i in range(0, len(asked.seeds), TOGETHER)]
    return np.concatenate([_draw(graphs, sampling, shape, part) for part in parts])
