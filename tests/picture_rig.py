"""Pictures with one dark spot, stored in every way, and a task with its graph, as one call."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass

import numpy as np
import PIL.Image

from serving.task import Request

VIEWS = {"squeezed": {"resize": None}, "letterboxed": {"resize": None, "letterbox": True}, "cropped": {"resize": 40}}
SPOT = (30, 20, 61, 50)  # xmin, ymin, xmax, ymax
# How a camera stores an upright picture that it says to be turned so: EXIF 1 to 8.
STORED = {
    1: lambda p: p,
    2: lambda p: p.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda p: p.transpose(PIL.Image.Transpose.ROTATE_180),
    4: lambda p: p.transpose(PIL.Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda p: p.transpose(PIL.Image.Transpose.TRANSPOSE),
    6: lambda p: p.transpose(PIL.Image.Transpose.ROTATE_90),
    7: lambda p: p.transpose(PIL.Image.Transpose.TRANSVERSE),
    8: lambda p: p.transpose(PIL.Image.Transpose.ROTATE_270),
}


def spotted(width=96, height=72, spot=SPOT, orientation=1) -> bytes:
    """White, but for the spot; as a PNG that is stored turned."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[spot[1] : spot[3], spot[0] : spot[2]] = 0
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    STORED[orientation](PIL.Image.fromarray(pixels)).save(stream, "PNG", exif=exif)
    return stream.getvalue()


@dataclass
class Steps:
    """Runs a graph at once, on ONNX Runtime. aside: how often work was put aside, so as not to hold up others."""

    served: object
    aside: int = 0

    async def pre(self, function):
        return function()

    async def run(self, graph, inputs):
        return self.served(inputs)

    def post(self, function):
        return function()

    async def post_aside(self, function):
        self.aside += 1
        return function()


@dataclass
class Answering:
    """A task bound to a tiny version, with its graph loaded."""

    task: object
    steps: Steps

    def __call__(self, payload, media_type="application/json", **parameters):
        request = Request(payload, self.task.parameters(**parameters), media_type)
        return asyncio.run(self.answer(request))

    async def answer(self, request):
        return await self.task.answer(request, self.steps)
