"""Claims under the state folder: for gateways on one machine.

claims/<gateway>.json      what each gateway needs; old ones count no more
claims/<name>.turn         locked by whoever has the turn, and by the system given back when that one dies
"""

from __future__ import annotations

import asyncio
import fcntl
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

from pydantic import TypeAdapter, ValidationError

from serving.atomic_file import replace_file
from serving.claim import CLAIM_TTL_S, ClaimOptions, Claims, ClaimsUnavailable, Needs, Turn, union

FOLDER: Final = "claims"
ASK_S: Final = 0.01
_NEEDS: Final = TypeAdapter(dict[str, tuple[int, ...]])


class FileClaims(Claims):
    """A file is there or it is not: nothing is lost, and a second is patience enough."""

    patience_s = 1.0

    def __init__(self, options: ClaimOptions) -> None:
        self._folder = options.state / FOLDER
        self._file = self._folder / f"{options.gateway}.json"

    async def claim(self, needs: Needs) -> None:
        await asyncio.to_thread(self._claim, needs)

    async def claimed(self) -> Mapping[str, frozenset[int]]:
        return await asyncio.to_thread(self._claimed)

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Turn]:
        path = self._folder / f"{re.sub('[^A-Za-z0-9._-]', '_', name)}.turn"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = path.open("w")
        except OSError as error:
            raise ClaimsUnavailable(error.strerror) from None
        with lock:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                await asyncio.sleep(ASK_S)
            yield Turn()

    async def close(self) -> None:
        return

    def _claim(self, needs: Needs) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._file, _NEEDS.dump_json({n: tuple(v) for n, v in needs.items()}).decode(), durable=False)
        except OSError as error:
            raise ClaimsUnavailable(error.strerror) from None

    def _claimed(self) -> dict[str, frozenset[int]]:
        found = []
        oldest_s = time.time() - CLAIM_TTL_S
        for path in self._folder.glob("[!.]*.json"):
            with suppress(FileNotFoundError, ValidationError):  # gone meanwhile, or of another release
                if path.stat().st_mtime < oldest_s:
                    path.unlink(missing_ok=True)
                else:
                    found.append(_NEEDS.validate_json(path.read_bytes()))
        return union(found)


PLUGIN = FileClaims
