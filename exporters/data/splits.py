"""Rows that a family is trained and measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic

from typing_extensions import TypeVar

from serving.repository.manifest import Data
from serving.tensors import Array, Tensors

# What should come of rows: one array, as `Rows` without more says, or several by name: Rows[Mapping[str, Array]].
A = TypeVar("A", bound=Array | Mapping[str, Array], default=Array)


@dataclass(frozen=True, slots=True)
class Rows(Generic[A]):
    """The task's input tensors and what should come of them: row i of `inputs` belongs to row i of `targets`."""

    inputs: Tensors
    targets: A

    def __len__(self) -> int:
        return len(next(iter(self.targets.values())) if isinstance(self.targets, Mapping) else self.targets)


@dataclass(frozen=True, slots=True)
class HeldOut(Generic[A]):
    """Rows that the network has not been trained on, and the card that the manifest shows for them."""

    card: Data
    test: Rows[A]


@dataclass(frozen=True, slots=True)
class Splits(HeldOut[A]):
    """Rows to train on, rows to decide by when to stop, and rows that only the last measurement sees."""

    train: Rows[A]
    validation: Rows[A]
