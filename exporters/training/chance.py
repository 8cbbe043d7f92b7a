"""Everything random in a training: seeded, put back afterwards, and written down so that it can go on."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Generator


@contextmanager
def deterministic(seed: int, device: torch.device | None = None, threads: int = 2) -> Iterator[None]:
    """Seeds python, numpy and torch, and holds torch to reproducible algorithms; all is put back afterwards.

    On a GPU the seed holds and the algorithms are free: some have no reproducible form there.
    """
    on_gpu = device is not None and device.type != "cpu"
    python, legacy, before = random.getstate(), np.random.get_state(), torch.get_num_threads()  # noqa: NPY002
    strict = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - for libraries that still draw from it
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(not on_gpu)
        torch.set_num_threads(min(threads, os.cpu_count() or 1))
        try:
            yield
        finally:
            torch.set_num_threads(before)
            torch.use_deterministic_algorithms(strict)
            np.random.set_state(legacy)  # noqa: NPY002
            random.setstate(python)


@dataclass(slots=True)
class Chance:
    """A run's own generators. `order` shuffles rows; `changes` augments batches, where they are."""

    seed: int
    device: torch.device
    order: Generator = field(init=False)
    changes: Generator = field(init=False)

    def __post_init__(self) -> None:
        self.order = Generator().manual_seed(self.seed)
        on_cpu = self.device.type == "cpu"
        self.changes = self.order if on_cpu else Generator(self.device).manual_seed(self.seed)

    def state(self) -> dict[str, Any]:
        """Where these generators and the global ones stand, as tensors and plain types."""
        legacy = np.random.get_state(legacy=False)  # noqa: NPY002
        return {
            "order": self.order.get_state(),
            "changes": self.changes.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "python": random.getstate(),
            "numpy": {**legacy, "state": {"pos": legacy["state"]["pos"], "key": legacy["state"]["key"].tolist()}},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Everything as `state` found it, on the same kind of device."""
        self.order.set_state(state["order"])
        self.changes.set_state(state["changes"])
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
        random.setstate(state["python"])
        legacy = state["numpy"]
        key = np.array(legacy["state"]["key"], np.uint32)
        np.random.set_state({**legacy, "state": {**legacy["state"], "key": key}})  # noqa: NPY002
