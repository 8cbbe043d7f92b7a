"""Pictures with transparency laid over white paper."""

from __future__ import annotations

import PIL.Image


def flatten(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Mode LA as L and RGBA as RGB, each pixel mixed with white by its alpha; other modes as they are."""
    if picture.mode not in {"LA", "RGBA"}:
        return picture
    opaque = picture.convert("L" if picture.mode == "LA" else "RGB")  # drops alpha
    paper = PIL.Image.new(opaque.mode, picture.size, "white")
    paper.paste(opaque, mask=picture.getchannel("A"))
    return paper
