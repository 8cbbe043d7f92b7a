"""What an architecture gives for a checkpoint: networks by the roles of one of our tasks. One file each beside this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from exporters.errors import CheckpointUnsupported
from exporters.hub.checkpoint import Checkpoint
from serving.tensors import Array, Tensors

ROWS = 32  # of each graph, that are compared with its network
SEED = 0


@dataclass(frozen=True, slots=True)
class Imported:
    """A checkpoint as a version to be: networks and rows by role, and what its manifest and folder say.

    tolerance and instances: as of exporters.family.Family.
    """

    task: str
    networks: Mapping[str, nn.Module]
    rows: Mapping[str, Tensors]
    preprocessing: Mapping[str, Any]
    files: Mapping[str, bytes]
    tolerance: float
    free_axes: Mapping[str, str] = field(default_factory=dict)
    instances: int = 2


def load_diffusers(checkpoint: Checkpoint, kind: Any) -> Any:
    """As load, of one of diffusers' classes."""
    from diffusers.utils import logging

    logging.set_verbosity_error()
    try:
        model, found = kind.from_pretrained(
            checkpoint.folder,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # whatever diffusers, safetensors or torch raise over a wrong file
        raise _unloadable("diffusers", str(error).strip().partition("\n")[0][:200]) from error
    if missing := sorted(found["missing_keys"]):
        raise _unloadable("diffusers", f"{len(missing)} weights are missing, such as {missing[0]}")
    return model.eval()


def load(checkpoint: Checkpoint, kind: Any) -> Any:
    """The checkpoint as a model of one of transformers' classes, in float32, its attention written out for export.

    CheckpointUnsupported: weights are missing, of other shapes or damaged. None is ever made up.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        model, found = kind.from_pretrained(
            checkpoint.folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="eager",
            dtype="float32",
            output_loading_info=True,
        )
    except Exception as error:  # whatever transformers, safetensors or torch raise over a wrong file
        raise _unloadable("transformers", str(error).strip().partition("\n")[0][:200]) from error
    if missing := sorted(found["missing_keys"]):
        raise _unloadable("transformers", f"{len(missing)} weights are missing, such as {missing[0]}")
    return model.eval()


def _unloadable(by: str, why: str) -> CheckpointUnsupported:
    remedy = "Download it again, or save it again as the class that its config.json says."
    return CheckpointUnsupported(f"{by} cannot load it: {why}.", remedy=remedy)


def pictures(side: int) -> Array:
    """uint8 [ROWS, side, side, 3]: noise of several sizes of grain, the same each time."""
    chance = np.random.default_rng(SEED)
    grains = [max(1, side // 2 ** (i % 5)) for i in range(ROWS)]
    coarse = (chance.integers(0, 256, (-(-side // grain), -(-side // grain), 3), np.uint8) for grain in grains)
    large = (np.kron(one, np.ones((grain, grain, 1), np.uint8)) for one, grain in zip(coarse, grains, strict=True))
    return np.stack([one[:side, :side] for one in large])
