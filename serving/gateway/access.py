"""Who may use which route: decided here and nowhere else, from the head alone, before a byte of a body is read.

Every route declares what it needs, with `needs`; one that does not keeps the gateway from being built. The path is
the one that routing uses (`scope["path"]`, decoded once), so no other spelling of it and no header is ever asked.
"""

from __future__ import annotations

import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from serving.errors import Forbidden, TidegateError, TooManyAttempts, Unauthorized
from serving.gateway.quota import Quotas, Usage
from serving.keys import KEY, Key, Keyring, KeyScope
from serving.telemetry import Meters

Need: TypeAlias = Literal["predict", "admin", "metrics", "public"]
EXTENSION: Final = "x-tidegate-scope"
SECURITY_SCHEMES: Final = {"key": {"type": "http", "scheme": "bearer", "description": "Made by `tidegate keys add`."}}
# Scopes that will do, any of them. Operators may read the meters; no other scope has a second one in it.
GRANTED_BY: Final[Mapping[str, frozenset[KeyScope]]] = {
    "predict": frozenset({"predict"}),
    "admin": frozenset({"admin"}),
    "metrics": frozenset({"metrics", "admin"}),
    "any": frozenset({"predict", "admin", "metrics"}),
}
BEARER: Final = re.compile(rb"(?i:bearer) +(%b) *" % KEY.pattern)
REMEDY: Final = (
    "Send a key as Authorization: Bearer KEY (commands take it from TIDEGATE_KEY). The operator makes one with"
    " `tidegate keys add`."
)
ATTEMPTS: Final = 10
WINDOW_S: Final = 60.0
ADDRESSES: Final = 10_000


def needs(need: Need) -> dict[str, Any]:
    """What a route asks of its callers, as its `openapi_extra`: so it is enforced and documented by one word."""
    extra: dict[str, Any] = {EXTENSION: need}
    return extra if need == "public" else {**extra, "security": [{"key": []}]}


def need_of(route: BaseRoute) -> Need:
    """What a route declared. TypeError when it did not: a default would be a hole or a riddle."""
    declared: Need | None = (getattr(route, "openapi_extra", None) or {}).get(EXTENSION)
    if declared is None or declared not in get_args(Need):
        path = getattr(route, "path", route)
        raise TypeError(f"{path} declares no scope: give its route openapi_extra=needs(...), of gateway/access.py")
    return declared


class Needs:
    """What a request needs by the route that will take it, found as Starlette finds it."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._routes = [(route, need_of(route)) for route in routes]

    def of(self, scope: Scope) -> str:
        """The need of the route for this request; of one with another method, if only that fits; else of any key."""
        partial: str | None = None
        for route, need in self._routes:
            match, _ = route.matches(scope)
            if match is Match.FULL:
                return need
            if match is Match.PARTIAL:
                partial = partial or need
        return partial or "any"


class Attempts:
    """Wrong keys by address: ATTEMPTS in any WINDOW_S are told so, further ones to wait. Bounded by ADDRESSES."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._times)

    def wait_s(self, address: str, now_s: float) -> float:
        """Counts a wrong key; how long its sender must wait, 0 if it is one of those that are let through."""
        times = [one for one in self._times.get(address, ()) if one > now_s - WINDOW_S]
        refused = len(times) >= ATTEMPTS
        if not refused:
            times.append(now_s)
        self._times[address] = times
        self._times.move_to_end(address)
        if len(self._times) > ADDRESSES:
            self._times.popitem(last=False)
        return times[0] + WINDOW_S - now_s if refused else 0.0


class Admission(NamedTuple):
    """Who was let in, by the name of the key; `usage`, if there is one, is to be told of the request's end."""

    caller: str = ""
    usage: Usage | None = None


class Access:
    """The door of all ports: it knows the keys, and counts who tries wrong ones."""

    def __init__(
        self, keyring: Keyring, meters: Meters, quotas: Quotas, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._keyring = keyring
        self._refusals = meters.access_refusals
        self._attempts = Attempts()
        self._quotas = quotas
        self._clock = clock

    @property
    def closed(self) -> bool:
        """Whether requests need a key now."""
        return self._keyring.required

    def admit(self, authorization: Sequence[bytes], address: str, need: str) -> Admission:
        """Lets a request with a key for `need` go on.

        authorization: all values that it came with; address: its sender's.

        Unauthorized without a key of ours, Forbidden with one for other things, TooManyAttempts after many wrong ones,
        QuotaExceeded when the key has used up what it may.
        """
        if need == "public":
            return Admission()
        key = self.check(authorization, address, need)
        if need != "predict":
            return Admission(key.name)
        try:
            return Admission(key.name, self._quotas.enter(key))
        except TidegateError as error:
            self._refusals.labels(error.code).inc()
            raise

    def check(self, authorization: Sequence[bytes], address: str, need: str) -> Key:
        """The key that may do this, with nothing of its quota used: as `admit`, for what is no request yet."""
        try:
            key = self._authenticate(authorization, address)
            if GRANTED_BY[need].isdisjoint(key.scopes):
                raise Forbidden("This key is not for this.", remedy=f"Use a key with the scope {need}.")
        except TidegateError as error:
            self._refusals.labels(error.code).inc()
            raise
        return key

    def _authenticate(self, given: Sequence[bytes], address: str) -> Key:
        if not given:
            raise Unauthorized("There is no key with this request.", remedy=REMEDY)
        # Of two headers a proxy in front may have looked at the other one.
        match = BEARER.fullmatch(given[0]) if len(given) == 1 else None
        key = self._keyring.find(match[1]) if match else None
        if key is not None:
            return key
        if wait_s := self._attempts.wait_s(address, self._clock()):
            raise TooManyAttempts(
                "Too many wrong keys came from this address.",
                remedy="Wait, or send a right one.",
                wait_s=math.ceil(wait_s),
            )
        raise Unauthorized("The key with this request is not known here.", remedy=REMEDY)
