"""Rows and what a model answered to them, drawn: a PNG for each model, the same bytes each time."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from exporters.models_page.samples import Samples
from serving.tensors import Array

MOST_BYTES: Final = 150_000
WIDTH: Final = 2.6  # inches of a picture, at 100 pixels an inch
TOP: Final = 3  # classes of a classifier's answer
COLOURS: Final = "tab20"
LIGHT: Final = "#aec7e8"  # of bars, so that text on them is read
SHADE: Final = 0.55  # opacity of masks


def draw(samples: Samples) -> bytes:
    """A PNG below 150 kB: the pictures side by side, each with its answer. KeyError for a task that cannot be drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(samples.pixels)
    below = samples.task == "classify"
    figure = Figure(figsize=(WIDTH * max(2, count), WIDTH * (1.5 if below else 1.25)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    ratios = [3, 1.2] if below else [1]
    axes = figure.subplots(len(ratios), count, squeeze=False, height_ratios=ratios)
    for row in range(count):
        _show(axes[0][row], samples.pixels[row])
        _ANSWERS[samples.task](axes[:, row], samples, row)
    canvas.draw()
    return as_png(np.asarray(canvas.buffer_rgba())[:, :, :3])


def _show(axis: Any, pixels: Array) -> None:
    grey = pixels.shape[2] == 1
    axis.imshow(pixels[:, :, 0] if grey else pixels, cmap="gray" if grey else None, vmin=0, vmax=255)
    axis.set_axis_off()


def _classes(axes: Array, samples: Samples, row: int) -> None:
    probabilities = samples.outputs["probabilities"][row]
    best = np.argsort(-probabilities, kind="stable")[:TOP]
    bars = axes[1]
    bars.barh(range(len(best)), probabilities[best], color=LIGHT, height=0.8)
    bars.set(xlim=(0, 1), ylim=(TOP - 0.5, -0.5))
    bars.set_axis_off()
    for place, class_id in enumerate(best):
        said = f"{samples.labels[class_id][:24]}  {probabilities[class_id]:.2f}"
        bars.text(0.02, place, said, va="center", fontsize=8)


def _boxes(axes: Array, samples: Samples, row: int) -> None:
    outputs, axis = samples.outputs, axes[0]
    for i in range(int(outputs["count"][row, 0])):
        class_id = int(outputs["class_ids"][row, i])
        xmin, ymin, xmax, ymax = outputs["boxes"][row, i]
        colour = _colour(class_id)
        frame = {"color": colour, "linewidth": 1.5}
        axis.plot([xmin, xmax, xmax, xmin, xmin], [ymin, ymin, ymax, ymax, ymin], **frame)
        said = f"{samples.labels[class_id]} {outputs['scores'][row, i]:.2f}"
        plate = _PLATE | {"edgecolor": colour, "linewidth": 1}
        axis.text(xmin, ymin, said, va="bottom", fontsize=7, bbox=plate, clip_on=True)


def _masks(axes: Array, samples: Samples, row: int) -> None:
    class_map, axis = samples.outputs["class_map"][row], axes[0]
    background = samples.labels[:1] == ("background",)
    present = [int(class_id) for class_id in np.unique(class_map) if class_id or not background]
    height, width = samples.pixels.shape[1:3]
    overlay = np.zeros((*class_map.shape, 4))
    for class_id in present:
        overlay[class_map == class_id] = (*_colour(class_id), SHADE)
        axis.plot([], [], "s", color=_colour(class_id), label=samples.labels[class_id])
    axis.imshow(overlay, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest")
    if present:
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, 0), fontsize=7, ncols=2, frameon=False)


_PLATE: Final[dict[str, Any]] = {"boxstyle": "square,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
_ANSWERS: Final[Mapping[str, Callable[[Array, Samples, int], None]]] = {
    "classify": _classes,
    "detect": _boxes,
    "segment": _masks,
}


def _colour(class_id: int) -> tuple[float, float, float]:
    from matplotlib import colormaps

    strong_first = class_id % 10 * 2 + class_id // 10 % 2  # the map has them in pairs of strong and pale
    red, green, blue, _ = colormaps[COLOURS](strong_first)
    return red, green, blue


def as_png(pixels: Array) -> bytes:
    """uint8 [height, width, 3] with as many colours of a palette as fit into the size."""
    import PIL.Image

    picture = PIL.Image.fromarray(np.ascontiguousarray(pixels))
    colours, stream = 256, io.BytesIO()
    picture.quantize(colours, dither=PIL.Image.Dither.NONE).save(stream, "PNG", optimize=True)
    while stream.tell() > MOST_BYTES and colours > 8:
        colours, stream = colours // 2, io.BytesIO()
        picture.quantize(colours, dither=PIL.Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()
