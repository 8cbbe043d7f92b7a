"""Those who look on at one gateway, put together: the only place where they are named."""

from __future__ import annotations

from dataclasses import dataclass

from serving.observation.drift import Drift
from serving.observation.seen import Witness
from serving.settings import Settings
from serving.telemetry import Meters
from serving.threads import Threads
from serving.versions.router import Router


@dataclass(frozen=True, slots=True)
class Watch:
    """All who look on. `witnesses`: in the order in which they are shown what was answered."""

    witnesses: tuple[Witness, ...]
    drift: Drift

    async def start(self) -> None:
        """Begins what they do by themselves."""

    async def close(self) -> None:
        """Ends it."""
        await self.drift.close()


def open_watch(settings: Settings, meters: Meters, threads: Threads, router: Router) -> Watch:
    """As the settings want it."""
    del settings  # of those to come
    drift = Drift(router, threads, meters.registry)
    return Watch((drift,), drift)
