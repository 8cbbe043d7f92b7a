"""What became of one request, and the file that a load test leaves of all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

UNSENT = "unsent"  # as many requests were open as the generator holds
BROKEN = "broken"  # no answer, or no whole one
NAMELESS = "nameless"  # 200 that does not say which version of the model gave it


@dataclass(frozen=True, slots=True)
class Outcome:
    """due_s: when it was to be sent, from the start; late_s: how much later it was; latency_s: from when it was due to
    the end of its answer. code: empty for an answer that counts, else why it does not. version: 0 where none is named.
    """

    due_s: float
    late_s: float
    latency_s: float
    task: str
    model: str
    version: int
    status: int
    code: str = ""
    sent_bytes: int = 0

    @property
    def answered(self) -> bool:
        return not self.code


@dataclass(frozen=True, slots=True)
class Made:
    """A change of versions that was ordered: seconds from the start on, how many it took, and why it was refused.

    version: 0 where the order named none.
    """

    at_s: float
    seconds: float
    action: str
    model: str
    version: int = 0
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Recording:
    """A load test: where, what, how long it offered load, and all that came of it."""

    url: str
    title: str
    seconds: float
    outcomes: Sequence[Outcome]
    changes: Sequence[Made] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


def write_recording(path: Path, recording: Recording) -> None:
    """One JSON object a line: the test, its changes, its requests."""
    head = {"url": recording.url, "title": recording.title, "seconds": recording.seconds, "about": recording.about}
    with path.open("w") as file:
        for kind, objects in (("test", [head]), ("change", map(asdict, recording.changes))):
            file.writelines(json.dumps({kind: one}) + "\n" for one in objects)
        file.writelines(json.dumps({"request": asdict(one)}) + "\n" for one in recording.outcomes)


def read_recording(path: Path) -> Recording:
    """What write_recording wrote. ValueError when it is something else, or not whole."""
    head: dict[str, Any] | None = None
    changes: list[Made] = []
    outcomes: list[Outcome] = []
    for line in path.read_text().splitlines():
        match json.loads(line):
            case {"test": dict(found)}:
                head = found
            case {"change": dict(found)}:
                changes.append(Made(**found))
            case {"request": dict(found)}:
                outcomes.append(Outcome(**found))
    if head is None:
        raise ValueError(f"{path} is no recording of a load test.")
    return Recording(**head, outcomes=outcomes, changes=changes)


def ordered(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """By when they were due."""
    return sorted(outcomes, key=lambda one: one.due_s)
