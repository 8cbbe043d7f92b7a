"""The ledger under the state folder: for gateways on one machine.

live.json                 the document, replaced atomically under a lock and synced
gateways/<id>.json        what each gateway says of itself; old ones count no more
verdicts/<model>.json     what the gate said, the newest first
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from serving.atomic_file import locked, replace_file
from serving.errors import SettingsInvalid
from serving.ledger import KEPT_VERDICTS, MEMBER_TTL_S, Document, Edit, Ledger, LedgerOptions, Member, successor
from serving.verdict import Verdict

T = TypeVar("T")

FILE: Final = "live.json"
LOCK: Final = "live.lock"
GATEWAYS: Final = "gateways"
VERDICTS: Final = "verdicts"
POLL_S: Final = 0.03  # a look at the file's date; changes made by this process are known at once
_DOCUMENT: Final = TypeAdapter(Document)
_MEMBER: Final = TypeAdapter(Member)
_VERDICTS: Final = TypeAdapter(tuple[Verdict, ...])


class FileLedger(Ledger):
    """Reads do not lock: a rename gives them the old file or the new one."""

    def __init__(self, options: LedgerOptions) -> None:
        self._state = options.state
        self._changed = asyncio.Event()
        self._telling = threading.Lock()
        self._left: set[str] = set()

    async def read(self) -> Document:
        return await asyncio.to_thread(self._read)

    async def change(self, edit: Edit) -> Document:
        document = await asyncio.to_thread(self._change, edit)
        self._changed.set()
        return document

    async def watch(self) -> AsyncIterator[Document]:
        seen: tuple[int, ...] = (-1,)
        while True:
            self._changed.clear()
            stamp = self._stamp()
            if stamp != seen:
                with suppress(SettingsInvalid):  # whoever broke the file by hand will mend it; pointers stay
                    yield await self.read()
                seen = stamp
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):  # wait_for loses a cancellation, before Python 3.12
                    await self._changed.wait()

    async def announce(self, member: Member) -> None:
        await asyncio.to_thread(self._announce, member)

    async def leave(self, member: str) -> None:
        await asyncio.to_thread(self._leave, member)

    async def members(self) -> tuple[Member, ...]:
        return await asyncio.to_thread(self._members)

    async def keep(self, verdict: Verdict) -> None:
        await asyncio.to_thread(self._keep, verdict)

    async def verdicts(self, model: str) -> tuple[Verdict, ...]:
        return await asyncio.to_thread(self._load, _VERDICTS, Path(VERDICTS, f"{model}.json"), ())

    def _read(self) -> Document:
        return self._load(_DOCUMENT, Path(FILE), Document())

    def _change(self, edit: Edit) -> Document:
        with self._writing():
            found = self._read()
            edited = edit(found)
            if edited == found:
                return found
            written = successor(found, edited)
            replace_file(self._state / FILE, written.model_dump_json(by_alias=True, indent=2, exclude_none=True))
            return written

    def _announce(self, member: Member) -> None:
        with self._usable(), self._telling:
            if member.id in self._left:  # what was begun before it left, by a thread that nobody can stop
                return
            folder = self._state / GATEWAYS
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(folder / f"{member.id}.json", member.model_dump_json(), durable=False)

    def _leave(self, member: str) -> None:
        with suppress(OSError), self._telling:
            self._left.add(member)
            (self._state / GATEWAYS / f"{member}.json").unlink(missing_ok=True)

    def _members(self) -> tuple[Member, ...]:
        members = []
        oldest_s = time.time() - MEMBER_TTL_S
        for path in sorted((self._state / GATEWAYS).glob("[!.]*.json")):
            with suppress(FileNotFoundError, ValidationError):  # gone meanwhile, or of another release
                if path.stat().st_mtime < oldest_s:
                    path.unlink(missing_ok=True)
                else:
                    members.append(_MEMBER.validate_json(path.read_bytes()))
        return tuple(members)

    def _keep(self, verdict: Verdict) -> None:
        file = Path(VERDICTS, f"{verdict.model}.json")
        with self._writing():
            kept = (verdict, *self._load(_VERDICTS, file, ()))[:KEPT_VERDICTS]
            (self._state / VERDICTS).mkdir(exist_ok=True)
            replace_file(self._state / file, _VERDICTS.dump_json(kept, indent=2).decode())

    def _load(self, kind: TypeAdapter[T], file: Path, default: T) -> T:
        with self._usable():
            try:
                return kind.validate_json((self._state / file).read_bytes())
            except FileNotFoundError:
                return default
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                field = ".".join(str(part) for part in first["loc"])
                remedy = (
                    f"Mend {file} in the state folder, or move it away to start from the repository's seed versions."
                )
                raise SettingsInvalid(f"{file}: {field}: {first['msg']}.", remedy=remedy) from None

    def _stamp(self) -> tuple[int, ...]:
        """What changes when the file is replaced; empty while there is none."""
        try:
            found = (self._state / FILE).stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ino, found.st_size

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._usable():
            self._state.mkdir(parents=True, exist_ok=True)
            with locked(self._state / LOCK):
                yield

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or "it cannot be used"
            remedy = "Name another with --state."
            raise SettingsInvalid(f"The state folder {self._state}: {reason}.", remedy=remedy) from None


PLUGIN = FileLedger
