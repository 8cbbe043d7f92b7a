"""The child that vets versions, from the gateway's side. It may crash, hang or swell; here that is a line of a report.

The one file of serving/ that starts a process: this interpreter, on a module of its own, with no text of any caller.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from serving.versions.measurements import END, Job, Limits, Report, Step

log = logging.getLogger(__name__)

MODULE: Final = "serving.vetting"
MOST_LINE: Final = 64 * 1024  # bytes of a step, which has a few hundred
STDERR_TAIL: Final = 4096  # bytes that reach the log
GRACE_S: Final = 5.0  # for a child to end that was told to
_SOURCES: Final = Path(__file__).parents[2]
# What the child gets of this process's environment: no settings and no secrets.
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")
_PASSED_ON_STARTS: Final = ("PYTHON", "COVERAGE_", "CUDA_")
# One thread runs, so glibc's arenas for further ones would only take address space, which is limited.
_SET: Final = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}


async def vet(jobs: Sequence[Job], limits: Limits) -> list[Report]:
    """A report for each job, in order. A child that dies of a job is replaced for the next one.

    OSError when no child can be started.
    """
    reports: list[Report] = []
    while len(reports) < len(jobs):
        async with _child() as child:
            for job in jobs[len(reports) :]:
                report = await child.vet(job, limits.wall_s)
                reports.append(report)
                if report.death is not None:
                    break
    return reports


class _Child:
    """A running child and the last of what it wrote to stderr."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._tail = b""
        self._drained = asyncio.create_task(self._drain())

    async def vet(self, job: Job, wall_s: float) -> Report:
        """What the child tells of one job, until it has done it, dies or has had its time."""
        steps: dict[str, Step] = {}
        try:
            async with asyncio.timeout(wall_s):
                ended = await self._hear(job, steps)
        except TimeoutError:
            return Report(steps, f"It took more than {wall_s:g} s and was stopped.")
        return Report(steps) if ended else Report(steps, await self._death())

    async def end(self) -> None:
        """No process of the child's group is left when this returns, cancelled or not."""
        stdin = self._process.stdin
        if stdin is not None:
            stdin.close()
        try:
            async with asyncio.timeout(0 if self._process.returncode is None and self._busy else GRACE_S):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
            await self._drained
        if self._tail:
            log.info("the vetting child said: %s", self._tail.decode("utf-8", "replace"))

    _busy = True  # with a job, so that waiting for it to end by itself is no use

    async def _hear(self, job: Job, steps: dict[str, Step]) -> bool:
        """Whether it ended the job."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            return False
        self._busy = True
        with suppress(ConnectionError):
            stdin.write(job.model_dump_json().encode() + b"\n")
            await stdin.drain()
        try:
            while line := await stdout.readline():
                step = Step.model_validate_json(line)
                if step.name == END:
                    self._busy = False
                    return True
                steps[step.name] = step
        except (ValidationError, ValueError):
            log.warning("the vetting child told something else than a step")
        return False

    async def _death(self) -> str:
        """How the child ended, in words."""
        try:
            async with asyncio.timeout(GRACE_S):
                code = await self._process.wait()
        except TimeoutError:
            return "The child that ran it told no more and was stopped."
        if code >= 0:
            return f"The child that ran it ended by itself, with exit code {code}."
        name = signal.Signals(-code).name
        why = _SIGNALS.get(name, "")
        return f"The child that ran it was ended by {name}{why}. Export it again; do not load it elsewhere."

    async def _drain(self) -> None:
        stderr = self._process.stderr
        while stderr is not None and (chunk := await stderr.read(STDERR_TAIL)):
            self._tail = (self._tail + chunk)[-STDERR_TAIL:]


_SIGNALS: Final[Mapping[str, str]] = {
    "SIGSEGV": ": it read or wrote where it must not, or nested too deep",
    "SIGABRT": ": the runtime gave up over it",
    "SIGXCPU": ": it took too much processor time",
    "SIGKILL": ": by the system, most often for its memory",
}


@asynccontextmanager
async def _child() -> AsyncIterator[_Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        MODULE,
        str(os.getpid()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=MOST_LINE,
        start_new_session=True,  # a group of its own, so that it can be killed with all that it may have started
        cwd=_SOURCES,  # where `-m` looks first: the same sources as these, whatever folder the gateway is in
        env=_environment(os.environ),
    )
    child = _Child(process)
    try:
        yield child
    finally:
        await asyncio.shield(child.end())


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    passed = {name: value for name, value in own.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_STARTS)}
    return passed | _SET
