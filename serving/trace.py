"""What a request's trace is made of: its place in W3C's terms, and the parts that were noted while it was answered.

Nothing here knows who collects traces. Source of the headers: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

SAMPLED: Final = 1
KNOWN_FLAGS: Final = 3  # sampled, and that the trace's id is random
MOST_PARTS: Final = 128  # of one request: a text of many steps has many runs
MOST_LINKS: Final = 128
MOST_STATE: Final = 512  # characters, and members: what everybody has to pass on
MOST_MEMBERS: Final = 32
TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[ -~]*)?")
MEMBER: Final = re.compile(
    r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
Kind: TypeAlias = Literal["internal", "server", "client", "consumer"]
Value: TypeAlias = str | int | float


@dataclass(frozen=True, slots=True)
class Place:
    """Where a span stands. flags: W3C's; state: what other systems want passed on, as they wrote it."""

    trace_id: int
    span_id: int
    flags: int = SAMPLED
    state: str = ""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        """As it is written for whoever comes next."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"

    def within(self) -> Place:
        """The place of a span below this one."""
        return Place(self.trace_id, _fresh(64), self.flags, self.state)


def first_place() -> Place:
    """The place of a sampled span that has none above it."""
    return Place(_fresh(128), _fresh(64), KNOWN_FLAGS)


def read_place(parents: Sequence[bytes], states: Sequence[bytes] = ()) -> Place | None:
    """The caller's span, of the values of its `traceparent` and `tracestate`; None unless there is one, well-formed.

    A state that is not well-formed is left away, as the standard wants it.
    """
    match = TRACEPARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if match is None:
        return None
    version, trace_id, span_id, flags = (int(part, 16) for part in match.groups()[:4])
    if version == 0xFF or (version == 0 and match[5] is not None) or not trace_id or not span_id:
        return None
    return Place(trace_id, span_id, flags & KNOWN_FLAGS, _state(states))


def headers_of(place: Place) -> tuple[tuple[str, str], ...]:
    """What whoever is asked next is told."""
    parent = ("traceparent", place.traceparent)
    return (parent, ("tracestate", place.state)) if place.state else (parent,)


def _state(values: Sequence[bytes]) -> str:
    if sum(map(len, values)) > MOST_STATE:
        return ""
    members = [member.strip(" \t") for value in values for member in value.decode("latin-1").split(",")]
    members = [member for member in members if member]
    names = {member.partition("=")[0] for member in members}
    if len(members) > MOST_MEMBERS or len(names) < len(members) or not all(map(MEMBER.fullmatch, members)):
        return ""
    return ",".join(members)


@dataclass(frozen=True, slots=True)
class Part:
    """A span: something that was done, from when to when on time.monotonic()'s clock.

    error: its code, where it failed. Attributes and links say nothing that a caller sent but names of ours.
    """

    name: str
    place: Place
    parent: Place | None
    start_s: float
    end_s: float
    attributes: Mapping[str, Value] = field(default_factory=dict)
    links: tuple[Place, ...] = ()
    error: str = ""
    kind: Kind = "internal"


class Trace:
    """What is noted of one request while it is answered, and what whoever answers a part of it passes on.

    place: of the span that the request is; parent: of its caller's. recorded: whether it is sampled here; of one that
    is not nothing is kept, and `place` is its caller's own, to be passed on.
    """

    __slots__ = ("_whole", "left_out", "parent", "parts", "place", "recorded")

    def __init__(
        self, place: Place, parent: Place | None = None, *, recorded: bool = True, whole: Trace | None = None
    ) -> None:
        self.place = place
        self.parent = parent
        self.recorded = recorded
        self.parts: list[Part] = []
        self.left_out = 0
        self._whole = whole or self

    def below(self) -> Trace:
        """For a part that others have a part in: what they note stands below it."""
        if not self.recorded:
            return self
        return Trace(self.place.within(), self.place, whole=self._whole)

    def note(self, part: Part) -> None:
        """Keeps a part, if there is room."""
        whole = self._whole
        if len(whole.parts) < MOST_PARTS:
            whole.parts.append(part)
        else:
            whole.left_out += 1

    def did(self, name: str, start_s: float, end_s: float) -> None:
        """Keeps what was done for this request alone; of what took no time nothing."""
        if self.recorded and end_s > start_s:
            self.note(Part(name, self.place.within(), self.place, start_s, end_s))


def _fresh(bits: int) -> int:
    return random.getrandbits(bits) or 1  # ids, no secrets
