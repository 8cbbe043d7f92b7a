"""What a caller of an export may choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Options:
    """repository: where the version goes; runs: the file that the run is logged in; quick: seconds, lower floors;
    tensorrt: have Triton run it through TensorRT, where there is a GPU; plan: build plans, of this precision.

    The others are of families that are trained here. settings: `name=value` of recipe fields; trials: of a search
    before the training; checkpoint: a folder, or None for `checkpoints/<model>`, which quick runs do without; resume:
    go on from there; say: is given what a person should read meanwhile.
    """

    repository: Path
    runs: Path
    seed: int = 0
    quick: bool = False
    settings: tuple[str, ...] = ()
    trials: int = 0
    checkpoint: Path | None = None
    resume: bool = False
    say: Callable[[str], object] = lambda _: None
    tensorrt: bool = False
    plan: Literal["fp16", "fp32"] | None = None
