"""May this version go live? Files, digests, a child that loads and measures it, and what the gate makes of it all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from serving.errors import RepositoryInvalid
from serving.repository.contents import check_contents
from serving.repository.digests import verify_version, version_digest
from serving.repository.layout import Version
from serving.repository.manifest import MANIFEST, read_manifest
from serving.tensorrt import Host
from serving.timestamp import timestamp
from serving.verdict import Check, Verdict
from serving.versions.gate import Bars, Findings, judge
from serving.versions.measurements import Job, Limits, Report
from serving.versions.plan_check import check_plans
from serving.versions.vetting_process import vet

log = logging.getLogger(__name__)

KEPT_S: Final = 3600.0  # how long measurements count as those of now
MOST_KEPT: Final = 64
_BARS: Final = Bars()
_LIMITS: Final = Limits()
SIZE_FACTOR: Final = 6  # memory that a large model may take: its files read, parsed, optimised and run


@dataclass(frozen=True, slots=True)
class _Reading:
    """What reading a version's files gave."""

    files: int = 0
    files_problem: str | None = None
    digests_problem: str | None = None
    digest: str = ""

    @property
    def sound(self) -> bool:
        return self.files_problem is None and self.digests_problem is None


class Examiner:
    """Examines one version at a time; others wait. `clock`: seconds, as time.monotonic(). `host`: Triton's, for plans.

    What a child measured of a pair of versions counts for an hour, as long as the files are the same.
    """

    def __init__(
        self,
        bars: Bars = _BARS,
        limits: Limits = _LIMITS,
        clock: Callable[[], float] = time.monotonic,
        host: Host | None = None,
    ) -> None:
        self._bars = bars
        self._host = host
        self._limits = limits
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._kept: dict[tuple[str, ...], tuple[float, Report]] = {}

    async def examine(self, candidate: Version, stable: Version | None) -> Verdict:
        """The verdict on `candidate`, compared with the version that is live. Never raises for a bad version.

        A version is not compared with itself: the one that is live is examined as if none were.
        """
        if stable is not None and stable.number == candidate.number:
            stable = None
        digest = ""
        try:
            async with self._one_at_a_time:
                reading = await asyncio.to_thread(_read, candidate)
                digest = reading.digest
                report, age_s = await self._measured(candidate, stable, reading)
            findings = Findings(
                files=reading.files,
                files_problem=reading.files_problem,
                digests_problem=reading.digests_problem,
                report=report,
                manifest=candidate.manifest,
                stable=stable.manifest if stable else None,
                stable_version=stable.number if stable else None,
                age_s=age_s,
            )
            checks = (*judge(findings, self._bars), *check_plans(candidate.manifest, self._host))
        except Exception:  # a version that cannot be examined does not go live, and nothing else is the worse for it
            log.exception("%s could not be examined", candidate.name)
            detail = "The gateway failed over it; its log says why. Try again."
            checks = (Check(name="load", passed=False, detail=detail),)
        return Verdict(
            model=candidate.model,
            version=candidate.number,
            passed=all(check.passed is not False for check in checks),
            checks=checks,
            time=timestamp(time.time(), "seconds"),
            digest=digest,
            stable=stable.number if stable else None,
        )

    async def _measured(
        self, candidate: Version, stable: Version | None, reading: _Reading
    ) -> tuple[Report, float | None]:
        """What a child tells of the pair, or told within the hour: then how many seconds ago."""
        if not reading.sound:
            return Report(), None
        key = (*_identity(candidate, reading.digest), *(await asyncio.to_thread(_stable_identity, stable)))
        now_s = self._clock()
        told_s, report = self._kept.get(key, (0.0, None))
        if report is not None and now_s - told_s < KEPT_S:
            return report, now_s - told_s
        (report,) = await vet([self._job(candidate, stable)], self._limits)
        if report.death is None:  # what ended a child may have been the host's doing: it is tried again
            self._kept.pop(key, None)
            self._kept[key] = (now_s, report)
            while len(self._kept) > MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
        return report, None

    def _job(self, candidate: Version, stable: Version | None) -> Job:
        folders = [folder for one in (candidate, stable) if one for folder in _folders(one)]
        sizes = sum(path.stat().st_size for folder in folders for path in folder.iterdir())
        return Job(
            candidate=str(candidate.folder.absolute()),
            stable=str(stable.folder.absolute()) if stable else None,
            run_s=self._limits.run_s,
            cpu_s=self._limits.cpu_s,
            memory_bytes=max(self._limits.memory_bytes, SIZE_FACTOR * sizes),
        )


def _identity(version: Version, digest: str) -> tuple[str, str, str]:
    """config.pbtxt is no part of a version, may change, and decides on batches: it counts by what it says."""
    return version.name, digest, repr([graph.config for graph in version.graphs.values()])


def _stable_identity(stable: Version | None) -> tuple[str, ...]:
    return _identity(stable, version_digest(stable)) if stable else ()


def _read(version: Version) -> _Reading:
    """Looks at every file, each time: a version never changes, but nothing here relies on that. Blocking."""
    try:
        files = sum(check_contents(folder, name) for folder, name in _folders(version).items())
    except RepositoryInvalid as problem:
        return _Reading(files_problem=str(problem))
    except OSError as error:
        return _Reading(files_problem=f"{version.name}: expected files that can be read; {error.strerror}")
    reading = _Reading(files=files)
    try:
        _verify(version)
        return replace(reading, digest=version_digest(version))
    except RepositoryInvalid as problem:
        return replace(reading, digests_problem=str(problem))
    except OSError as error:
        return replace(reading, digests_problem=f"{version.name}: expected files that can be read; {error.strerror}")


def _folders(version: Version) -> dict[Path, str]:
    """The version's folder and those of its further graphs and plans, as errors call them."""
    apart = {folder: f"{name}/{folder.name}" for name, folder in version.folders.items()}
    return apart | {version.folder: version.name}


def _verify(version: Version) -> None:
    file = f"{version.name}/{MANIFEST}"
    if version.manifest and read_manifest(version.folder / MANIFEST, file) != version.manifest:
        raise RepositoryInvalid(file, "", "changed since the repository was read", remedy="Publish another version.")
    verify_version(version)
