"""Which version answers a request. Asked first: labels, vocabulary and thresholds belong to the version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serving.errors import ModelAmbiguous, ModelNotFound, ModelNotReady, TaskMismatch, VersionNotFound
from serving.versions.resident import Resident


@dataclass(frozen=True, slots=True)
class Target:
    """What the caller asked for; None where the router decides. `label`: stable or canary."""

    model: str | None = None
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests of a model go. `task` is None for a plain Triton model; `stable` while it is not loaded."""

    task: str | None
    stable: Resident | None


class Router:
    """Routes by model. Changing one is a single assignment: a request sees the old route or the new one."""

    def __init__(self, default_models: Mapping[str, str]) -> None:
        self._default_models = default_models
        self.settled = False  # whether the routes of all models are set; before, an unknown name says nothing
        self._routes: dict[str, Route] = {}

    def set_route(self, model: str, route: Route) -> None:
        self._routes[model] = route

    def residents(self) -> list[Resident]:
        return [route.stable for route in self._routes.values() if route.stable]

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
        if route.stable is None:
            raise ModelNotReady(f"{name} has no version loaded.", remedy="Its operator finds the reason in the log.")
        if target.label == "canary":
            raise VersionNotFound(f"{name} has no canary now.", remedy="Ask GET /v1/models for what is live.")
        number = route.stable.version.number
        if target.version is not None and target.version != number:
            raise VersionNotFound(
                f"{name} has no version {target.version} loaded.",
                remedy=f"Version {number} is; leave version out for it.",
            )
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
