"""How much noise there is at each of a network's timesteps, and at which of them a picture is drawn.

A noisy sample is sqrt(level) of the picture and sqrt(1 - level) of noise; `level` is written as alpha with a bar in
the papers. Names and arithmetic of the spacings are those of diffusers' schedulers, so that a network that was trained
there is driven alike here.

Sources: J. Ho et al., Denoising Diffusion Probabilistic Models (2020); A. Nichol, P. Dhariwal, Improved Denoising
Diffusion Probabilistic Models (2021), for the cosine; https://huggingface.co/docs/diffusers/api/schedulers/overview
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.tensors import Array

MOST_BETA: Final = 0.999  # of the cosine, whose last ones would leave nothing of the picture
COSINE_START: Final = 0.008

Sampler = Literal["ddim", "dpm-solver++", "ddpm"]
Prediction = Literal["epsilon", "v", "sample"]
Spacing = Literal["leading", "trailing", "linspace"]


class Schedule(BaseModel):
    """Noise as the network was trained with it. `beta_start` and `beta_end` count for nothing with the cosine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["linear", "scaled-linear", "cosine"]
    steps: Annotated[int, Field(ge=1, le=10_000)] = 1000
    beta_start: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.02

    @model_validator(mode="after")
    def _rises(self) -> Schedule:
        if self.beta_end < self.beta_start:
            raise ValueError("beta_end is at least beta_start: noise grows with the timestep")
        return self

    def levels(self) -> Array:
        """What is left of the picture's variance at each timestep, falling: float64 [steps]."""
        kept: Array = np.cumprod(1 - self._betas())
        return kept

    def _betas(self) -> Array:
        betas: Array
        if self.kind == "cosine":
            times = (np.arange(self.steps + 1) / self.steps + COSINE_START) / (1 + COSINE_START)
            kept = np.cos(times * np.pi / 2) ** 2
            betas = np.minimum(1 - kept[1:] / kept[:-1], MOST_BETA)
            return betas
        power = 1.0 if self.kind == "linear" else 0.5
        betas = np.linspace(self.beta_start**power, self.beta_end**power, self.steps) ** (1 / power)
        return betas


def timesteps(total: int, count: int, spacing: Spacing, offset: int, sampler: Sampler) -> Array:
    """At which of `total` timesteps the network is asked, noisiest first: int64 [count].

    offset: added where the spacing is `leading`. DPM-Solver++ spaces so that there is one more, which is the end.
    """
    further = 1 if sampler == "dpm-solver++" else 0
    found: Array
    if spacing == "trailing":
        found = np.round(np.arange(count, 0, -1) * (total / count)) - 1
    elif spacing == "linspace":
        found = np.round(np.linspace(total - 1, 0, count + further))[:count]
    else:
        found = (np.arange(count + further) * (total // (count + further)))[::-1][:count] + offset
    return np.clip(found, 0, total - 1).astype(np.int64)
