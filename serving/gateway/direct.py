"""Routes that FastAPI documents and does not run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import Scope

from serving.gateway.access import Need, needs
from serving.gateway.traffic import Endpoint


class DirectRoute(APIRoute):
    """A route whose `Endpoint` is the ASGI application; in the OpenAPI document it stands like any other.

    need: the scope that its callers' keys must have.
    """

    def __init__(
        self,
        path: str,
        endpoint: Endpoint,
        *,
        need: Need,
        openapi_extra: Mapping[str, Any] | None = None,
        **documentation: Any,
    ) -> None:
        extra = {**(openapi_extra or {}), **needs(need)}
        super().__init__(path, _documented, response_model=None, openapi_extra=extra, **documentation)
        self.app = endpoint
        self.need = need


class DirectTable:
    """Finds the direct route of a request without asking all routes in turn: whole paths first, then patterns."""

    def __init__(self, routes: list[DirectRoute]) -> None:
        self._exact = {route.path: route for route in routes if "{" not in route.path}
        self._patterns: list[tuple[re.Pattern[str], DirectRoute]] = [
            (route.path_regex, route) for route in routes if "{" in route.path
        ]

    def find(self, scope: Scope) -> DirectRoute | None:
        """The direct route for this request, if one is; the path's parameters are put into the scope."""
        path: str = scope["path"]
        route = self._exact.get(path)
        if route is None:
            for pattern, candidate in self._patterns:
                if match := pattern.match(path):
                    route = candidate
                    scope["path_params"] = match.groupdict()
                    break
        if route is None or scope["method"] not in (route.methods or ()):
            return None
        return route


async def _documented(request: Request) -> None:
    """Never called: DirectRoute puts its endpoint in place of FastAPI's handler."""
    raise NotImplementedError(request)
