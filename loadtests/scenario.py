"""What a load test does, as a TOML file says it: phases of a rate, a mix of requests, changes of versions meanwhile.

title = "..."
seed = 1
rest = 1.0                         # weight of all that no [[mix]] names; 0 leaves it out

[[phase]]
seconds = 10
rate = [5, 20]                     # goes up evenly; one number: stays

[[mix]]
task = "classify"
model = "efficientnet-lite0"       # left out: all models of the task share the weight
weight = 4
picture = "640x427"                # or "example", or a file

[[change]]
at_s = 8
action = "promote"                 # or "rollback"
model = "digits-cnn"
version = 2

[copies]                           # in a repository of its own: a version that is a copy of the first
digits-cnn = 2

[slo]                              # said otherwise than in the SLO file
error_rate = 0.0
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from loadtests.arrivals import Phase, constant, length_s
from loadtests.slo import Told
from loadtests.toml_file import Part, read_file

PHOTO: Final = "640x427"  # as small as photos get that phones send on
Rate = Annotated[float, Field(ge=0, le=1_000_000)]


class Step(Part):
    """As arrivals.Phase. rate: one number, or where it begins and ends."""

    seconds: Annotated[float, Field(gt=0)]
    rate: Rate | tuple[Rate, Rate]

    @property
    def phase(self) -> Phase:
        first, last = self.rate if isinstance(self.rate, tuple) else (self.rate, self.rate)
        return Phase(self.seconds, first, last)


class Ask(Part):
    """Requests of a task, to one model or to all that do it. picture: `example`, WIDTHxHEIGHT, or a file."""

    task: str
    model: str | None = None
    weight: Annotated[float, Field(gt=0)] = 1.0
    picture: str = PHOTO


class Change(Part):
    """An order to the admin port, so many seconds after the first arrival may come."""

    at_s: Annotated[float, Field(ge=0)]
    action: Literal["promote", "rollback"]
    model: str
    version: int | None = None
    canary: int | None = None


class Scenario(Part):
    """All of it. `rest`: the weight of whatever is ready and that no part of the mix names."""

    title: str
    seed: int = 0
    rest: Annotated[float, Field(ge=0)] = 0.0
    phase: tuple[Step, ...] = Field(min_length=1)
    mix: tuple[Ask, ...] = ()
    change: tuple[Change, ...] = ()
    copies: Mapping[str, int] = {}
    slo: Told | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self.mix and not self.rest:
            raise ValueError("expected a [[mix]] or a `rest` above 0")
        return self

    @property
    def phases(self) -> tuple[Phase, ...]:
        return tuple(step.phase for step in self.phase)

    @property
    def models(self) -> frozenset[str]:
        """All that it asks; none when that depends on what there is."""
        named = [ask.model for ask in self.mix if ask.model]
        return frozenset(named if len(named) == len(self.mix) and not self.rest else ())

    @property
    def seconds(self) -> float:
        return length_s(self.phases)

    def at(self, rate: float | None, seconds: float | None) -> Scenario:
        """With another rate, which then stays, or another length, to which phases and changes are stretched."""
        stretch = (seconds or self.seconds) / self.seconds
        steps = [step.model_copy(update={"seconds": step.seconds * stretch}) for step in self.phase]
        if rate is not None:
            (phase,) = constant(rate, self.seconds * stretch)
            steps = [Step(seconds=phase.seconds, rate=rate)]
        changes = [change.model_copy(update={"at_s": change.at_s * stretch}) for change in self.change]
        return self.model_copy(update={"phase": tuple(steps), "change": tuple(changes)})


def read_scenario(path: Path) -> Scenario:
    """FileInvalid."""
    return read_file(path, Scenario)
