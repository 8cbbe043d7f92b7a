"""Where the drawing of one picture stands: advanced by what the network predicts, from noise to the end.

All chance comes from the picture's seed: noise is a function of the seed and the step's number, drawn for this picture
alone, whoever shares the network's batches.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from serving.diffusion.schedule import Prediction, Sampler, Schedule, Spacing, timesteps
from serving.diffusion.solvers import Floats, ddim, ddpm, dpm_solver, without_noise
from serving.tensors import Array

MOST_SEED: Final = 2**53 - 1  # every JSON reader has it exactly
ANY_SEED_BITS: Final = 32  # of one that was left open: short enough to be read out
STEP_BITS: Final = 192  # of the noise's counter, below the step's number


class Sampling(BaseModel):
    """How pictures are drawn with a network, as a manifest says it; `sampler`, `steps` and `guidance` are defaults.

    ends: whether the last step leads to no noise at all (`clean`), or to that of the schedule's first timestep; with
    dpm-solver++ it is always no noise. clip: bounds of pictures without noise, -clip to clip, where there are any.
    offset: of the timesteps where `spacing` is leading.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Schedule
    prediction: Prediction = "epsilon"
    sampler: Sampler = "dpm-solver++"
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    guidance: Annotated[float, Field(ge=0, le=50)] = 4.0
    spacing: Spacing = "trailing"
    offset: Annotated[int, Field(ge=0, le=100)] = 0
    ends: Literal["clean", "first"] = "clean"
    clip: Annotated[float, Field(gt=0)] | None = None

    def plan(self, sampler: Sampler | None = None, steps: int | None = None) -> Plan:
        """The way from noise to a picture, by the defaults where nothing else is said.

        ValueError: more steps than fit among those of the schedule.
        """
        sampler, steps = sampler or self.sampler, steps or self.steps
        levels = self.schedule.levels()
        at = timesteps(len(levels), steps, self.spacing, self.offset, sampler)
        if (np.diff(at) >= 0).any():
            raise ValueError(f"{steps} steps do not fit among the {len(levels)} that the network was trained for")
        end = levels[0] if self.ends == "first" and sampler != "dpm-solver++" else 1.0
        return Plan(sampler, self.prediction, self.clip, tuple(at.tolist()), (*levels[at].tolist(), float(end)))


@dataclass(frozen=True, slots=True)
class Plan:
    """The timesteps at which the network is asked, noisiest first, and the level at each of them and at the end."""

    sampler: Sampler
    prediction: Prediction
    clip: float | None
    timesteps: tuple[int, ...]
    levels: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture that is being drawn: after `count` steps of the plan.

    sample: float64, of the network's shape, with the noise of that level. clean: what the picture without noise was
    thought to be at the last step; None before the first.
    """

    plan: Plan
    seed: int
    sample: Floats
    count: int = 0
    clean: Floats | None = None

    @classmethod
    def begin(cls, plan: Plan, shape: tuple[int, ...], seed: int) -> Drawing:
        """Nothing but the seed's noise. seed: 0 to MOST_SEED."""
        return cls(plan, seed, noise(seed, 0, shape))

    @property
    def done(self) -> bool:
        return self.count == len(self.plan.timesteps)

    @property
    def timestep(self) -> int:
        """Of the schedule, at which the network is asked next."""
        return self.plan.timesteps[self.count]

    @property
    def latents(self) -> Array:
        """The sample as networks take it, float32; infinite where a network has led too far."""
        return _single(self.sample)

    @property
    def preview(self) -> Array:
        """What was thought to come out at the last step, or the noise before the first, as decoders take it."""
        return _single(self.sample if self.clean is None else self.clean)

    def step(self, prediction: Array) -> Drawing:
        """After one more step, by what the network predicts of `latents` at `timestep`, of their shape."""
        plan, i = self.plan, self.count
        level, following = plan.levels[i : i + 2]
        clean = without_noise(prediction.astype(np.float64), self.sample, level, plan.prediction)
        if plan.clip is not None:
            clean = np.clip(clean, -plan.clip, plan.clip)
        if plan.sampler == "ddim":
            sample = ddim(self.sample, clean, level, following)
        elif plan.sampler == "ddpm":
            sample = ddpm(self.sample, clean, level, following, noise(self.seed, i + 1, clean.shape))
        else:
            sample = dpm_solver(self.sample, clean, self.clean, (plan.levels[max(0, i - 1)], level, following))
        return replace(self, sample=sample, count=i + 1, clean=clean)


def _single(sample: Floats) -> Array:
    with np.errstate(over="ignore"):
        return sample.astype(np.float32)


def any_seed() -> int:
    """A seed that nobody chose."""
    return secrets.randbits(ANY_SEED_BITS)


def noise(seed: int, step: int, shape: tuple[int, ...]) -> Floats:
    """Standard normal noise of one picture and step: float64, exact in float32. 0 is what a picture begins as.

    The generator counts, and each step has a range of its counter: J. Salmon et al., Parallel Random Numbers: As Easy
    as 1, 2, 3 (2011).
    """
    generator = np.random.Generator(np.random.Philox(key=seed, counter=step << STEP_BITS))
    return generator.standard_normal(shape, np.float32).astype(np.float64)


def guided(null: Array, wanted: Array, guidance: float) -> Floats:
    """The prediction without the prompt, led towards that with it and, above 1, beyond.

    Source: J. Ho, T. Salimans, Classifier-Free Diffusion Guidance (2022).
    """
    base = null.astype(np.float64)
    led: Floats = base + guidance * (wanted.astype(np.float64) - base)
    return led
