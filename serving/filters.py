"""What may stand beside an item, and conditions on it, as callers write them in JSON.

{"colour": "red"}                                equal; of a list in the metadata, one that is equal
{"price": {"$gte": 3, "$lt": 5}}                 $eq $ne $gt $gte $lt $lte $in $nin $exists
{"$or": [{"colour": "red"}, {"size": 4}]}        $and $or $not

What an item does not have equals nothing and is neither greater nor less, so $ne and $nin hold of it. Text and numbers
are never equal, nor are true and 1. Source of the operators: https://www.mongodb.com/docs/manual/reference/operator/query
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson

from serving.errors import ParameterInvalid

MOST_TERMS: Final = 64
MOST_NESTED: Final = 8
MOST_BYTES: Final = 16 * 1024  # of one item's metadata
MOST_IDENT: Final = 256  # bytes
MOST_NAME: Final = 128
SCALARS: Final = "text, a number, true or false"

Test = Callable[[Any], bool]  # of a metadata's value; ABSENT when there is none
ABSENT: Final = object()


class Filter:
    """A condition that was read and found sound. condition: as it was sent; terms: how many comparisons it makes."""

    def __init__(self, condition: Mapping[str, Any]) -> None:
        self.condition = condition
        self._counted = 0
        self._matches = self._all(condition, 0)
        self.terms = self._counted

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        """Whether an item of this metadata meets the condition."""
        return self._matches(metadata)

    def _all(self, condition: object, depth: int) -> Callable[[Mapping[str, Any]], bool]:
        if not isinstance(condition, Mapping) or not condition:
            raise _invalid("A condition is an object with at least one name in it.")
        if depth > MOST_NESTED:
            raise _invalid(f"The filter is nested deeper than {MOST_NESTED}.")
        parts = [self._part(name, value, depth) for name, value in condition.items()]
        return parts[0] if len(parts) == 1 else lambda metadata: all(part(metadata) for part in parts)

    def _part(self, name: str, value: object, depth: int) -> Callable[[Mapping[str, Any]], bool]:
        if name in ("$and", "$or"):
            if not isinstance(value, list) or not value:
                raise _invalid(f"{name} takes a list of conditions.")
            parts = [self._all(one, depth + 1) for one in value]
            join = all if name == "$and" else any
            return lambda metadata: join(part(metadata) for part in parts)
        if name == "$not":
            inner = self._all(value, depth + 1)
            return lambda metadata: not inner(metadata)
        if name.startswith("$"):
            raise _invalid(f"There is no operator {name[:20]!r} here.", f"There are: $and, $or, $not, {_KNOWN}.")
        tests = [self._test(one, wanted) for one, wanted in _operators(value)]
        return lambda metadata: all(test(metadata.get(name, ABSENT)) for test in tests)

    def _test(self, name: str, wanted: object) -> Test:
        self._counted += len(wanted) if isinstance(wanted, list) else 1
        if self._counted > MOST_TERMS:
            raise _invalid(f"The filter has more than {MOST_TERMS} comparisons.")
        make = _OPERATORS.get(name)
        if make is None:
            raise _invalid(f"There is no operator {name[:20]!r}.", f"There are: {_KNOWN}.")
        return make(name, wanted)


def read_filter(condition: object) -> Filter:
    """The condition; ParameterInvalid when it is none."""
    if not isinstance(condition, Mapping):
        raise _invalid("A filter is an object.", 'Write {"colour": "red"}, for example.')
    return Filter(condition)


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """ParameterInvalid unless all values are scalars or lists of text or of numbers, and names can be asked for."""
    for name, value in metadata.items():
        if not name or name.startswith("$") or len(name) > MOST_NAME:
            raise _invalid(f"A name in metadata is empty, longer than {MOST_NAME}, or begins with $.")
        listed = value if isinstance(value, list) else [value]
        kinds = {_kind(one) for one in listed}
        if None in kinds or (isinstance(value, list) and (len(kinds) > 1 or "boolean" in kinds)):
            detail = f"metadata.{name} is neither {SCALARS}, nor a list of text or of numbers."
            raise _invalid(detail, "Leave it out, or flatten it.")
    if len(orjson.dumps(dict(metadata))) > MOST_BYTES:
        raise _invalid(f"An item's metadata has more than {MOST_BYTES:,} bytes.", "Keep less beside it.")


def check_ident(ident: str) -> None:
    """ParameterInvalid unless it is 1 to 256 bytes of UTF-8 without control characters."""
    try:
        size = len(ident.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= MOST_IDENT or not ident.isprintable():
        raise _invalid(f"An id is not 1 to {MOST_IDENT} bytes of printable text.", "Leave it out, and one is made.")


def _operators(value: object) -> Iterable[tuple[str, object]]:
    if not isinstance(value, Mapping):
        return [("$eq", value)]
    if not value:
        raise _invalid("A name has an empty object behind it.", 'Write {"price": {"$gte": 3}}, for example.')
    return list(value.items())


def _kind(value: object) -> str | None:
    """What a value may be compared with; None for what cannot be in metadata."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else None


def _same(found: object, wanted: object) -> bool:
    """Equal and of one kind; of a list, whether one is."""
    if isinstance(found, list):
        return any(_same(one, wanted) for one in found)
    return found is not ABSENT and _kind(found) == _kind(wanted) and found == wanted


def _equal(name: str, wanted: object) -> Test:
    if _kind(wanted) is None:
        raise _invalid(f"{name} takes {SCALARS}.")
    return (lambda found: _same(found, wanted)) if name == "$eq" else (lambda found: not _same(found, wanted))


def _among(name: str, wanted: object) -> Test:
    if not isinstance(wanted, list) or not wanted or any(_kind(one) is None for one in wanted):
        raise _invalid(f"{name} takes a list of text, numbers, true or false.")
    choices: list[object] = wanted
    if name == "$in":
        return lambda found: any(_same(found, one) for one in choices)
    return lambda found: not any(_same(found, one) for one in choices)


def _ordered(name: str, wanted: object) -> Test:
    kind = _kind(wanted)
    if kind not in ("number", "text"):
        raise _invalid(f"{name} takes a number or text.")
    compare = _ORDERS[name]

    def test(found: object) -> bool:
        listed = found if isinstance(found, list) else [found]
        return any(_kind(one) == kind and compare(one, wanted) for one in listed)

    return test


def _exists(name: str, wanted: object) -> Test:
    if not isinstance(wanted, bool):
        raise _invalid(f"{name} takes true or false.")
    return lambda found: (found is not ABSENT) == wanted


def _invalid(detail: str, remedy: str = "GET /docs says what a filter may be.") -> ParameterInvalid:
    return ParameterInvalid(detail, remedy=remedy)


_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_OPERATORS: Final[Mapping[str, Callable[[str, object], Test]]] = {
    "$eq": _equal,
    "$ne": _equal,
    "$in": _among,
    "$nin": _among,
    "$exists": _exists,
    **dict.fromkeys(_ORDERS, _ordered),
}
_KNOWN: Final = ", ".join(_OPERATORS)
