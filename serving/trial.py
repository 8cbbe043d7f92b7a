"""What is said and kept of versions on trial: how they are to be guarded, and what each gateway has seen of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Mode = Literal["off", "advise", "act"]
Step = Annotated[float, Field(gt=0, le=100)]
Share = Annotated[float, Field(gt=0, lt=1)]

# Upper bounds of the seconds that answers took, four to each doubling: a tenth of a millisecond to over a minute.
SECONDS: Final = tuple(0.0001 * 2 ** (i / 4) for i in range(80))
STEPS_A_DOUBLING: Final = 4
MOST_GROUPS: Final = 32
BINS: Final = " in bins "  # between a feature and the name of its bins


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Policy(_Part):
    """How a version on trial is guarded. Stands in its manifest, or is set by an operator, which counts more.

    mode: advise says what it would do; act does it. steps: percent of the requests that a canary climbs; 100 makes it
    stable. step_s, step_requests: what each step takes at least. watch_s: how long a version is watched that was
    promoted at once. risk: chance that a trial of a version that is no worse ends with its way back.
    What is let pass: slowdown, a factor of the other version's seconds; disagreement, the mean share of copied requests
    that are answered otherwise; loss, of the live metric's mean; errors, of the share that fails; drift, as PSI.
    """

    mode: Mode = "advise"
    steps: tuple[Step, ...] = Field(default=(1, 10, 50, 100), min_length=1, max_length=20)
    step_s: float = Field(default=300.0, ge=0, le=30 * 86_400)
    step_requests: int = Field(default=300, ge=0)
    watch_s: float = Field(default=900.0, ge=0, le=30 * 86_400)
    risk: Share = 0.01
    slowdown: float = Field(default=1.5, ge=1, le=100)
    disagreement: Share = 0.1
    loss: float = Field(default=0.02, ge=0, lt=1)
    errors: float = Field(default=0.002, ge=0, lt=1)
    drift: float = Field(default=0.2, ge=0, le=100)

    @model_validator(mode="after")
    def _climbing(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError("steps: expected percents that rise, such as 1,10,50,100")
        return self


class Counts(_Part):
    """What one version did, added up from some moment on.

    answered, failed: requests; failed ones are those that callers are not to blame for. seconds: of answered ones, how
    many fell under each bound of SECONDS and not under the one before; shorter where the rest is 0. copies, and
    copies_failed: of other versions' requests; disagreement: the sum over copies, each 0 to 1. truths, quality: what
    callers said was right, and the sum of how good the answers were, 0 to 1. copies_by, truths_by: the same figures, of
    copies by what the other version answered, of truths by what is true, for as many as MOST_GROUPS such answers.
    features: of the inputs, rows by bin; a feature's name says in which bins, after BINS.
    """

    answered: int = 0
    failed: int = 0
    seconds: tuple[int, ...] = ()
    copies: int = 0
    copies_failed: int = 0
    disagreement: float = 0.0
    truths: int = 0
    quality: float = 0.0
    copies_by: Mapping[str, tuple[int, float]] = {}
    truths_by: Mapping[str, tuple[int, float]] = {}
    features: Mapping[str, tuple[int, ...]] = {}

    def since(self, before: Counts) -> Counts:
        """What came since; all of it where it was counted from nothing meanwhile."""
        if before.answered > self.answered or before.failed > self.failed:
            return self
        return _joined(self, before, lambda now, then: max(0, now - then))


class TrialSeen(_Part):
    """What one gateway has seen of a trial. began: when that was, as the history has it, by which the trial is known.

    candidate, other: what both versions did since; before: what the other one did until then.
    """

    began: str
    candidate: Counts
    other: Counts
    before: Counts


@dataclass(slots=True)
class Group:
    """How many rows were judged, and the sum of what came of them, each 0 to 1: of each answer that there may be, for
    the first MOST_GROUPS of those.
    """

    _by: dict[str, tuple[int, float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """One row; of an answer with no name, or one too many, nothing."""
        rows, together = self._by.get(name, (0, 0.0))
        if name and (rows or len(self._by) < MOST_GROUPS):
            self._by[name] = rows + 1, together + value

    def totals(self) -> Mapping[str, tuple[int, float]]:
        """Rows and sums, as of now."""
        return dict(self._by)


NOTHING: Final = Counts()


def total(counts: Iterable[Counts]) -> Counts:
    """All together."""
    result = NOTHING
    for one in counts:
        result = _joined(result, one, lambda a, b: a + b)
    return result


Join = Callable[[Any, Any], Any]
FIGURES: Final = ("answered", "failed", "copies", "copies_failed", "disagreement", "truths", "quality")
ROWS: Final = ("copies_by", "truths_by", "features")


def _joined(one: Counts, other: Counts, join: Join) -> Counts:
    """Figure by figure; what one of them lacks is 0."""
    figures = {name: join(getattr(one, name), getattr(other, name)) for name in FIGURES}
    rows = {name: _joined_rows(getattr(one, name), getattr(other, name), join) for name in ROWS}
    return Counts(**figures, **rows, seconds=_joined_row(one.seconds, other.seconds, join))


def _joined_rows(one: Mapping[str, Any], other: Mapping[str, Any], join: Join) -> dict[str, Any]:
    return {name: _joined_row(one.get(name, ()), other.get(name, ()), join) for name in sorted({*one, *other})}


def _joined_row(one: Any, other: Any, join: Join) -> Any:
    return tuple(join(a, b) for a, b in zip_longest(one, other, fillvalue=0))
