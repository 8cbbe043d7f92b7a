"""Rows that a family is trained and measured on."""

from __future__ import annotations

from dataclasses import dataclass

from serving.repository.manifest import Data
from serving.tensors import Array, Tensors


@dataclass(frozen=True, slots=True)
class Rows:
    """The task's input tensors and what should come of them: row i of `inputs` belongs to row i of `targets`."""

    inputs: Tensors
    targets: Array

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows that the network has not been trained on, and the card that the manifest shows for them."""

    card: Data
    test: Rows


@dataclass(frozen=True, slots=True)
class Splits(HeldOut):
    """Rows to train on, rows to decide by when to stop, and rows that only the last measurement sees."""

    train: Rows
    validation: Rows
