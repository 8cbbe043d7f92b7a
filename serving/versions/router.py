"""Which version answers a request. Asked first: labels, vocabulary and thresholds belong to the version."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from serving.errors import ModelAmbiguous, ModelNotFound, ModelNotReady, TaskMismatch, VersionNotFound
from serving.versions.resident import Resident

LOAD: Final = "POST /admin/models/{}/load"
HALF: Final = 50.0  # percent of the requests


@dataclass(frozen=True, slots=True)
class Target:
    """What the caller asked for; None where the router decides. `label`: stable or canary.

    sticky: who asks, or whatever they say they are; the same one keeps meeting the same version. Empty: no matter.
    """

    model: str | None = None
    version: int | None = None
    label: str | None = None
    sticky: bytes = b""


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests of a model go. `task` is None for a plain Triton model; `stable` while it is not loaded.

    residents: all that can be asked for by number. unloaded: somebody said so.
    """

    task: str | None
    stable: Resident | None
    canary: Resident | None = None
    percent: float = 0.0
    shadow: Resident | None = None
    residents: Mapping[int, Resident] = field(default_factory=dict)
    unloaded: bool = False


class Router:
    """Routes by model. Changing one is a single assignment: a request sees the old route or the new one."""

    def __init__(self, default_models: Mapping[str, str]) -> None:
        self._default_models = default_models
        self.settled = False  # whether the routes of all models are set; before, an unknown name says nothing
        self._routes: dict[str, Route] = {}

    def set_route(self, model: str, route: Route) -> None:
        self._routes[model] = route

    def stables(self) -> list[Resident]:
        """The versions that answer now."""
        return [route.stable for route in self._routes.values() if route.stable]

    def residents(self, model: str | None = None) -> list[Resident]:
        """The versions that can be asked for, of one model or of all."""
        routes = self._routes.values() if model is None else [self._routes[model]] if model in self._routes else []
        return [resident for route in routes for resident in route.residents.values()]

    def shadow(self, resident: Resident) -> Resident | None:
        """The version that gets copies of what this one answers: of the stable one's requests, and of no others."""
        route = self._routes.get(resident.version.model)
        return route.shadow if route is not None and route.stable is resident else None

    def canary(self, resident: Resident) -> Resident | None:
        """The canary beside this stable version."""
        route = self._routes.get(resident.version.model)
        return route.canary if route is not None and route.stable is resident else None

    def control(self, resident: Resident) -> Resident | None:
        """The stable version beside this canary; of one that gets more than half of the requests none: copies are few,
        and tell more the other way round.
        """
        route = self._routes.get(resident.version.model)
        if route is None or route.canary is not resident or route.percent > HALF:
            return None
        return route.stable

    def resolve(self, target: Target, verb: str | None) -> Resident:
        """The version that shall answer; enter it at once, it is the lease. `verb` None: any model, as /v2 asks.

        ModelNotFound, VersionNotFound, TaskMismatch, ModelAmbiguous or ModelNotReady say what could be had instead.
        """
        if not self.settled:
            raise ModelNotReady("This gateway is still starting.", remedy="Try again in a moment.")
        name = target.model or self._default(verb)
        route = self._routes.get(name)
        if route is None:
            raise ModelNotFound("There is no model of that name.", remedy=self._choices(verb))
        if verb is not None and route.task != verb:
            does = f"does {route.task}" if route.task else "is reached over /v2"
            raise TaskMismatch(f"{name} {does}, not {verb}.", remedy=self._choices(verb))
        if route.unloaded:
            raise ModelNotReady(f"{name} was unloaded.", remedy=f"Its operator can load it: {LOAD.format(name)}.")
        if route.stable is None:
            raise ModelNotReady(f"{name} has no version loaded.", remedy="Its operator finds the reason in the log.")
        if target.version is not None or target.label is not None:
            return _pinned(name, route, target)
        canary = route.canary
        if canary is not None and gets_canary(canary.version.name, route.percent, target.sticky):
            return canary
        return route.stable

    def _default(self, verb: str | None) -> str:
        """The model for requests that name none: the one set for the task, else the only one of its task."""
        default = self._default_models.get(verb or "")
        if default in self._routes:
            return default
        names = self._names(verb)
        if len(names) == 1:
            return names[0]
        if not names:
            raise ModelNotFound(f"There is no model for {verb}.", remedy="Publish one into the model repository.")
        raise ModelAmbiguous(f"Several models do {verb} and none was named.", remedy=self._choices(verb))

    def _names(self, verb: str | None) -> list[str]:
        return sorted(name for name, route in self._routes.items() if verb in (None, route.task))

    def _choices(self, verb: str | None) -> str:
        names = self._names(verb)
        return f"Name one with model=: {', '.join(names)}." if names else "The repository holds none."


def gets_canary(canary: str, percent: float, sticky: bytes) -> bool:
    """Whether a request is one of the canary's share. `canary`: its name, so that each draws callers anew.

    Who is in at ten percent is in at fifty.
    """
    if not sticky:
        return random.random() * 100 < percent  # noqa: S311  (a share, no secret)
    digest = hashlib.blake2b(sticky, digest_size=8, key=canary.encode()[:64]).digest()
    return int.from_bytes(digest) * 100 < percent * 2**64


def _pinned(name: str, route: Route, target: Target) -> Resident:
    """The version that the caller named. A label and a number together must mean the same."""
    labels = {"stable": route.stable, "canary": route.canary}
    if target.label is not None:
        found = labels.get(target.label)
        if found is None:
            raise VersionNotFound(f"{name} has no {target.label} now.", remedy="Ask GET /v1/models for what is live.")
        if target.version not in (None, found.version.number):
            raise VersionNotFound(f"The {target.label} of {name} is version {found.version.number}.")
        return found
    found = route.residents.get(target.version or 0)
    if found is None:
        numbers = ", ".join(map(str, sorted(route.residents))) or "none"
        raise VersionNotFound(
            f"{name} has no version {target.version} loaded.",
            remedy=f"Loaded: {numbers}; leave version out for stable.",
        )
    return found
