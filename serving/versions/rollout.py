"""Both phases of a change, over all gateways: what they shall load, and the pointer once they have.

Whatever goes wrong before the pointer moves ends with nothing moved; an attempt whose gateway died is swept away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

from serving.errors import ChangeRefused, LoadFailed, TidegateError
from serving.ledger import LEASE_S, Document, Ledger, Member, Wanted
from serving.versions.transitions import Author, commit, of_model, renew, want, withdraw

RENEW_S: Final = 3.0
ASK_S: Final = 0.01  # between two looks at how far the gateways are
FOLLOW_S: Final = 2.0  # for all gateways to serve what was decided; who does not is named


class Rollout:
    """Moves pointers in two phases. load_s: the longest that all gateways together may take to load a version."""

    def __init__(self, ledger: Ledger, load_s: float) -> None:
        self._ledger = ledger
        self._load_s = load_s

    async def make(self, model: str, wanted: Wanted) -> Document:
        """Says what is wanted, waits until all gateways have it, then moves the pointer. ChangeRefused, LoadFailed."""
        document = await self._ledger.change(of_model(model, lambda pointers: want(pointers, wanted, time.time())))
        try:
            await self._loaded_everywhere(model, document, self._renewing(model, wanted), "No pointer has moved.")
            author = Author(wanted.who, wanted.why, time.time())
            return await self._ledger.change(of_model(model, lambda pointers: commit(pointers, wanted.id, author)))
        except BaseException:
            with suppress(TidegateError):  # it ends by itself, a little later
                await asyncio.shield(
                    self._ledger.change(of_model(model, lambda pointers: withdraw(pointers, wanted.id)))
                )
            raise

    async def ready(self, model: str, document: Document) -> None:
        """Returns when all gateways have the stable version. LoadFailed; ChangeRefused when the model is unloaded."""

        async def stable() -> int:
            pointers = (await self._ledger.read()).models[model]
            if pointers.unloaded:
                detail = f"{model} was unloaded again before all gateways had loaded it."
                raise ChangeRefused(detail, remedy="See the history.")
            return pointers.stable

        await self._loaded_everywhere(model, document, stable, "The gateways go on trying.")

    def _renewing(self, model: str, wanted: Wanted) -> Callable[[], Awaitable[int]]:
        """The version that is wanted, and keeps the attempt while it is asked for."""
        renewed_s = time.monotonic()

        async def version() -> int:
            nonlocal renewed_s
            if time.monotonic() > renewed_s + RENEW_S:
                renewed_s = time.monotonic()
                renewal = partial(renew, attempt=wanted.id, until=time.time() + LEASE_S)
                await self._ledger.change(of_model(model, renewal))
            return wanted.version

        return version

    async def _loaded_everywhere(
        self, model: str, document: Document, wanted: Callable[[], Awaitable[int]], otherwise: str
    ) -> None:
        """Returns when all gateways that live have the version. LoadFailed when one says that it cannot.

        wanted: the version, asked each time; what it raises ends the wait. otherwise: how things stand after a failure.
        """
        late_s = time.monotonic() + self._load_s
        while True:
            version = await wanted()
            members = await self._ledger.members()
            for member in members:
                reason = member.failed.get(model, {}).get(version)
                if reason is not None and member.follows(document):
                    raise LoadFailed(f"{model}/{version}: {reason}", remedy=otherwise)
            waiting = [  # what a gateway had before it read that the version is wanted, it may be letting go
                member.id
                for member in members
                if not (member.follows(document) and version in member.ready.get(model, ()))
            ]
            if not waiting:
                return
            if any(model in member.preparing for member in members):
                late_s = time.monotonic() + self._load_s  # it is loaded; what hangs on it takes as long as it takes
            if time.monotonic() > late_s:
                names = ", ".join(waiting)
                detail = f"{names} did not load {model}/{version} within {self._load_s:.0f} s."
                raise LoadFailed(detail, remedy=f"{otherwise} See the gateway's log, or stop it.")
            await asyncio.sleep(ASK_S)

    async def cold(self, model: str, version: int) -> bool:
        """Whether a gateway would have to load the version first."""
        return any(version not in member.ready.get(model, ()) for member in await self._ledger.members())

    async def followed(self, document: Document, model: str) -> tuple[int, tuple[str, ...]]:
        """How many gateways serve what the document says, and who does not within FOLLOW_S."""
        late_s = time.monotonic() + FOLLOW_S
        pointers = document.models[model]
        while True:
            members: tuple[Member, ...] = ()
            with suppress(TidegateError):  # the change was made; who follows it cannot be asked now
                members = await self._ledger.members()
                pointers = (await self._ledger.read()).models[model]  # others may have moved them since
            late = [
                one.id
                for one in members
                if not one.follows(document)
                or not (pointers.unloaded or pointers.stable in one.ready.get(model, (pointers.stable,)))
            ]
            if not late or time.monotonic() > late_s:
                return len(members) - len(late), tuple(late)
            await asyncio.sleep(ASK_S)
