"""Pointers in `live.json` under the state folder: for one gateway on one machine.

Replaced atomically under a lock and synced, so that it reads as before or as after, never between.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.errors import SettingsInvalid
from serving.ledger import Ledger, Pointers

FILE = "live.json"
LOCK = "live.lock"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    stable: Annotated[int, Field(ge=1)]


class _Live(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    schema_: Literal[1] = Field(default=1, alias="schema")
    revision: int = 0
    models: Mapping[str, _Entry] = {}


class FileLedger(Ledger):
    """Reads do not lock: a rename gives them the old file or the new one."""

    def __init__(self, state: Path) -> None:
        self._state = state

    async def read(self) -> Mapping[str, Pointers]:
        return _pointers(await asyncio.to_thread(self._read))

    async def seed(self, stables: Mapping[str, int]) -> Mapping[str, Pointers]:
        return _pointers(await asyncio.to_thread(self._seed, stables))

    def _read(self) -> _Live:
        try:
            return _Live.model_validate_json((self._state / FILE).read_bytes())
        except FileNotFoundError:
            return _Live()
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            remedy = f"Mend {FILE} in the state folder, or move it away to start from the repository's seed versions."
            raise SettingsInvalid(f"{FILE}: {field}: {first['msg']}.", remedy=remedy) from None
        except OSError as error:
            raise self._unusable(error) from None

    def _seed(self, stables: Mapping[str, int]) -> _Live:
        with self._locked():
            live = self._read()
            missing = {name: _Entry(stable=version) for name, version in stables.items() if name not in live.models}
            if not missing:
                return live
            live = _Live(revision=live.revision + 1, models={**live.models, **missing})
            self._write(live)
            return live

    def _write(self, live: _Live) -> None:
        staged = self._state / f".{FILE}.new"
        try:
            with staged.open("w", encoding="utf-8") as stream:
                stream.write(live.model_dump_json(by_alias=True, indent=2) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            staged.replace(self._state / FILE)
            folder = os.open(self._state, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._unusable(error) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, over processes too; the system frees the lock of one that dies."""
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            lock = (self._state / LOCK).open("w")
        except OSError as error:
            raise self._unusable(error) from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _unusable(self, error: OSError) -> SettingsInvalid:
        reason = error.strerror or "it cannot be used"
        return SettingsInvalid(f"The state folder {self._state}: {reason}.", remedy="Name another with --state.")


def _pointers(live: _Live) -> Mapping[str, Pointers]:
    return {name: Pointers(entry.stable) for name, entry in live.models.items()}


PLUGIN = FileLedger
