"""Anything that operators may do, in any order, against the design's table in plain Python.

The real ledger on files, transitions, policy, keepers and router of two gateways; engine and gate are fakes.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from http_rig import until
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from versions_rig import MODEL, Rig, parts, publish

from serving.errors import ChangeRefused, LoadFailed, ModelNotReady
from serving.versions.orders import Promotion
from serving.versions.policy import MOST_RESIDENT

VERSIONS = (1, 2, 3, 4, 5)
NUMBERS = st.sampled_from(VERSIONS)
ROLES = st.sampled_from(["stable", "stable", "canary", "shadow"])
GATEWAYS = st.integers(0, 1)


@dataclass
class Table:
    """What the design says: who is live, what is on trial, and where a rollback goes."""

    stable: int = VERSIONS[0]
    stack: list[int] = field(default_factory=list)
    trial: tuple[str, int] | None = None
    history: list[tuple[str, int | None, int | None]] = field(default_factory=list)
    unloaded: bool = False

    @property
    def resident(self) -> set[int]:
        """Once all has settled."""
        if self.unloaded:
            return set()
        return {self.stable, *self.stack[-1:], *([self.trial[1]] if self.trial else [])}

    def promote(self, version: int, role: str) -> bool:
        """Whether it may be, and if so what comes of it."""
        if version == self.stable or (self.trial and self.trial[1] != version) or (self.unloaded and role != "stable"):
            return False
        self.history.append(("promote" if role == "stable" else role, None if self.unloaded else self.stable, version))
        self.unloaded = False
        if role == "stable":
            self.stack.append(self.stable)
            self.stable, self.trial = version, None
        else:
            self.trial = (role, version)
        return True

    def unload(self) -> None:
        if not self.unloaded:
            self.history.append(("unload", self.stable, None))
        self.unloaded, self.trial = True, None

    def load(self) -> None:
        if self.unloaded:
            self.history.append(("load", None, self.stable))
        self.unloaded = False

    def rollback(self, to: int | None) -> bool:
        if self.unloaded:
            return False
        if self.trial and to in (None, self.stable):
            self.history.append(("rollback", self.trial[1], self.stable))
            self.trial = None
            return True
        if to is None and self.stack:
            to = self.stack[-1]
        if to == self.stable or to not in self.stack:
            return False
        self.history.append(("rollback", self.stable, to))
        while self.stack.pop() != to:
            pass
        self.stable, self.trial = to, None
        return True


class Versions(RuleBasedStateMachine):
    """Two gateways over one state folder, and the table."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        publish(self.folder / "models", VERSIONS)
        self.runner = asyncio.Runner()
        self.table = Table()
        self.out = False  # whether no version need answer now
        self.gateways: list[Rig] = []
        for _ in range(2):
            self.gateways.append(self.runner.run(self.begin()))
        self.runner.run(self.settle())

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.rest()
            for rig in self.gateways:
                self.runner.run(rig.reconciler.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    async def begin(self) -> Rig:
        rig = parts(self.folder / "models", self.folder / "state")
        await rig.reconciler.start()
        return rig

    async def settle(self) -> None:
        """Until all gateways have loaded, let go and told what there is to."""
        expected = tuple(sorted(self.table.resident))
        for rig in self.gateways:
            await until(lambda rig=rig: tuple(sorted(rig.loaded())) == expected, f"{expected} are loaded")
        revision = (await self.gateways[0].ledger.read()).revision
        while any(
            member.ready.get(MODEL) != expected or member.revision < revision
            for member in await self.gateways[0].ledger.members()
        ):
            await asyncio.sleep(0.002)

    async def watched(self, change) -> object:
        """The change's outcome; requests are resolved meanwhile, at all gateways, and never fail, unless the model is
        out of service before the change or after it.
        """
        for rig in self.gateways:
            await rig.reconciler._say()  # between steps nothing runs, heartbeats neither
        changing = asyncio.ensure_future(change)
        while not changing.done():
            await self.look()
            await asyncio.sleep(0.0005)
        return await changing

    async def look(self) -> None:
        for rig in self.gateways:
            pointers = rig.keeper.pointers
            assert len(rig.loaded()) <= MOST_RESIDENT
            if rig.keeper.serving is None:
                assert self.out
                with pytest.raises(ModelNotReady):
                    rig.answers()
                continue
            assert not pointers.unloaded
            allowed = {rig.keeper.serving, pointers.canary.version if pointers.canary else None}
            assert rig.answers() in allowed
            assert rig.answers(label="stable") == rig.keeper.serving

    def act(self, change, allowed: bool) -> None:
        self.out = self.out or self.table.unloaded
        self.give(change, allowed)
        self.out = self.table.unloaded

    def give(self, change, allowed: bool) -> None:
        if not allowed:
            with pytest.raises(ChangeRefused):
                self.runner.run(self.watched(change))
            return
        outcome = self.runner.run(self.watched(change))
        assert outcome.late == ()
        assert outcome.gateways == len(self.gateways)
        for rig in self.gateways:  # at once, before anything else has settled
            if self.table.unloaded:
                with pytest.raises(ModelNotReady, match="was unloaded"):
                    rig.answers()
                continue
            assert rig.answers(label="stable") == self.table.stable
            assert self.table.trial is None or self.table.trial[1] in rig.loaded()

    @rule(at=GATEWAYS, version=NUMBERS, role=ROLES)
    def promote(self, at: int, version: int, role: str) -> None:
        percent = 50 if role == "canary" else None
        change = self.gateways[at].changes.promote(Promotion(MODEL, version, role, percent), "tests", "")
        self.act(change, self.table.promote(version, role))

    @precondition(lambda self: self.table.trial)
    @rule(at=GATEWAYS)
    def finish(self, at: int) -> None:
        change = self.gateways[at].changes.promote(Promotion(MODEL), "tests", "")
        self.act(change, self.table.promote(self.table.trial[1], "stable"))

    @rule(at=GATEWAYS)
    def rollback(self, at: int) -> None:
        self.act(self.gateways[at].changes.rollback(MODEL, None, "tests", ""), self.table.rollback(None))

    @rule(at=GATEWAYS, to=NUMBERS)
    def rollback_to(self, at: int, to: int) -> None:
        self.act(self.gateways[at].changes.rollback(MODEL, to, "tests", ""), self.table.rollback(to))

    @precondition(lambda self: len(self.table.stack) > 1)
    @rule(at=GATEWAYS, place=st.integers(0, 3))
    def rollback_far(self, at: int, place: int) -> None:
        to = self.table.stack[place % (len(self.table.stack) - 1)]
        self.act(self.gateways[at].changes.rollback(MODEL, to, "tests", ""), self.table.rollback(to))

    @rule(at=GATEWAYS)
    def unload(self, at: int) -> None:
        self.table.unload()
        self.act(self.gateways[at].changes.unload(MODEL, "tests", ""), allowed=True)

    @rule(at=GATEWAYS)
    def load(self, at: int) -> None:
        self.table.load()
        self.act(self.gateways[at].changes.load(MODEL, "tests", ""), allowed=True)

    @rule(at=GATEWAYS, fails_at=GATEWAYS, version=NUMBERS, role=ROLES)
    def promote_what_cannot_be_loaded(self, at: int, fails_at: int, version: int, role: str) -> None:
        engine = self.gateways[fails_at].engine
        may = replace(self.table, stack=list(self.table.stack), history=[]).promote(version, role)
        if not may or version in self.table.resident:
            return
        self.runner.run(self.settle())  # it is loaded nowhere
        engine.failing.add(f"{MODEL}/{version}")
        before = self.runner.run(self.gateways[at].pointers())
        change = self.gateways[at].changes.promote(Promotion(MODEL, version, role), "tests", "")
        with pytest.raises(LoadFailed, match="told to"):
            self.runner.run(self.watched(change))
        engine.failing.clear()
        assert self.runner.run(self.gateways[at].pointers()) == before

    @rule(at=GATEWAYS)
    def restart(self, at: int) -> None:
        self.runner.run(self.gateways[at].reconciler.close())
        self.gateways[at] = self.runner.run(self.begin())
        if not self.table.unloaded:
            assert self.gateways[at].answers(label="stable") == self.table.stable
        self.runner.run(self.settle())  # the rest is loaded while it answers

    @rule()
    def rest(self) -> None:
        """Between changes that are this far apart, what is loaded is exactly what is wanted."""
        self.runner.run(self.settle())
        pointers = self.runner.run(self.gateways[0].pointers())
        for rig in self.gateways:
            assert rig.loaded() == set(rig.keeper.ready) == self.table.resident, "the way back is warm, and no more"
            if self.table.unloaded:
                continue
            shadow = rig.router.shadow(rig.keeper._residents[self.table.stable])
            assert (shadow.version.number if shadow else None) == pointers.shadow

    @precondition(lambda self: hasattr(self, "gateways"))
    @invariant()
    def pointers_and_history_are_as_the_table_says(self) -> None:
        pointers = self.runner.run(self.gateways[0].pointers())
        trial = {"canary": pointers.canary.version if pointers.canary else None, "shadow": pointers.shadow}
        assert (pointers.stable, list(pointers.stack)) == (self.table.stable, self.table.stack)
        assert trial == {"canary": None, "shadow": None} | dict([self.table.trial] if self.table.trial else [])
        assert [(one.action, one.from_, one.to) for one in pointers.history] == self.table.history
        assert pointers.wanted is None
        assert pointers.unloaded == self.table.unloaded
        for rig in self.gateways:
            assert rig.engine.most <= MOST_RESIDENT
            if self.table.unloaded:
                assert rig.keeper.serving is None
                continue
            assert self.table.stable in rig.keeper.ready, "a pointer names only what is ready"
            assert self.table.trial is None or self.table.trial[1] in rig.keeper.ready


TestVersions = Versions.TestCase
TestVersions.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    phases=[phase for phase in Phase if phase is not Phase.shrink],  # each try takes real time
    suppress_health_check=[HealthCheck.too_slow],
)
