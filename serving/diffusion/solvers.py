"""From one noise level to the next, given what the picture without noise is thought to be.

Each solver is a function of one sample alone, in float64, so that nothing depends on who else is being drawn.

Sources: J. Song et al., Denoising Diffusion Implicit Models (2020), with eta 0; J. Ho et al., Denoising Diffusion
Probabilistic Models (2020), whose posterior the ancestral sampler draws from; C. Lu et al., DPM-Solver++: Fast Solver
for Guided Sampling of Diffusion Probabilistic Models (2022), algorithm 2M.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.diffusion.schedule import Prediction

Floats = NDArray[np.float64]


def without_noise(prediction: Floats, sample: Floats, level: float, kind: Prediction) -> Floats:
    """What the network, asked at this level, thinks the picture is.

    kind: what it predicts: the noise (`epsilon`), the picture (`sample`), or the velocity between both (`v`: T.
    Salimans, J. Ho, Progressive Distillation, 2022).
    """
    signal, noise = level**0.5, (1 - level) ** 0.5
    clean = prediction
    if kind == "epsilon":
        clean = (sample - noise * prediction) / signal
    elif kind == "v":
        clean = signal * sample - noise * prediction
    return clean


def ddim(sample: Floats, clean: Floats, level: float, following: float) -> Floats:
    """Along the straight line from the noise to the picture."""
    noise = (sample - level**0.5 * clean) / (1 - level) ** 0.5
    moved: Floats = following**0.5 * clean + (1 - following) ** 0.5 * noise
    return moved


def ddpm(sample: Floats, clean: Floats, level: float, following: float, fresh: Floats) -> Floats:
    """Draws from what the sample may have been before noise was added. fresh: standard normal noise."""
    ratio = level / following
    mean = following**0.5 * (1 - ratio) / (1 - level) * clean + ratio**0.5 * (1 - following) / (1 - level) * sample
    deviation: float = ((1 - ratio) * (1 - following) / (1 - level)) ** 0.5
    drawn: Floats = mean + deviation * fresh
    return drawn


def dpm_solver(sample: Floats, clean: Floats, earlier: Floats | None, levels: tuple[float, float, float]) -> Floats:
    """Of second order by what was thought of the picture one level earlier; of first order without that, and where no
    noise is left. levels: one earlier, now, next.
    """
    before, now, following = (_log_ratio(level) for level in levels)
    ahead = following - now
    slope = clean
    if earlier is not None and np.isfinite(ahead):
        slope = clean + (clean - earlier) * (ahead / (2 * (now - before)))
    remaining = ((1 - levels[2]) / (1 - levels[1])) ** 0.5
    moved: Floats = remaining * sample - levels[2] ** 0.5 * np.expm1(-ahead) * slope
    return moved


def _log_ratio(level: float) -> float:
    """Half the logarithm of signal to noise; infinite without noise."""
    return float("inf") if level >= 1 else 0.5 * float(np.log(level / (1 - level)))
