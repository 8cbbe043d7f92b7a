"""Programs that are kept running as `restart: unless-stopped` keeps containers, and that leave nothing behind."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from deploy.stack.programs import Program

READY_S: Final = 180.0  # to the first answer, models loaded
PAUSE_S: Final = 1.0  # before a program that ended is started again
POLL_S: Final = 0.1
TAIL_LINES: Final = 20
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_libc = ctypes.CDLL(None, use_errno=True)


class NotStarted(Exception):
    """A program ended before it was ready, or took too long. The message has the end of its log."""


class Kept:
    """One program. `cleared`: called when it ended and before it starts, to remove what a killed one left."""

    def __init__(self, program: Program, folder: Path, cleared: Callable[[], None] = lambda: None) -> None:
        self.program = program
        self.pid: int | None = None
        self.starts = 0
        self._log = folder / f"{program.name}.log"
        self._cleared = cleared
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when it answers. NotStarted."""
        self._task = asyncio.create_task(self._keep())
        limit_s = time.monotonic() + READY_S
        while not await asyncio.to_thread(self.program.is_ready):
            if self.starts > 1 or time.monotonic() > limit_s:
                raise NotStarted(f"{self.program.name} did not start. The end of {self._log}:\n{self._tail()}")
            await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when its grace is over; then to whatever it started itself."""
        self._stopping = True
        task = self._task
        if task is None:
            return
        self.signal(signal.SIGTERM)
        done, _ = await asyncio.wait([task], timeout=self.program.grace_s)
        if not done:
            self.signal(signal.SIGKILL)
            await task

    def signal(self, number: int) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _keep(self) -> None:
        self._cleared()
        while not self._stopping:
            with self._log.open("ab") as log:
                process = await self._spawn(log)
            self.pid = process.pid
            self.starts += 1
            self._end_if_late()
            await process.wait()
            self.pid = None
            with suppress(ProcessLookupError):  # children that outlived it, such as Triton's stubs
                os.killpg(process.pid, signal.SIGKILL)
            self._cleared()
            if not self.program.comes_back:
                return
            if not self._stopping:
                await asyncio.sleep(PAUSE_S)

    def _end_if_late(self) -> None:
        """For one that was being started when it was to stop."""
        if self._stopping:
            self.signal(signal.SIGTERM)

    async def _spawn(self, log: IO[bytes]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.program.command,
            env={**_bare_environment(), **self.program.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the stack, which ends its programs in order
            preexec_fn=_end_with_parent,
        )

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:])


def write_pids(kept: list[Kept], file: Path) -> None:
    """Name -> process id, None while it is down; for whoever wants to try what happens when one is killed."""
    text = json.dumps({one.program.name: one.pid for one in kept})
    beside = file.with_suffix(".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)


def _bare_environment() -> dict[str, str]:
    """What this process has, without settings of gateways: theirs are the compose file's."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("TIDEGATE_")}


def _end_with_parent() -> None:
    """In the child, before its program: SIGTERM when the stack is killed, so that nothing outlives it."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
