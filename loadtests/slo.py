"""What is promised to callers, as a TOML file says it; scenarios may say some of it otherwise. See slo.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from loadtests.toml_file import Part, read_file

Share = Annotated[float, Field(ge=0, le=1)]


class Told(Part):
    """Some of a promise; what is left out is said elsewhere. `_ms`, since people write it."""

    p99_ms: Annotated[float, Field(gt=0)] | None = None
    error_rate: Share | None = None
    goodput: Share | None = None
    requests: Annotated[int, Field(ge=1)] | None = None


class Generator(Part):
    """What the load test must keep to itself, or its run says nothing about the server."""

    late_p99_ms: Annotated[float, Field(gt=0)] = 100.0


@dataclass(frozen=True, slots=True)
class Promise:
    """The whole of it, for some requests. requests: fewer are not judged."""

    p99_s: float = 1.0
    error_rate: float = 0.001
    goodput: float = 0.99
    requests: int = 20

    def with_(self, told: Told | None) -> Promise:
        """As `told`, where that says something."""
        if told is None:
            return self
        return Promise(
            self.p99_s if told.p99_ms is None else told.p99_ms / 1000,
            self.error_rate if told.error_rate is None else told.error_rate,
            self.goodput if told.goodput is None else told.goodput,
            self.requests if told.requests is None else told.requests,
        )


class Slo(Part):
    """An SLO file."""

    default: Told = Told()
    task: Mapping[str, Told] = {}
    model: Mapping[str, Told] = {}
    generator: Generator = Generator()

    def promise(self, task: str, model: str = "", scenario: Told | None = None) -> Promise:
        """What is promised of a task, or of one of its models; what the scenario says goes before all."""
        promise = Promise().with_(self.default).with_(self.task.get(task))
        return promise.with_(self.model.get(model)).with_(scenario)


def read_slo(path: Path) -> Slo:
    """FileInvalid."""
    return read_file(path, Slo)
