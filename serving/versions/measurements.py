"""What the gate asks of the child that vets versions, and what it hears back: lines of JSON, one a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel, ConfigDict

# In this order. A child that dies did so in the step after the last that it told of.
STEPS: Final = (
    "start",
    "external_data",
    "load",
    "stable",
    "signature",
    "warm_up",
    "answer",
    "golden",
    "batch",
    "agreement",
    "latency",
)
END: Final = "end"  # the line after the last step of a job, wherever the job ended


@dataclass(frozen=True, slots=True)
class Limits:
    """What one vetting may take. `wall_s`: in all; `run_s`: a single run of the model; `cpu_s`: processor time.

    memory_bytes: address space beside what the child takes before it has seen the model; a model whose files are
    large gets six times their size instead.
    """

    wall_s: float = 120.0
    run_s: float = 10.0
    cpu_s: int = 120
    memory_bytes: int = 2 * 2**30


class Job(BaseModel):
    """One version to vet, by folders, which are absolute. `stable`: what it is compared with."""

    candidate: str
    stable: str | None
    run_s: float
    cpu_s: int
    memory_bytes: int

    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(BaseModel):
    """A step that ended. `problem`: why the version fails here; `skipped`: why there was nothing to measure.

    figures: what was measured, by name; peak_bytes: the most memory that the child has had so far.
    """

    name: str
    problem: str | None = None
    skipped: str | None = None
    figures: Mapping[str, float] = {}
    seconds: float = 0.0
    peak_bytes: int = 0

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


@dataclass(frozen=True, slots=True)
class Report:
    """All that a vetting told. `death`: how the child ended, where it did not tell its last step."""

    steps: Mapping[str, Step] = field(default_factory=dict)
    death: str | None = None

    @property
    def died_in(self) -> str | None:
        """The step that the child did not survive."""
        if self.death is None:
            return None
        return next((name for name in STEPS if name not in self.steps), STEPS[-1])
