"""What commands work with where no gateway runs: a repository and a state, with nothing loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from serving.ledger import Ledger
from serving.opening import open_host, open_ledger
from serving.repository.layout import Index, scan
from serving.settings import Settings
from serving.versions.changes import Changes
from serving.versions.examiner import Examiner
from serving.versions.transitions import seeded


@dataclass(frozen=True, slots=True)
class Offline:
    """Changes, and what they go by."""

    changes: Changes
    look: Callable[[], Awaitable[Index]]  # what the repository holds
    refresh: Callable[[], Awaitable[Index]]  # the same, its new models given pointers
    ledger: Ledger


def open_changes(settings: Settings) -> Offline:
    """Changes with no gateway of one's own: gateways that run on this state follow them, others at their start."""
    ledger = open_ledger(settings)

    async def look() -> Index:
        return await asyncio.to_thread(scan, settings.repository)

    async def refresh() -> Index:
        index = await look()
        await ledger.change(seeded({name: model.first_version for name, model in index.models.items()}))
        return index

    changes = Changes(ledger, Examiner(host=open_host(settings)), refresh, settings.load_timeout_s)
    return Offline(changes, look, refresh, ledger)
