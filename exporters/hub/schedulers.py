"""A diffusers scheduler's configuration as our manifest says it: noise levels, what is predicted, how to draw.

Source: https://huggingface.co/docs/diffusers/api/schedulers/overview
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from exporters.errors import CheckpointUnsupported

FILE: Final = "scheduler_config.json"
KINDS: Final = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS: Final = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample"}
# Schedulers with a sampler of ours that goes their way; with all others DPM-Solver++ draws, by the same network.
SAMPLERS: Final = {"DDIMScheduler": "ddim", "DDPMScheduler": "ddpm"}
SPACING: Final = "leading"  # of those two, where the file says nothing; DPM-Solver++'s is linspace
# What would lead elsewhere, and the value with which it does not.
UNTAKEN: Final[Mapping[str, Any]] = {
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
    "thresholding": False,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_flow_sigmas": False,
    "use_lu_lambdas": False,
}
STEPS: Final = {"ddim": 50, "ddpm": 1000, "dpm-solver++": 25}


def read_sampling(config: Mapping[str, Any], guidance: float) -> dict[str, Any]:
    """As serving.diffusion.drawing.Sampling. CheckpointUnsupported: what of it would be drawn otherwise here."""
    for name, usual in UNTAKEN.items():
        if (found := config.get(name, usual)) != usual:
            raise _untaken(f"{name} is {found!r}")
    name = str(config.get("_class_name", ""))
    sampler = SAMPLERS.get(name, "dpm-solver++")
    found = {
        "schedule": {
            "kind": _one_of(config, "beta_schedule", KINDS, "linear"),
            "steps": config.get("num_train_timesteps", 1000),
            "beta_start": config.get("beta_start", 0.0001),
            "beta_end": config.get("beta_end", 0.02),
        },
        "prediction": _one_of(config, "prediction_type", PREDICTIONS, "epsilon"),
        "sampler": sampler,
        "steps": STEPS[sampler],
        "guidance": guidance,
        "spacing": config.get("timestep_spacing", SPACING if name in SAMPLERS else "linspace"),
        "offset": config.get("steps_offset", 0),
        "ends": "clean" if config.get("set_alpha_to_one", True) else "first",
    }
    if name in SAMPLERS and config.get("clip_sample", True):
        found["clip"] = config.get("clip_sample_range", 1.0)
    return found


def _one_of(config: Mapping[str, Any], name: str, known: Mapping[str, str], usual: str) -> str:
    found = config.get(name, usual)
    if found not in known:
        raise _untaken(f"{name} is {found!r}")
    return known[found]


def _untaken(what: str) -> CheckpointUnsupported:
    detail = f"Pictures are not drawn here as its {FILE} says: {what}."
    return CheckpointUnsupported(detail, remedy="Save it with another scheduler.")
