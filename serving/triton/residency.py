"""What Triton shall have loaded: added version by version, let go when nobody claims it, and loaded anew when lost.

Triton takes a list of versions for a graph and forgets all others, so each list names what is loaded already, and lists
for a graph are sent by one gateway at a time (claim.py). Measured of it: deploy/triton/README.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from typing import Final

from serving.claim import RENEW_S, Claims, ClaimsUnavailable, Turn, turn_at
from serving.errors import EngineAway, EngineFailed
from serving.repository.config import GraphConfig
from serving.repository.layout import Graph, GraphKey
from serving.triton.link import LOAD_LIMIT_S, LOOK_S, LOOK_SOON_S, TritonLink
from serving.triton.messages import load_request, unload_request
from serving.triton.unclaimed import Unclaimed

log = logging.getLogger(__name__)

READY: Final = "READY"
LOADING: Final = "LOADING"
SWEEP_S: Final = 1.0
GONE_S: Final = 10.0  # for a version that was dropped to be gone
RETRY_S: Final = (0.25, 0.5, 1.0, 2.0, 5.0)  # a graph that was lost and cannot be loaded anew

ASK_S: Final = 0.02

Probe = Callable[[], Awaitable[bool]]


class Residency:
    """Keeps Triton at what this gateway needs, and lets go of what no gateway does."""

    def __init__(self, link: TritonLink, claims: Claims, address: str) -> None:
        self._link = link
        self._claims = claims
        self._address = address
        self._needed: set[GraphKey] = set()  # claimed: loaded, or on their way
        self._graphs: dict[GraphKey, Graph] = {}  # that were loaded, and shall stay
        self._ready: set[GraphKey] = set()
        self._returning: set[GraphKey] = set()  # Triton was away, and they were not tried since
        self._configs: dict[str, GraphConfig] = {}  # of all graphs that were ever needed, the newest
        self._unclaimed = Unclaimed(claims.patience_s)
        self._mending: dict[GraphKey, asyncio.Task[None]] = {}
        self._seen = asyncio.Event()  # Triton was looked at, whatever came of it
        self._watching: asyncio.Task[None] | None = None
        self._saying = asyncio.Lock()
        self._renew_s = self._sweep_s = 0.0

    @property
    def settled(self) -> bool:
        """Whether Triton answers, and all that it had before it was away was loaded anew, or tried. True until
        something is to be loaded: before, Triton is not looked at.
        """
        return self._watching is None or (self._link.up and not self._returning)

    def ready(self, key: GraphKey) -> bool:
        """Whether Triton has the graph, as far as is known."""
        return key in self._ready

    async def add(self, graph: Graph) -> None:
        """Loads the graph beside what is loaded. EngineAway, or EngineFailed when Triton cannot load it."""
        await self._look_once()
        self._needed.add(graph.key)
        self._configs[graph.key.name] = graph.config
        try:
            await self._claim()
            await self._load(graph)
        except BaseException:
            self._needed.discard(graph.key)
            self._renew_s = 0.0
            raise
        self._graphs[graph.key] = graph
        self._ready.add(graph.key)

    async def remove(self, key: GraphKey) -> None:
        """Takes the claim back. Triton lets the version go a little later, if nobody else needs it."""
        self._graphs.pop(key, None)
        for known in (self._ready, self._returning, self._needed):
            known.discard(key)
        if mending := self._mending.pop(key, None):
            mending.cancel()
        await self._claim()

    def lost(self, key: GraphKey) -> None:
        """Triton says that it does not have it: it is loaded anew."""
        self._mend(key, None)

    def broken(self, key: GraphKey, answers: Probe) -> None:
        """Triton says that it is ready and fails over each run: it is loaded anew, unless it `answers` by then."""
        self._mend(key, answers)

    async def close(self) -> None:
        """What is loaded stays, for whoever starts next; the claims expire."""
        tasks = [task for task in (self._watching, *self._mending.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._claims.close()

    async def _look_once(self) -> None:
        """Begins to watch Triton; returns when it was looked at once. EngineAway if it does not answer."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="watch Triton")
        await self._seen.wait()
        if not self._link.up:
            raise EngineAway("The engine cannot be reached.", remedy="See whether Triton runs at --triton-url.")

    async def _watch(self) -> None:
        while True:
            try:
                await self._tick()
            except Exception:
                log.exception("watching Triton failed; it goes on")
            self._seen.set()
            await asyncio.sleep(LOOK_S if self._link.up else LOOK_SOON_S)

    async def _tick(self) -> None:
        known = set(self._graphs)  # what is loaded while Triton answers, the answer may not have
        states = await self._link.look()
        if not self._link.up:
            self._ready, self._returning = set(), set(self._graphs)
        if states is not None:
            for key in known & self._graphs.keys():
                self._compare(key, states.get(key.name, {}).get(key.version))
        now_s = time.monotonic()
        if now_s >= self._renew_s:
            await self._claim()
        if states is not None and now_s >= self._sweep_s:
            self._sweep_s = now_s + SWEEP_S
            await self._sweep(states)

    def _compare(self, key: GraphKey, state: str | None) -> None:
        """What is LOADING anew, since its configuration was changed, answers meanwhile."""
        if state == READY and key not in self._mending:
            self._ready.add(key)
            self._returning.discard(key)
        elif state not in (READY, LOADING):
            self._mend(key, None)

    async def _claim(self) -> None:
        async with self._saying:  # one after another: what was said last is what is needed
            needs: dict[str, list[int]] = {}
            for key in self._needed:
                needs.setdefault(key.name, []).append(key.version)
            self._renew_s = time.monotonic() + RENEW_S
            try:
                await self._claims.claim(needs)
            except ClaimsUnavailable as error:
                self._renew_s = time.monotonic() + LOOK_S
                log.warning("what Triton shall keep cannot be told to other gateways: %s", error)

    async def _load(self, graph: Graph, broken: Probe | None = None) -> None:
        name, version = graph.key.name, graph.key.version
        async with turn_at(self._claims, f"{self._address}/{name}") as turn:
            ready = await self._loaded(name)
            if version in ready:
                if broken is None or await broken():
                    return
                await self._list(graph.config, ready - {version}, turn)
                await self._until_gone(graph.key)
                ready = await self._loaded(name)
            await self._list(graph.config, {*ready, version} - self._surplus(name), turn)
            if version not in await self._loaded(name):  # Triton says OK to versions that it does not find
                detail = f"Triton did not load {graph.key}, and did not say why: see whether its repository holds it."
                raise EngineFailed(detail)
        log.info("Triton has %s", graph.key)

    async def _list(self, config: GraphConfig, versions: Collection[int], turn: Turn) -> None:
        """Sends the list of versions that Triton shall have of a graph."""
        if not turn.held:
            raise EngineAway("The turn to change the engine was lost.", remedy="Try again.")
        if versions:
            await self._link.ask("RepositoryModelLoad", load_request(config, versions), LOAD_LIMIT_S)
        else:
            await self._link.ask("RepositoryModelUnload", unload_request(config.name))

    async def _loaded(self, name: str) -> set[int]:
        states = await self._link.look()
        if states is None:
            raise EngineAway("The engine cannot be reached.", remedy="Try again in a moment.")
        return {version for version, state in states.get(name, {}).items() if state == READY}

    async def _until_gone(self, key: GraphKey) -> None:
        late_s = time.monotonic() + GONE_S
        while time.monotonic() < late_s:
            if key.version not in await self._loaded(key.name):
                return
            await asyncio.sleep(ASK_S)

    def _mend(self, key: GraphKey, broken: Probe | None) -> None:
        self._ready.discard(key)
        if key in self._graphs and key not in self._mending:
            task = asyncio.create_task(self._load_anew(self._graphs[key], broken), name=f"mend {key}")
            self._mending[key] = task

    async def _load_anew(self, graph: Graph, broken: Probe | None) -> None:
        tries = 0
        try:
            while self._link.up:  # else the next look that finds it begins anew
                with suppress(EngineFailed):
                    await self._load(graph, broken)
                    self._ready.add(graph.key)
                    self._returning.discard(graph.key)
                    return
                self._returning.discard(graph.key)  # it holds nobody else up
                await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1
        except Exception:
            log.exception("%s cannot be loaded anew", graph.key)
        finally:
            if self._mending.get(graph.key) is asyncio.current_task():
                del self._mending[graph.key]

    async def _sweep(self, states: Mapping[str, Mapping[int, str]]) -> None:
        """Lets go of what nobody has claimed for a while. Of the graphs of this repository only."""
        try:
            claimed = await self._claims.claimed()
        except ClaimsUnavailable:
            self._unclaimed.forget()
            return
        loaded = [
            GraphKey(name, version)
            for name in self._configs
            for version, state in states.get(name, {}).items()
            if state == READY
        ]
        self._unclaimed.seen(loaded, claimed, time.monotonic())
        for name in list(filter(self._surplus, self._configs)):
            with suppress(EngineFailed):
                await self._drop(name)

    def _surplus(self, name: str) -> set[int]:
        return self._unclaimed.surplus(name, self._needed, time.monotonic())

    async def _drop(self, name: str) -> None:
        async with turn_at(self._claims, f"{self._address}/{name}") as turn:
            with suppress(ClaimsUnavailable):
                claimed = (await self._claims.claimed()).get(name, frozenset())  # perhaps meanwhile
                ready = await self._loaded(name)
                surplus = (self._surplus(name) & ready) - claimed
                if surplus:
                    await self._list(self._configs[name], ready - surplus, turn)
                    log.info("Triton lets go of %s/%s", name, ", ".join(map(str, sorted(surplus))))
