"""What families there are and what of them is published: the list behind `exporters list`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporters import runs
from exporters.family import Family, models
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


def entries(repository: Path) -> list[Entry]:
    """All that can be made, by family, each with the newest of its versions in the repository, which need not exist."""
    index = scan(repository) if repository.is_dir() else Index({}, ())
    return sorted((_entry(made(), index) for made in models().values()), key=lambda entry: (entry.family, entry.model))


def _entry(family: Family[Any], index: Index) -> Entry:
    metric, floor = next(iter(family.floors.items()))
    model = index.models.get(family.model)
    version = model.versions[max(model.versions)] if model else None
    return Entry(
        family=family.name,
        task=family.task,
        model=family.model,
        floor=floor,
        reached=_reached(version, metric),
        seconds=_seconds(version),
        bytes=sum(graph.file.stat().st_size for graph in version.graphs.values()) if version else None,
    )


def _reached(version: Version | None, metric: str) -> float | None:
    if version is None or version.manifest is None or metric not in version.manifest.metrics:
        return None
    return version.manifest.metrics[metric].value


def _seconds(version: Version | None) -> float | None:
    """How long the version took to make, as its run says."""
    file = version.folder / runs.FILE if version else None
    return float(json.loads(file.read_bytes())["seconds"]) if file and file.is_file() else None
