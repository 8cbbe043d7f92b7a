"""What a picture file says of itself before any pixel is decoded."""

from __future__ import annotations

from typing import NamedTuple


class Header(NamedTuple):
    """Size in pixels as stored, before any turning, and the Exif block (a TIFF file; empty where there is none)."""

    width: int
    height: int
    exif: bytes
