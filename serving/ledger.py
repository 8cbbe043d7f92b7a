"""Who is live: for each model the versions that pointers name. A new ledger is one file in `serving/ledgers/`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

FOLDER = "serving.ledgers"


@dataclass(frozen=True, slots=True)
class Pointers:
    """The version that answers. Where a canary, a shadow and a way back will stand beside it."""

    stable: int


class Ledger(ABC):
    """Pointers by model, kept outside of the repository. SettingsInvalid when the state cannot be read or written."""

    @abstractmethod
    async def read(self) -> Mapping[str, Pointers]:
        """The pointers of every model that has any."""

    @abstractmethod
    async def seed(self, stables: Mapping[str, int]) -> Mapping[str, Pointers]:
        """Records where models start that have no pointers yet; those that have some keep them. All pointers then."""
