"""What else hangs on a model's versions: collections, whose vectors one version made and no other can ask for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from serving.ledger import Pointers


@dataclass(frozen=True, slots=True)
class Unready:
    """What a version still waits for; hopeless: it will not come by waiting."""

    reason: str
    hopeless: bool = False


class Dependents(Protocol):
    """Told by search.py; asked by those who load versions and move pointers."""

    def needed(self, model: str) -> Collection[int]:
        """The versions that must stay loaded, whether pointers name them or not."""
        ...

    async def unready(self, model: str, pointers: Pointers) -> Unready | None:
        """What has still to be done before the wanted version may be stable."""
        ...


class NoDependents:
    """Satisfies Dependents where there are none."""

    def needed(self, model: str) -> Collection[int]:
        del model
        return ()

    async def unready(self, model: str, pointers: Pointers) -> Unready | None:
        del model, pointers
        return None
