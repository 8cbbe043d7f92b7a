"""What families there are and what of them is published: the list behind `exporters list`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporters import runs
from exporters.family import Family, models
from serving.commands.text import table
from serving.repository.layout import Index, Version, scan


@dataclass(frozen=True, slots=True)
class Entry:
    """A family. `floor` and `reached` are of its headline metric; what only a published version has may be None."""

    family: str
    task: str
    model: str
    floor: float
    reached: float | None
    seconds: float | None
    bytes: int | None
    metric: str
    higher_is_better: bool


def entries(repository: Path) -> list[Entry]:
    """All that can be made, by family, each with the newest of its versions in the repository, which need not exist."""
    index = scan(repository) if repository.is_dir() else Index({}, ())
    return sorted((_entry(made(), index) for made in models().values()), key=lambda entry: (entry.family, entry.model))


def _entry(family: Family[Any], index: Index) -> Entry:
    metric, floor = next(iter(family.floors.items()))
    model = index.models.get(family.model)
    version = model.versions[max(model.versions)] if model else None
    measured = version.manifest.metrics.get(metric) if version and version.manifest else None
    return Entry(
        family=family.name,
        task=family.task,
        model=family.model,
        floor=floor,
        reached=measured.value if measured else None,
        seconds=_seconds(version),
        bytes=sum(graph.file.stat().st_size for graph in version.graphs.values()) if version else None,
        metric=metric,
        higher_is_better=measured.higher_is_better if measured else True,
    )


HEADS: Final = ("FAMILY", "TASK", "MODEL", "METRIC", "FLOOR", "REACHED", "SECONDS", "MB")


def as_text(found: Sequence[Entry]) -> str:
    """The list for people, in columns; `-` where nothing is published."""
    return table([HEADS, *map(_cells, found)])


def _cells(entry: Entry) -> Sequence[str]:
    bound = "" if entry.higher_is_better else "<= "
    figures = (
        f"{bound}{entry.floor:.2f}",
        "-" if entry.reached is None else f"{entry.reached:.4f}",
        "-" if entry.seconds is None else f"{entry.seconds:.0f}",
        "-" if entry.bytes is None else f"{entry.bytes / 1e6:.2f}",
    )
    return (entry.family, entry.task, entry.model, entry.metric, *figures)


def _seconds(version: Version | None) -> float | None:
    """How long the version took to make, as its run says."""
    file = version.folder / runs.FILE if version else None
    return float(json.loads(file.read_bytes())["seconds"]) if file and file.is_file() else None
