"""Who is live: for each model the versions that pointers name, and the history that a rollback walks back.

A ledger keeps one document. It moves by compare-and-set: an edit of the newest document, or nothing. Each accepted
edit has a revision of its own; a store that lost its data begins a new epoch with what the gateways still know. A new
ledger is one file in `serving/ledgers/`; what pointers may do is in versions/transitions.py.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from serving.trial import Policy, TrialSeen
from serving.verdict import Verdict

FOLDER: Final = "serving.ledgers"
MEMBER_TTL_S: Final = 3.0  # a gateway that was not heard of for so long is not waited for
HEARTBEAT_S: Final = 1.0
LEASE_S: Final = 10.0  # an attempt that is not renewed for so long was left by its gateway

Number = Annotated[int, Field(ge=1)]
Percent = Annotated[
    int | float, Field(gt=0, le=100), AfterValidator(lambda share: int(share) if share % 1 == 0 else share)
]
Role = Literal["stable", "canary", "shadow"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Canary(_Part):
    """The version that gets this share of the requests."""

    version: Number
    percent: Percent


class Summary(_Part):
    """What the gate said: the checks that failed, and whether they were overruled."""

    passed: bool
    failed: tuple[str, ...] = ()
    forced: bool = False


class Wanted(_Part):
    """The first phase of a change: a version that every gateway shall load before a pointer moves to it.

    id: of the attempt, which alone may commit or withdraw it. until: Unix seconds, moved on while it is led.
    pops: versions that the stack loses by the change, when it is a way back; leaves: the stable one that it is from.
    """

    id: str
    version: Number
    role: Role
    percent: Percent | None = None
    action: str
    pops: int = 0
    leaves: Number | None = None
    who: str
    why: str = ""
    verdict: Summary | None = None
    until: float


class Record(_Part):
    """One change that was made. `from` and `to` are versions; None where there was or is none. time: ISO 8601, UTC."""

    time: str
    action: str
    from_: int | None = Field(default=None, alias="from")
    to: int | None = None
    percent: Percent | None = None
    who: str
    why: str = ""
    verdict: Summary | None = None


class Pointers(_Part):
    """Who is live of one model. `stack`: the stables before this one, the next way back last.

    unloaded: out of service until it is loaded, which `loads` counts: then gateways forget what failed, and try anew.
    guard: how what is on trial is guarded, where an operator said so.
    """

    stable: Number
    stack: tuple[Number, ...] = ()
    canary: Canary | None = None
    shadow: Number | None = None
    wanted: Wanted | None = None
    unloaded: bool = Field(default=False, exclude_if=operator.not_)  # unsaid where it never was, as in older documents
    loads: int = Field(default=0, exclude_if=operator.not_)
    guard: Policy | None = Field(default=None, exclude_if=operator.not_)
    history: tuple[Record, ...] = ()

    @property
    def previous(self) -> int | None:
        """Where a rollback goes to."""
        return self.stack[-1] if self.stack else None

    @property
    def candidate(self) -> int | None:
        """The one version beside stable and previous: on trial, or about to be."""
        if self.wanted is not None:
            return self.wanted.version
        return self.canary.version if self.canary else self.shadow


class Document(_Part):
    """All pointers. `base`: the revision that this epoch began with, if it began by a reseed."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    epoch: int = 0
    revision: int = 0
    base: int = 0
    models: Mapping[str, Pointers] = {}


class Member(_Part):
    """What one gateway says of itself: the revision it follows, and per model what is loaded and what cannot be.

    preparing: what has still to be done for a wanted version that is loaded; such a one is not `ready`. trials: what
    it has seen of each model on trial.
    """

    id: str
    epoch: int = 0
    revision: int = 0
    ready: Mapping[str, tuple[int, ...]] = {}
    failed: Mapping[str, Mapping[int, str]] = {}
    preparing: Mapping[str, str] = Field(default={}, exclude_if=operator.not_)
    trials: Mapping[str, TrialSeen] = Field(default={}, exclude_if=operator.not_)

    def follows(self, document: Document) -> bool:
        return (self.epoch, self.revision) >= (document.epoch, document.revision)


Edit = Callable[[Document], Document]
Trials = Mapping[str, TrialSeen]  # by model


@dataclass(frozen=True, slots=True)
class LedgerOptions:
    """What a ledger may need; every ledger's PLUGIN is called with it. `state`: a folder; `url`: of a shared store."""

    state: Path
    url: str = field(default="", repr=False)  # it may hold a password


class Ledger(ABC):
    """The pointers, kept outside of the repository, and the gateways that follow them."""

    @property
    def connected(self) -> bool:
        """Whether changes can be made now, as far as is known."""
        return True

    @abstractmethod
    async def read(self) -> Document:
        """The document as it stands; the last one known while the store cannot be reached.

        SettingsInvalid when there is one and it cannot be read.
        """

    @abstractmethod
    async def change(self, edit: Edit) -> Document:
        """Makes an edit of the newest document, and gives what stands then. Nothing is written if nothing changes.

        `edit` is pure: it may be asked again when another change came first. What it raises is raised, and nothing
        is changed. LedgerUnavailable: the store cannot be reached; SettingsInvalid: it cannot be used.
        """

    @abstractmethod
    def watch(self) -> AsyncIterator[Document]:
        """The document, and each newer one as soon as it is known; some in between may be left out. Never ends, and
        never fails: while the store cannot be reached, nothing comes.
        """

    @abstractmethod
    async def announce(self, member: Member) -> None:
        """Says that this gateway lives, for MEMBER_TTL_S. LedgerUnavailable."""

    @abstractmethod
    async def leave(self, member: str) -> None:
        """Takes back what was announced; not being able to is no error, it expires."""

    @abstractmethod
    async def members(self) -> tuple[Member, ...]:
        """The gateways that live. LedgerUnavailable."""

    @abstractmethod
    async def keep(self, verdict: Verdict) -> None:
        """Keeps a verdict of the gate beside the newest ones of its model. LedgerUnavailable."""

    @abstractmethod
    async def verdicts(self, model: str) -> tuple[Verdict, ...]:
        """The verdicts kept, the newest first, KEPT_VERDICTS at most. LedgerUnavailable."""

    async def close(self) -> None:
        """Lets connections go."""
        return


KEPT_VERDICTS: Final = 50  # of a model


def successor(found: Document, edited: Document) -> Document:
    """What is written for an edit: the next revision of the same epoch."""
    return edited.model_copy(update={"epoch": found.epoch, "base": found.base, "revision": found.revision + 1})


def reseeds(known: Document, found: Document | None) -> bool:
    """Whether a store that holds `found` has lost what is `known`, so that `known` is to be written to it again.

    Empty or older is lost. An epoch that was begun by someone who knew less, and saw no change since, gives way too:
    so the highest revision known wins, whoever comes first.
    """
    if found is None:
        return known.revision > 0
    if found.epoch == known.epoch:
        return found.revision < known.revision
    if found.epoch > known.epoch:
        return found.revision == found.base < known.revision
    return True


def reseed(known: Document, found: Document | None) -> Document:
    """What is written then: `known`, in an epoch above both."""
    epoch = max(known.epoch, found.epoch if found else 0) + 1
    return known.model_copy(update={"epoch": epoch, "base": known.revision})
