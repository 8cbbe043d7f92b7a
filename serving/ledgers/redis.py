"""The ledger in Redis: for gateways on several machines.

    tidegate:ledger              the document; its name is also the channel that tells of changes
    tidegate:gateways            a set: the ids of gateways
    tidegate:gateway:<id>        what each says of itself; it expires
    tidegate:verdicts:<model>    a list: what the gate said, the newest first

The user in the URL needs UNWATCH, WATCH, MULTI, EXEC, GET, GETRANGE, MGET, SET, DEL, SADD, SREM, SMEMBERS, LPUSH,
LTRIM, LRANGE, PUBLISH, SUBSCRIBE and PING, on keys and channels `tidegate:*`; SELECT if the URL names a database.
Nothing is evaluated in Redis.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from serving.errors import LedgerUnavailable, SettingsInvalid
from serving.ledger import (
    KEPT_VERDICTS,
    MEMBER_TTL_S,
    Document,
    Edit,
    Ledger,
    LedgerOptions,
    Member,
    reseed,
    reseeds,
    successor,
)
from serving.ledger_copy import LedgerCopy
from serving.redis.link import RedisLink
from serving.redis.news import RedisNews
from serving.redis.wire import Command, RedisAway, Wire
from serving.verdict import Verdict

T = TypeVar("T")

KEY: Final = "tidegate:ledger"
CHANNEL: Final = KEY
GATEWAYS: Final = "tidegate:gateways"
GATEWAY: Final = "tidegate:gateway:"
VERDICTS: Final = "tidegate:verdicts:"
POLL_S: Final = 1.0  # messages can be lost
AWAY_POLL_S: Final = 0.25  # this asks no more often: connections have a pace of their own
HEAD: Final = 96  # bytes: schema, epoch and revision stand first, so these tell one document from the next
TRIES: Final = 100  # lost to others; each is as long as a round trip

log = logging.getLogger(__name__)


class RedisLedger(Ledger):
    """Keeps what it knows in memory and on disk, and gives it back to a Redis that lost it."""

    def __init__(self, options: LedgerOptions) -> None:
        self._link = RedisLink(options.url)
        self._news = RedisNews(self._link, CHANNEL)
        self._copy = LedgerCopy(options.state, self._link.where)
        self._known = self._copied = Document()
        self._foreign = False  # what is known is of another Redis: good for an empty one, never against a full one
        self._begun = False
        self._unreadable = b""  # the head of what Redis holds, if it cannot be used
        self._seen: tuple[int, bytes] = (0, b"")  # connection and head: when last looked at

    @property
    def connected(self) -> bool:
        return self._link.up and not self._link.refused and not self._unreadable

    async def read(self) -> Document:
        await self._begin()
        try:
            await self._look()
        except LedgerUnavailable as error:
            if self._unreadable and not self._known.revision:
                raise SettingsInvalid(error.detail, remedy=error.remedy) from None
        return self._known

    async def change(self, edit: Edit) -> Document:
        await self._begin()
        for turn in range(TRIES):
            document = await self._exchange(partial(self._attempt, edit), writes=True)
            if document is not None:
                await self._save()
                return document
            await asyncio.sleep(random.uniform(0, 0.001 * min(turn + 1, 20)))  # noqa: S311  (to part those who met)
        raise LedgerUnavailable("Others changed the pointers each time.", remedy="Try again.")

    async def watch(self) -> AsyncIterator[Document]:
        with suppress(SettingsInvalid):  # whoever made it unreadable will mend it; pointers stay
            await self.read()
        seen = self._known
        yield seen
        try:
            while True:
                told = await self._news.wait(POLL_S if self._link.up else AWAY_POLL_S)
                with suppress(LedgerUnavailable):
                    if told or await self._moved():
                        await self._look()
                if self._known != seen:
                    seen = self._known
                    yield seen
        finally:
            await self._news.close()

    async def announce(self, member: Member) -> None:
        text = member.model_dump_json()
        life_ms = round(MEMBER_TTL_S * 1000)
        await self._ask(("SET", GATEWAY + member.id, text, "PX", life_ms), ("SADD", GATEWAYS, member.id), writes=True)

    async def leave(self, member: str) -> None:
        with suppress(LedgerUnavailable):
            await self._ask(("SREM", GATEWAYS, member), ("DEL", GATEWAY + member), writes=True)

    async def members(self) -> tuple[Member, ...]:
        said = await self._exchange(_said)
        members = []
        for text in said.values():
            with suppress(ValidationError):  # of another release, or no more
                members.append(Member.model_validate_json(text or b""))
        if gone := [one for one, text in said.items() if text is None]:
            with suppress(LedgerUnavailable):  # it may be read-only
                await self._exchange(partial(_sweep, gone), writes=True)
        return tuple(sorted(members, key=lambda member: member.id))

    async def keep(self, verdict: Verdict) -> None:
        key = VERDICTS + verdict.model
        push, trim = ("LPUSH", key, verdict.model_dump_json()), ("LTRIM", key, 0, KEPT_VERDICTS - 1)
        await self._ask(("UNWATCH",), ("MULTI",), push, trim, ("EXEC",), writes=True)

    async def verdicts(self, model: str) -> tuple[Verdict, ...]:
        [texts] = await self._ask(("LRANGE", VERDICTS + model, 0, KEPT_VERDICTS - 1))
        kept = []
        for text in texts:
            with suppress(ValidationError):  # of another release
                kept.append(Verdict.model_validate_json(text))
        return tuple(kept)

    async def close(self) -> None:
        await self._news.close()
        await self._link.close()

    async def _begin(self) -> None:
        if not self._begun:
            known, foreign = await asyncio.to_thread(self._copy.read)
            if not self._begun:  # nobody else was quicker, and perhaps knows more by now
                self._known, self._foreign, self._begun = known, foreign, True
                self._copied = known

    async def _look(self) -> None:
        """Learns what Redis holds, or gives it what it lost."""
        if await self._exchange(self._learn):
            await self._save()
        else:
            await self.change(lambda document: document)

    async def _moved(self) -> bool:
        """Whether Redis may hold another document than when it was last looked at. Asks for a few bytes only."""
        replies = await self._ask(("GETRANGE", KEY, 0, HEAD - 1))
        return self._seen != (self._link.connections, replies[0])

    async def _learn(self, wire: Wire) -> bool:
        """False: Redis lost what is known."""
        [text] = await wire.ask(("GET", KEY))
        found = self._parse(text)
        if self._lost(found):
            return False
        self._adopt(found, text)
        return True

    async def _attempt(self, edit: Edit, wire: Wire) -> Document | None:
        """What stands after the edit; None: another was quicker."""
        *_, text = await wire.ask(("UNWATCH",), ("WATCH", KEY), ("GET", KEY))
        found = self._parse(text)
        standing = reseed(self._known, found) if self._lost(found) else found or Document()
        edited = edit(standing)
        document = standing if edited == standing else successor(standing, edited)
        if document == (found or Document()):
            self._adopt(found, text)
            return document
        text = document.model_dump_json(by_alias=True, exclude_none=True).encode()
        setting, telling = ("SET", KEY, text), ("PUBLISH", CHANNEL, document.revision)
        *_, done = await wire.ask(("MULTI",), setting, telling, ("EXEC",), commits=True)
        if done is None:
            return None
        self._adopt(document, text)
        return document

    def _lost(self, found: Document | None) -> bool:
        return not (self._foreign and found) and reseeds(self._known, found)

    def _adopt(self, found: Document | None, text: bytes | None) -> None:
        """Holds for known what Redis holds; called between its answer and the next question, so in Redis' order."""
        self._seen = (self._link.connections, (text or b"")[:HEAD])
        self._unreadable = b""
        if found is not None:
            self._foreign = False
            self._known = found

    async def _save(self) -> None:
        if self._copied != (known := self._known):
            await asyncio.to_thread(self._copy.write, known)
            self._copied = known

    def _parse(self, text: bytes | None) -> Document | None:
        """LedgerUnavailable when a newer release wrote it, or it is damaged: it is never written over."""
        try:
            return None if text is None else Document.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            head = (text or b"-")[:HEAD]
            detail = f"This release cannot read the pointers in Redis: {field or 'document'}: {first['msg']}."
            remedy = f"Upgrade this gateway; if no newer release wrote them, delete {KEY} and it is written anew."
            if self._unreadable != head:
                log.error("%s %s Until then the last pointers known stay.", detail, remedy)  # noqa: TRY400
            self._unreadable = head
            raise LedgerUnavailable(detail, remedy=remedy) from None

    async def _ask(self, *commands: Command, writes: bool = False) -> list[Any]:
        return await self._exchange(lambda wire: wire.ask(*commands), writes=writes)

    async def _exchange(self, work: Callable[[Wire], Awaitable[T]], *, writes: bool = False) -> T:
        try:
            return await self._link.exchange(work, writes=writes)
        except RedisAway as away:
            if away.unsure:
                remedy = "Look at the history before trying again."
                raise LedgerUnavailable(f"{away.detail} The change may have been made.", remedy=remedy) from None
            raise LedgerUnavailable(away.detail, remedy=away.remedy) from None


async def _said(wire: Wire) -> dict[bytes, bytes | None]:
    """What each gateway says; None of those whose time is up."""
    [ids] = await wire.ask(("SMEMBERS", GATEWAYS))
    if not ids:
        return {}
    [texts] = await wire.ask(("MGET", *_keys(ids)))
    return dict(zip(ids, texts, strict=True))


async def _sweep(gone: Sequence[bytes], wire: Wire) -> None:
    """Forgets the gateways, unless one of them comes back meanwhile."""
    *_, texts = await wire.ask(("UNWATCH",), ("WATCH", *_keys(gone)), ("MGET", *_keys(gone)))
    if not any(texts):
        await wire.ask(("MULTI",), ("SREM", GATEWAYS, *gone), ("EXEC",))


def _keys(ids: Sequence[bytes]) -> list[bytes]:
    return [GATEWAY.encode() + one for one in ids]


PLUGIN = RedisLedger
