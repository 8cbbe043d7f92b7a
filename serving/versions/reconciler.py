"""Makes what is loaded agree with what the ledger wants, and says so to the others.

One model that cannot be loaded takes no other down; a ledger that cannot be reached stops changes, not answers.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from serving.errors import LedgerUnavailable, SettingsInvalid, TidegateError
from serving.ledger import HEARTBEAT_S, LEASE_S, Document, Ledger, Member, Pointers, Trials, Wanted
from serving.repository.layout import VERSION_NAME, Index, scan, signature
from serving.versions.announcement import describe_member
from serving.versions.catalog import GraphState, ModelList, Tallies, describe
from serving.versions.dependents import Dependents, NoDependents
from serving.versions.keeper import Keeper
from serving.versions.loader import Loader
from serving.versions.router import Router
from serving.versions.transitions import seeded, sweep

log = logging.getLogger(__name__)

RESCAN_S: Final = 2.0


class Reconciler:
    """Follows the ledger and the repository, with a Keeper for each model."""

    def __init__(
        self,
        repository: Path,
        ledger: Ledger,
        loader: Loader,
        router: Router,
        *,
        dependents: Dependents | None = None,
        trials: Callable[[Document, Index], Trials] = lambda *_: {},
    ) -> None:
        self.settled = False  # whether all that is to answer was tried once
        self.member = f"{socket.gethostname().partition('.')[0]}-{secrets.token_hex(4)}"
        self.index = Index({}, ())
        self.members: tuple[Member, ...] = ()  # that live, as they last said
        self.behind = 0  # of those, they that follow older pointers than this one
        self._repository = repository
        self._ledger = ledger
        self._loader = loader
        self._router = router
        self._dependents = dependents or NoDependents()
        self._trials = trials
        self._document = Document()
        self._keepers: dict[str, Keeper] = {}
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._signature: object = None
        self._census_due_s = 0.0
        self._attempts: dict[str, tuple[Wanted, float]] = {}  # and since when each was seen so
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def revision(self) -> int:
        """Of the document that this gateway follows."""
        return self._document.revision

    @property
    def gateways(self) -> int:
        """That live, this one among them, as far as is known."""
        return max(1, len(self.members))

    @property
    def document(self) -> Document:
        """That this gateway follows."""
        return self._document

    async def start(self) -> None:
        """Reads the repository and the ledger, then loads. RepositoryInvalid or SettingsInvalid if they cannot be."""
        await self._scan()
        self._follow(await self._seeded(await self._ledger.read()))
        await self._say()  # before anything is loaded: a change that is under way shall wait for this gateway too
        self._router.settled = True
        for keeper in self._keepers.values():
            await keeper.load_stable()
        self.settled = True
        for keeper in self._keepers.values():
            keeper.start()
        for work in (self._watch, self._beat, self._look):
            self._tasks.append(asyncio.create_task(_keep_on(work), name=work.__name__))

    async def close(self) -> None:
        """Unloads everything, each version when its last lease has ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(keeper.close() for keeper in self._keepers.values()))
        with suppress(TidegateError):
            await self._ledger.leave(self.member)
        await self._ledger.close()

    async def refresh(self) -> Index:
        """Looks for what was published, and gives what there is."""
        await self._scan()
        self._follow(await self._seeded(self._document))
        return self.index

    def pointers(self, model: str) -> Pointers | None:
        """Who is live of a model, as this gateway follows it."""
        keeper = self._keepers.get(model)
        return keeper.pointers if keeper else None

    def live(self) -> dict[str, Pointers]:
        """Who is live of each model, as this gateway follows it."""
        return {name: keeper.pointers for name, keeper in self._keepers.items()}

    def look_again(self) -> None:
        """To be called when dependents are further than they were, or need other versions."""
        for keeper in self._keepers.values():
            keeper.look_again()
        self._news.set()

    def models(self, tallies: Tallies) -> ModelList:
        """What there is and who is live. tallies: of the copies for versions in the shadow."""
        serving = {name: keeper.serving for name, keeper in self._keepers.items()}
        return describe(self.index, self._document.models, serving, tallies)

    def states(self) -> list[GraphState]:
        """Of each version of each graph at this gateway, those that cannot even be read among them."""
        states = [state for keeper in self._keepers.values() for state in keeper.states()]
        known = {(state.name, state.version) for state in states}
        for problem in self.index.problems:
            name, _, rest = problem.file.partition("/")
            number = rest.partition("/")[0]
            if VERSION_NAME.fullmatch(number) and (name, int(number)) not in known:
                known.add((name, int(number)))
                states.append(GraphState(name, int(number), "UNAVAILABLE", str(problem)))
        return sorted(states, key=lambda state: (state.name, state.version))

    async def _watch(self) -> None:
        async for document in self._ledger.watch():
            if self._unread(document):
                await self._scan()  # published just now
            self._follow(await self._seeded(document))

    async def _beat(self) -> None:
        while True:
            self._news.clear()
            await self._say()
            await self._count()
            if left := self._left_behind(time.monotonic()):
                with suppress(TidegateError):
                    await self._ledger.change(sweep(left))
            with suppress(TidegateError):  # what could not be recorded while the ledger was away
                document = await self._seeded(self._document)
                if document is not self._document:
                    self._follow(document)
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):  # wait_for loses a cancellation, before Python 3.12
                    await self._news.wait()

    async def _count(self) -> None:
        if (now_s := time.monotonic()) < self._census_due_s:
            return  # some news brought this beat, not the time
        self._census_due_s = now_s + HEARTBEAT_S
        with suppress(LedgerUnavailable, SettingsInvalid):
            self.members = await self._ledger.members()
            self.behind = sum(not member.follows(self._document) for member in self.members)

    def _left_behind(self, now_s: float) -> dict[str, Wanted]:
        """Attempts that nobody has renewed for a lease by this gateway's own clock: those of others may differ."""
        known = {name: one.wanted for name, one in self._document.models.items() if one.wanted}
        before = self._attempts
        self._attempts = {
            name: before[name] if name in before and before[name][0] == wanted else (wanted, now_s)
            for name, wanted in known.items()
        }
        return {name: wanted for name, (wanted, since_s) in self._attempts.items() if now_s > since_s + LEASE_S}

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(RESCAN_S)
            if await asyncio.to_thread(signature, self._repository) != self._signature:
                await self.refresh()

    async def _scan(self) -> None:
        self._signature = await asyncio.to_thread(signature, self._repository)
        index = await asyncio.to_thread(scan, self._repository)
        for problem in index.problems:
            if str(problem) not in map(str, self.index.problems):
                log.error("left out: %s", problem)
        self.index = index

    def _unread(self, document: Document) -> bool:
        """Whether a version is wanted that the index does not hold, or a model shall be loaded that may be mended."""
        wanted = ((name, pointers.wanted.version) for name, pointers in document.models.items() if pointers.wanted)
        models, known = self.index.models, self._document.models
        return any(name not in models or version not in models[name].versions for name, version in wanted) or any(
            name in known and pointers.loads != known[name].loads for name, pointers in document.models.items()
        )

    async def _seeded(self, document: Document) -> Document:
        """The document with pointers for each model; the same one while the ledger cannot be reached."""
        firsts = {name: model.first_version for name, model in self.index.models.items()}
        if firsts.keys() - document.models.keys():
            with suppress(LedgerUnavailable):
                return await self._ledger.change(seeded(firsts))
        return document

    def _follow(self, document: Document) -> None:
        """Hands each Keeper its pointers, of this document or of a newer one that came meanwhile."""
        if (document.epoch, document.revision) < (self._document.epoch, self._document.revision):
            document = self._document
        self._document = document
        for name, model in self.index.models.items():
            keeper = self._keepers.get(name)
            if keeper is None:
                keeper = Keeper(
                    model, self._loader, self._router, self._turn, self._news.set, dependents=self._dependents
                )
                self._keepers[name] = keeper
                if self.settled:
                    keeper.start()
            keeper.follow(model, document.models.get(name) or keeper.pointers)
        for name in self._keepers.keys() - self.index.models.keys():  # its folder is gone; what is loaded goes on
            keeper = self._keepers[name]
            keeper.follow(keeper.model, document.models.get(name) or keeper.pointers)
        self._news.set()

    async def _say(self) -> None:
        """What this gateway follows and has loaded, for those who wait for it."""
        trials = self._trials(self._document, self.index)
        member = await describe_member(self.member, self._document, self._keepers, self._dependents, trials)
        with suppress(LedgerUnavailable, SettingsInvalid):  # said again with the next beat
            await self._ledger.announce(member)


async def _keep_on(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Ends only when it is cancelled: after a bug, which is logged, it begins anew."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed; it begins anew", work.__name__)
        await asyncio.sleep(HEARTBEAT_S)
