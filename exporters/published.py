"""What is published in this checkout, for families that build on another one's network."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from exporters.errors import PackageMissing
from exporters.quantise import quantise
from serving.tensors import Array

N = TypeVar("N", bound=nn.Module)
REPOSITORY: Final = Path(__file__).parents[1] / "model_repository"
PREFIX: Final = "network."  # before the names of a network's weights, where it is served inside of another module


def published_file(model: str, name: str) -> Path:
    """A file of the model's newest version. PackageMissing: there is none."""
    versions = [folder for folder in (REPOSITORY / model).glob("[1-9]*") if (folder / name).is_file()]
    if not versions:
        detail = f"No version of {model} is in {REPOSITORY.name}, and this family builds on it."
        raise PackageMissing(detail, remedy=f"Run: exporters train {model}")
    return max(versions, key=lambda folder: int(folder.name)) / name


def published_weights(model: str) -> dict[str, Array]:
    """The initializers of the newest version's graph by name; those that compact.py stored small as they are served.
    PackageMissing: there is no version.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(published_file(model, "model.onnx")).graph
    stored = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    restored = {
        name.removesuffix(".steps"): steps.astype("f4") * stored[name.removesuffix("steps") + "scale"]
        for name, steps in stored.items()
        if name.removesuffix("steps") + "scale" in stored and name.endswith(".steps")
    }
    return {**{name: array.copy() for name, array in stored.items()}, **restored}


def with_published_weights(network: N, model: str) -> N:
    """The network as the newest version of the model is served, but with its weights rounded to 8 bits, so that they
    are stored in half the space again: frozen, its batch norms in its convolutions.

    PackageMissing: no version of the model is here.
    """
    weights = published_weights(model)
    _fold(network.eval())
    state = {}
    for name, known in network.state_dict().items():
        layer, _, part = name.rpartition(".")
        names = (PREFIX + name, f"{PREFIX}{layer}.weight_bias") if part == "bias" else (PREFIX + name,)
        found = next(weights[one] for one in names if one in weights)
        state[name] = torch.from_numpy(rounded(found) if known.ndim > 1 else found)
    network.load_state_dict(state)
    return network.requires_grad_(False)


def rounded(weight: Array) -> Array:
    """float32, to 255 levels of each output channel, which is its first axis."""
    steps, scale = quantise(weight, 0, 8)
    found: Array = steps * scale
    return found


def _fold(module: nn.Module) -> None:
    """Each batch norm right behind a convolution into it."""
    if isinstance(module, nn.Sequential):
        for i in range(len(module) - 1):
            here, behind = module[i], module[i + 1]
            if isinstance(here, nn.Conv2d) and isinstance(behind, nn.BatchNorm2d):
                module[i], module[i + 1] = fuse_conv_bn_eval(here, behind), nn.Identity()
    for child in module.children():
        _fold(child)
