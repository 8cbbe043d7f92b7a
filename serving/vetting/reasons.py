"""Why a version failed, in words for operators: what a library said, without paths, and cut short."""

from __future__ import annotations

import re
from typing import Final

from serving.errors import TidegateError


class Unfit(Exception):
    """The version fails the step; the text says why and what was expected."""


_LONGEST: Final = 240  # letters of what a library says
_MEMORY: Final = re.compile(r"bad_alloc|bad allocation|[Ff]ailed to allocate memory|std::length_error")
# How ONNX Runtime begins: its own code, the model's path, and where in which of its functions it was.
_PREAMBLE: Final = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from \S+ failed:"
    r"|(\S*\.(?:cc|h|cpp):\d+ )?[\w:<>*& ]+::\w+\([^()]*\)(?: const)? "
)


def reason(error: BaseException) -> str:
    """One line. What no error of the gateway says is named by its class."""
    cause = error.__cause__ or error.__context__
    if isinstance(error, MemoryError) or _MEMORY.search(f"{error} {cause}"):
        return "It wants more memory than vetting allows."
    if isinstance(error, TidegateError) and error.__cause__ is not None:
        return f"{error.detail} {said(error.__cause__)}".strip()
    if isinstance(error, TidegateError | Unfit):
        return str(error)
    return f"{type(error).__name__}: {said(error)}"


def said(error: BaseException | None) -> str:
    """The error's text without paths, places in sources and control characters."""
    words = (word for word in _PREAMBLE.sub("", str(error)).split() if "/" not in word)
    return "".join(letter for letter in " ".join(words) if letter.isprintable())[:_LONGEST]
