"""Jobs: work that takes longer than a caller waits. Accepted once, it outlives crashes, comes to one end, and is
followed meanwhile by what is told of it.

A worker claims a job under a lease, which it renews; when it dies the lease runs out and another worker begins anew.
Each claim has a token, and of two workers that both believe a job to be theirs only the one with the newest token can
write. What is to be done stands in the order's content, which no store reads. A new store is one file in
`serving/job_stores/`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from serving.errors import JobNotFound, JobsFull, KeyReused

FOLDER: Final = "serving.job_stores"
TRIES: Final = 3  # claims without an end, after which a job is set aside
POISONED: Final = "job_poisoned"
KEPT_EVENTS: Final = 1000  # of a job, the newest
FULL_S: Final = 5  # until another try, where too many wait

Status: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled"]
EventKind: TypeAlias = Literal["started", "progress", "preview", "done"]


@dataclass(frozen=True, slots=True)
class JobStoreOptions:
    """What a store may need; every PLUGIN is called with it. `state`: a folder; `url`: of a shared store.

    most: jobs that may be without an end. lease_s: after which a job whose worker was not heard of is another's;
    keep_s: how long a job is known after its end.
    """

    state: Path
    url: str = field(default="", repr=False)  # it may hold a password
    most: int = 256
    lease_s: float = 10.0
    keep_s: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller wants done. owner: the name of the caller's key. key: by which the caller makes sure that it is
    done once, empty for none; digest: of what came with it, which must be the same each time.
    """

    owner: str
    content: bytes
    key: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Reached:
    """Steps done, of how many."""

    step: int
    of: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no result. code: of errors.py, or POISONED; detail: fit for callers."""

    code: str
    detail: str


POISON: Final = Failure(POISONED, f"The job was begun {TRIES} times, and each time the gateway that ran it stopped.")


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands. Times are Unix seconds; `ended` and `expires`, when it is forgotten, once it has an end.

    attempts: times that it was begun, but for those that were given back.
    """

    id: str
    owner: str
    content: bytes
    status: Status
    created: float
    attempts: int = 0
    progress: Reached | None = None
    result: bytes | None = None
    failure: Failure | None = None
    ended: float | None = None
    expires: float | None = None

    @property
    def at_end(self) -> bool:
        return self.status not in ("queued", "running")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job of an order; new: it was made by this one, and not by an earlier one with the same key."""

    job: Job
    new: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to a job, until a later claim of it has a higher token."""

    job: str
    token: int


@dataclass(frozen=True, slots=True)
class Claimed:
    lease: Lease
    job: Job


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of claiming: jobs to begin, and the ids of jobs that were set aside."""

    begun: list[Claimed] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker has to tell: of a step, or a preview. data: JSON, for callers."""

    kind: EventKind
    data: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """number: from 1, growing; there are gaps where older ones were dropped. The last one of a job is `done`."""

    number: int
    kind: EventKind
    data: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """What happened since the last one."""

    progress: Reached | None = None
    told: Sequence[Told] = ()


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Jobs that could be begun now, jobs that run, and for how many seconds the oldest of the former is there."""

    queued: int = 0
    running: int = 0
    oldest_s: float = 0.0


class JobStore(ABC):
    """Keeps jobs. All calls may come from several gateways at once; what was answered outlives a crash.

    JobsUnavailable while the store cannot be used; JobNotFound from calls that name a job by its id, if it is not
    there. A lease on one that is not there is lost.
    """

    @abstractmethod
    async def accept(self, order: Order) -> Accepted:
        """Makes a job, or gives the one that the owner made with this key. On disk when it returns.

        KeyReused: that one was of another digest. JobsFull: as many jobs are without an end as may be.
        """

    @abstractmethod
    async def get(self, ident: str) -> Job:
        """A job as it stands."""

    @abstractmethod
    async def claim(self, room: int, *, idle: bool) -> Taken:
        """Jobs to begin now, the oldest first, `room` at most; which of those that wait: see `chosen`.

        idle: the worker does nothing else. What was claimed TRIES times without an end is set aside: failed, as POISON.
        """

    @abstractmethod
    async def beat(self, reports: Mapping[Lease, Report]) -> frozenset[Lease]:
        """Renews the leases and writes down what is reported; the leases that are lost, of which nothing is written.

        A lease is lost when another has claimed the job, or it has come to an end, as by being cancelled.
        """

    @abstractmethod
    async def finish(self, lease: Lease, outcome: bytes | Failure) -> bool:
        """Brings a job to its end, with its result or without. False, and nothing is written: the lease was lost."""

    @abstractmethod
    async def release(self, lease: Lease) -> None:
        """Gives a job back, as if it had not been claimed. Nothing happens when the lease is lost."""

    @abstractmethod
    async def cancel(self, ident: str) -> Job:
        """Brings a job to its end as cancelled, and gives it; one that has an end stays as it is.

        Who runs it has lost the lease, and finds that out with the next beat.
        """

    @abstractmethod
    async def events(self, ident: str, after: int) -> list[Event]:
        """What happened after the event of that number, in order."""

    @abstractmethod
    async def counts(self) -> JobCounts:
        """Cheap: it is asked each second."""

    async def sweep(self) -> None:
        """Forgets jobs that have expired. Nothing to do where they go by themselves."""
        return

    async def close(self) -> None:
        """Lets connections go."""
        return


def chosen(attempts: Sequence[int], room: int, *, idle: bool) -> list[int]:
    """Places of the jobs to begin now, of those that wait by how often each was begun before, in their order.

    A job whose worker was lost may be why: it runs alone, so that it takes no other with it and none is blamed in
    its place. While such a one waits nothing else is begun, so that it has its turn when the worker is idle.
    """
    suspect = next((place for place, count in enumerate(attempts) if count), None)
    if suspect is None:
        return list(range(min(room, len(attempts))))
    return [suspect] if idle and room else []


def no_job() -> JobNotFound:
    return JobNotFound("There is no job of that name.", remedy="A job is forgotten some time after its end.")


def other_order() -> KeyReused:
    remedy = "Send each request with an Idempotency-Key of its own, and the same one only to send it again."
    return KeyReused("Another request came with this Idempotency-Key.", remedy=remedy)


def full(most: int) -> JobsFull:
    return JobsFull(f"{most} jobs wait or run already.", remedy="Try again later.", wait_s=FULL_S)
