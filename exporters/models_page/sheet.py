"""Pictures that a published version draws, on one sheet: names across, guidance down."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

import numpy as np

from exporters import parity
from exporters.data.emoji_prompts import VOCABULARY
from exporters.diffusion.drawing import Asked, draw
from exporters.graph_config import make_config
from exporters.models_page.pictures import as_png
from serving.drawing_task import open_drawing
from serving.repository.layout import Graph, Version
from serving.tensors import Array

TASK: Final = "generate-images"
SHOWN: Final = VOCABULARY[::8]
SEED: Final = 7
INCHES: Final = 0.75  # of a picture, at 100 pixels an inch
LONGEST_NAME: Final = 12  # characters of a line


def can_draw(version: Version) -> bool:
    """Whether it draws pictures of texts."""
    return version.manifest is not None and version.manifest.task == TASK


def draw_sheet(version: Version, names: Sequence[str] = SHOWN) -> bytes:
    """A PNG below 150 kB: each name from the same noise, without a prompt, as it was learned, and led further."""
    settings, words = open_drawing(version)
    usual = settings.guidance
    tokens = np.concatenate([words.encode(name)[0] for name in names])
    null = words.row(words.tokenizer.encode(settings.text.null).ids)[0]
    asked = Asked(tokens, null, [SEED] * len(names))
    with ExitStack() as stack:
        graphs = {role: stack.enter_context(_serve(graph)) for role, graph in version.graphs.items()}
        drawn = {
            guidance: draw(graphs, settings.model_copy(update={"guidance": guidance}), settings.latents, asked)
            for guidance in sorted({0.0, 1.0, usual, 2 * usual, 4 * usual})
        }
    return _sheet(names, drawn)


def _serve(graph: Graph) -> Any:
    content, rules = graph.file.read_bytes(), graph.config.rules
    config = make_config(content, graph.config.name, max_batch_size=rules.max_batch_size, instances=1)
    return parity.serve(content, config)


def _sheet(names: Sequence[str], drawn: dict[float, Array]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(INCHES * (len(names) + 1), INCHES * (len(drawn) + 0.6)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(drawn), len(names), squeeze=False)
    for row, (guidance, pictures) in enumerate(drawn.items()):
        for column, picture in enumerate(pictures):
            axis = axes[row][column]
            axis.imshow(picture, interpolation="nearest")
            axis.set(xticks=[], yticks=[], frame_on=False)
            if row == 0:
                axis.set_title("\n".join(_lines(names[column])), fontsize=7)
        axes[row][0].set_ylabel(
            f"guidance\n{guidance:g}" if guidance else "no\nprompt", fontsize=8, rotation=0, ha="right", va="center"
        )
    canvas.draw()
    return as_png(np.asarray(canvas.buffer_rgba())[:, :, :3])


def _lines(name: str) -> list[str]:
    import textwrap

    return textwrap.wrap(name, LONGEST_NAME)
