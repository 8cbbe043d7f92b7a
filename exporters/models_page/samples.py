"""What a published version answers to the rows that were published with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from exporters import parity, publish
from exporters.graph_config import make_config
from serving.picture_task import PIXELS
from serving.repository.layout import SINGLE_GRAPH, Version
from serving.tensors import Array, Tensors, row_count, rows

TASKS: Final = ("classify", "detect", "segment")  # whose answers can be drawn onto pixels
MOST: Final = 4  # pictures


@dataclass(frozen=True, slots=True)
class Samples:
    """pixels: uint8 [N, height, width, 1 or 3]; outputs: the graph's, for each of them; labels: by class."""

    task: str
    pixels: Array
    outputs: Tensors
    labels: tuple[str, ...]


def can_be_shown(version: Version) -> bool:
    """Whether pictures can be drawn: its task is one of pixels, and it has golden rows."""
    task = version.manifest.task if version.manifest else ""
    return task in TASKS and SINGLE_GRAPH in version.graphs and (version.folder / publish.GOLDEN).is_file()


def run_samples(version: Version) -> Samples:
    """Runs the published graph on its first golden rows, on the engine that serves it."""
    with np.load(version.folder / publish.GOLDEN) as golden:
        inputs = {name.removeprefix("input."): golden[name] for name in golden if name.startswith("input.")}
    inputs = rows(inputs, 0, min(MOST, row_count(inputs)))
    graph = version.graphs[SINGLE_GRAPH]
    model, limits = graph.file.read_bytes(), graph.config.rules
    config = make_config(model, version.model, max_batch_size=limits.max_batch_size, instances=1)
    with parity.serve(model, config) as served:
        outputs = served(inputs)
    manifest = version.manifest
    labels = (version.folder / manifest.labels).read_text("utf-8").splitlines() if manifest and manifest.labels else []
    return Samples(manifest.task if manifest else "", inputs[PIXELS], outputs, tuple(labels))
