"""Which type of answer a caller wants. Source: RFC 9110, section 12.5.1"""

from __future__ import annotations

from collections.abc import Sequence

from serving.errors import NotAcceptable


def choose(header: bytes | None, offered: Sequence[str]) -> str:
    """The one of the offered media types that `Accept` likes best, of equals the first; the first without `Accept`.

    NotAcceptable: it takes none of them.
    """
    if not header or len(offered) == 1:  # who has one answer alone sends it
        return offered[0]
    ranges = [_read_range(part) for part in header.lower().split(b",")]
    weights = {kind: _weight_of(kind, ranges) for kind in offered}
    best = max(offered, key=lambda kind: weights[kind])
    if weights[best] <= 0:
        raise NotAcceptable(
            "Accept takes no type that this route can answer with.", remedy=f"There are: {', '.join(offered)}."
        )
    return best


def weight(parameters: bytes) -> float:
    """Of `q=0.5`, which may stand among other parameters; 1 without it, or where it is no number."""
    for parameter in parameters.split(b";"):
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                return float(value)
            except ValueError:
                return 1.0
    return 1.0


def _read_range(part: bytes) -> tuple[str, float]:
    name, _, parameters = part.partition(b";")
    return name.strip().decode("latin-1"), weight(parameters)


def _weight_of(kind: str, ranges: list[tuple[str, float]]) -> float:
    """That of the range that says most about the type: itself, then its family, then all."""
    for form in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        for name, given in ranges:
            if name == form:
                return given
    return 0.0
