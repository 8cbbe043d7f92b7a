"""Things as rows: how they look, as the latents of a codec, and with noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import nn

from exporters.data import emoji, emoji_names, emoji_prompts
from exporters.data.emoji_names import Named
from exporters.data.splits import Rows, Splits
from exporters.provenance import digest_arrays
from serving.drawing_task import LATENTS, PIXELS, TOKENS
from serving.repository.manifest import Data
from serving.tensors import Array

JUDGED: Final = 2  # the last views, by which a codec's best epoch is found; it learns of the others
VIEWS: Final = emoji_prompts.VIEWS - JUDGED
LEARNED: Final = (0, 2, 4)  # views that a U-Net learns: in the middle, a little higher, a little lower
AT_ONCE: Final = 64  # pictures that are encoded together


def shown_things(named: Sequence[Named], side: int, views: int) -> Splits:
    """Pixels of each thing in so many views, and in further ones for validation; targets: its number. Test: view 0."""
    parts = {"train": range(views), "validation": range(views, views + JUDGED), "test": range(1)}
    pixels = {part: emoji_prompts.pictures(named, side, views=some) for part, some in parts.items()}
    numbers = np.arange(len(named))
    card = Data(
        name=f"{len(named)} emoji by name",
        source=f"drawn by tidegate from Debian's {emoji.PACKAGE}; names of Debian's {emoji_names.PACKAGE}",
        licence=f"{emoji.LICENCE} (emoji); {emoji_names.LICENCE} (names)",
        digest=digest_arrays([*pixels.values()]),
        rows={"train": len(LEARNED) * len(named), "test": len(named)},
        note=f"Each thing in {len(LEARNED)} places; a decoder of latents, if there is one, learned of {views} views. "
        "Test rows are the names that were learned: nothing is claimed of others.",
    )
    found = {part: Rows({PIXELS: some}, np.tile(numbers, len(parts[part]))) for part, some in pixels.items()}
    return Splits(card=card, **found)


def views_of(shown: Rows, views: Sequence[int], things: int) -> Rows:
    """Those of so many views of each of so many things."""
    chosen = np.concatenate([np.arange(view * things, (view + 1) * things) for view in views])
    return Rows({PIXELS: shown.inputs[PIXELS][chosen]}, shown.targets[chosen])


def latents_of(encode: nn.Module, shown: Rows) -> Array:
    """What the encoder makes of the rows' pixels."""
    parts = torch.split(torch.from_numpy(shown.inputs[PIXELS]), AT_ONCE)
    with torch.no_grad():
        return np.concatenate([encode.eval()(part).numpy() for part in parts])


def noisy_rows(latents: Array, tokens: Array, steps: int) -> Rows:
    """Noise of all timesteps in turn, the same each time."""
    chance, count = np.random.default_rng(0), len(latents)
    noise = chance.standard_normal(latents.shape, np.float32)
    timesteps = chance.permutation(count)[:, np.newaxis] * steps // count
    inputs = {LATENTS: latents, TOKENS: tokens, "noise": noise, "timesteps": timesteps}
    return Rows(inputs, np.arange(count))
