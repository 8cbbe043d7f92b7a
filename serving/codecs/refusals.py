"""What is said of a picture that is not taken: one wording for all formats, and nothing of a decoder's own text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serving.errors import ImageInvalid, ImageTooLarge

_REMEDY = "Send a JPEG, PNG or WebP picture."


def empty() -> ImageInvalid:
    return ImageInvalid("The body is empty where a picture was expected.", remedy=_REMEDY)


def unknown_format() -> ImageInvalid:
    return ImageInvalid("The body is not a JPEG, PNG or WebP picture.", remedy=_REMEDY)


def damaged(kind: str) -> ImageInvalid:
    return ImageInvalid(
        f"The {kind} picture is damaged, cut short or of a kind that cannot be decoded.",
        remedy="Send a complete JPEG, PNG or WebP picture.",
    )


def too_many(kind: str, parts: str, limit: int) -> ImageInvalid:
    return ImageInvalid(f"The {kind} picture has more than {limit} {parts}.", remedy="Save the picture anew.")


def no_pixels(width: int, height: int) -> ImageInvalid:
    return ImageInvalid(f"The picture is {width} x {height} pixels, which is none.", remedy=_REMEDY)


def too_large(width: int, height: int, *, max_side: int, max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(
        f"The picture is {width} x {height} pixels; accepted are {max_side} per side and {max_pixels} in all.",
        remedy="Shrink the picture and send it again.",
    )


@contextmanager
def decoding(kind: str) -> Iterator[None]:
    """Whatever a decoder throws inside becomes ImageInvalid: hostile bytes bring any type of exception out of one."""
    try:
        yield
    except Exception as error:
        raise damaged(kind) from error
