"""Gateways without their ports, for tests of versions that move: a real ledger on files, a fake engine and gate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import tiny

from serving.engine import Loaded
from serving.engines.fake import FakeEngine
from serving.errors import EngineFailed
from serving.ledger import Ledger, LedgerOptions, Pointers
from serving.ledgers.file import FileLedger
from serving.repository.layout import Version
from serving.telemetry import Meters
from serving.verdict import Check, Verdict
from serving.versions.changes import Changes
from serving.versions.keeper import Keeper
from serving.versions.loader import Loader
from serving.versions.reconciler import Reconciler
from serving.versions.router import Router, Target

MODEL = "colours"


class TellingEngine(FakeEngine):
    """Tells what is loaded and what was; graphs in `failing` cannot be, and loads wait while `loading` is cleared."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.tried: list[str] = []
        self.failing: set[str] = set()
        self.loading = asyncio.Event()
        self.loading.set()
        self.most = 0  # versions of one model at once

    async def load(self, graph, warm_up, *, quietly: bool = False) -> Loaded:
        name = str(graph.key)
        self.tried.append(name)
        await self.loading.wait()
        if name in self.failing:
            raise EngineFailed("told to")
        result = await super().load(graph, warm_up, quietly=quietly)
        self.loaded.add(name)
        self.most = max(self.most, sum(one.startswith(f"{graph.key.name}/") for one in self.loaded))
        return result

    async def unload(self, key) -> None:
        await super().unload(key)
        self.loaded.discard(str(key))


class FakeGate:
    """Lets versions pass but for those in `failing`: number -> the checks that they fail."""

    def __init__(self) -> None:
        self.failing: dict[int, tuple[str, ...]] = {}
        self.asked: list[tuple[int, int | None]] = []

    async def examine(self, candidate: Version, stable: Version | None) -> Verdict:
        self.asked.append((candidate.number, stable.number if stable else None))
        failed = self.failing.get(candidate.number, ())
        checks = [Check(name=name, passed=False, detail=f"{name} is not as it should be") for name in failed]
        return Verdict(
            model=candidate.model,
            version=candidate.number,
            passed=not failed,
            checks=(Check(name="load", passed="load" not in failed), *checks),
            time="2026-01-01T00:00:00+00:00",
            digest="sha256:0",
            stable=stable.number if stable else None,
        )


@dataclass(frozen=True)
class Rig:
    """One gateway's parts."""

    reconciler: Reconciler
    router: Router
    changes: Changes
    ledger: Ledger
    engine: TellingEngine
    gate: FakeGate

    @property
    def keeper(self) -> Keeper:
        return self.reconciler._keepers[MODEL]

    async def pointers(self) -> Pointers:
        return (await self.ledger.read()).models[MODEL]

    def answers(self, **target) -> int:
        """The version that answers now."""
        return self.router.resolve(Target(MODEL, **target), "classify").version.number

    def loaded(self) -> set[int]:
        return {int(name.partition("/")[2]) for name in self.engine.loaded if name.startswith(f"{MODEL}/")}


def publish(root: Path, numbers: Iterable[int]) -> None:
    for number in numbers:
        tiny.add_classifier(root, MODEL, number, bias=float(number))


def file_ledger(state: Path) -> FileLedger:
    return FileLedger(LedgerOptions(state))


def parts(
    root: Path,
    state: Path,
    *,
    load_s: float = 15.0,
    engine: TellingEngine | None = None,
    gate: FakeGate | None = None,
    ledger: Callable[[Path], Ledger] = file_ledger,
) -> Rig:
    """A gateway that is not started."""
    engine, gate, opened = engine or TellingEngine(), gate or FakeGate(), ledger(state)
    router = Router({})
    reconciler = Reconciler(root, opened, Loader(engine, Meters()), router)
    return Rig(reconciler, router, Changes(opened, gate, reconciler.refresh, load_s), opened, engine, gate)


@asynccontextmanager
async def started(root: Path, state: Path, **given) -> AsyncIterator[Rig]:
    """A gateway that runs."""
    rig = parts(root, state, **given)
    await rig.reconciler.start()
    try:
        yield rig
    finally:
        rig.engine.loading.set()
        await rig.reconciler.close()
