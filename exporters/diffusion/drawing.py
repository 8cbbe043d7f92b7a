"""Pictures out of noise, by the graphs that will be served and the solvers that serve them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from exporters.family import Predict
from serving.diffusion.drawing import Drawing, Sampling, guided
from serving.drawing_task import (
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

TOGETHER: Final = 8  # pictures that are drawn side by side, in batches of twice as many rows
Graphs = Mapping[str, Predict]
Shape = tuple[int, int, int]  # of latents


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be drawn: tokens int64 [N, longest], those of no prompt [1, longest], and a seed for each picture."""

    tokens: Array
    null: Array
    seeds: Sequence[int]


def draw(graphs: Graphs, sampling: Sampling, shape: Shape, asked: Asked) -> Array:
    """Pixels uint8 [N, height, width, 3]."""
    context = graphs[TEXT]({TOKENS: asked.tokens})[CONTEXT]
    without = graphs[TEXT]({TOKENS: asked.null})[CONTEXT]
    found = []
    for start in range(0, len(asked.seeds), TOGETHER):
        some = context[start : start + TOGETHER]
        drawings = [Drawing.begin(sampling.plan(), shape, seed) for seed in asked.seeds[start : start + TOGETHER]]
        while not drawings[0].done:
            drawings = _step(graphs, drawings, some, without, sampling.guidance)
        found.append(graphs[DECODER]({LATENTS: np.stack([one.latents for one in drawings])})[PIXELS])
    return np.concatenate(found)


def _step(graphs: Graphs, drawings: list[Drawing], asked: Array, without: Array, guidance: float) -> list[Drawing]:
    """All of them by one step; as the task does, without the rows of no prompt where guidance is 1."""
    count, rounds = len(drawings), 1 if guidance == 1 else 2
    inputs = {
        LATENTS: np.stack([one.latents for one in drawings] * rounds),
        TIMESTEP: np.array([[one.timestep] for one in drawings] * rounds, np.float32),
        CONTEXT: np.concatenate([asked, np.repeat(without, count, axis=0)][:rounds]),
    }
    predicted = graphs[UNET](inputs)[PREDICTION]
    led = predicted if rounds == 1 else guided(predicted[count:], predicted[:count], guidance)
    return [one.step(prediction) for one, prediction in zip(drawings, led, strict=True)]
