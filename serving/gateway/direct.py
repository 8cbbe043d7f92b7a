"""Routes that FastAPI documents and does not run."""

from __future__ import annotations

import re
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from serving.gateway.traffic import Endpoint


class DirectRoute(APIRoute):
    """A route whose `Endpoint` is the ASGI application; in the OpenAPI document it stands like any other."""

    def __init__(self, path: str, endpoint: Endpoint, **documentation: Any) -> None:
        super().__init__(path, _documented, response_model=None, **documentation)
        self.app = endpoint


class DirectTable:
    """Finds the direct route of a request without asking all routes in turn: whole paths first, then patterns."""

    def __init__(self, routes: list[DirectRoute]) -> None:
        self._exact = {route.path: route for route in routes if "{" not in route.path}
        self._patterns: list[tuple[re.Pattern[str], DirectRoute]] = [
            (route.path_regex, route) for route in routes if "{" in route.path
        ]

    async def run(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answers the request if a direct route is for it; says whether it did."""
        path: str = scope["path"]
        route = self._exact.get(path)
        if route is None:
            for pattern, candidate in self._patterns:
                if match := pattern.match(path):
                    route = candidate
                    scope["path_params"] = match.groupdict()
                    break
        if route is None or scope["method"] not in (route.methods or ()):
            return False
        await route.app(scope, receive, send)
        return True


async def _documented(request: Request) -> None:
    """Never called: DirectRoute puts its endpoint in place of FastAPI's handler."""
    raise NotImplementedError(request)
