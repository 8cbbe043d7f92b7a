"""Those who look on at one gateway, put together: the only place where they are named."""

from __future__ import annotations

from dataclasses import dataclass

from serving.observation.seen import Witness
from serving.settings import Settings
from serving.telemetry import Meters
from serving.threads import Threads


@dataclass(frozen=True, slots=True)
class Watch:
    """All who look on. `witnesses`: in the order in which they are shown what was answered."""

    witnesses: tuple[Witness, ...]

    async def start(self) -> None:
        """Begins what they do by themselves."""

    async def close(self) -> None:
        """Ends it."""


def open_watch(settings: Settings, meters: Meters, threads: Threads) -> Watch:
    """As the settings want it."""
    del settings, meters, threads  # of those to come
    return Watch(())
