"""A client of a gateway's admin port. Stands apart: it knows routes, and nothing of the rest of tidegate."""

from __future__ import annotations

import os
import re
from types import TracebackType
from typing import Any, Self

import httpx

DEFAULT_URL = "http://127.0.0.1:8081"


class Unreachable(Exception):
    """No gateway answers there."""


class Refused(Exception):
    """The gateway said no; the message is its reason."""


class AdminClient:
    """Talks to one gateway. `url`: of its admin port; `key`: for gateways that want one, else TIDEGATE_KEY."""

    def __init__(self, url: str = DEFAULT_URL, timeout_s: float = 30.0, key: str | None = None) -> None:
        self._url = url
        key = (os.environ.get("TIDEGATE_KEY", "") if key is None else key).strip()
        if not re.fullmatch("[!-~]*", key):
            raise Refused("The key (TIDEGATE_KEY) has characters that no key has.")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        # No proxy of the environment: admin ports listen on their own machine, where a proxy would look on its own.
        try:
            self._http = httpx.Client(base_url=url, timeout=timeout_s, trust_env=False, headers=headers)
        except httpx.InvalidURL as error:
            raise Unreachable(f"{url!r} is no URL: {error}.") from None

    def models(self) -> dict[str, Any]:
        """What models there are, as GET /admin/models tells it."""
        return self._call("GET", "/admin/models", "models")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def _call(self, method: str, path: str, key: str) -> dict[str, Any]:
        """The answer, a JSON object with this key: whatever else answers at an address has another."""
        try:
            response = self._http.request(method, path)
        except (httpx.HTTPError, UnicodeError):  # the latter for a host name that no resolver can be asked for
            raise Unreachable(f"No gateway answers at {self._url}. Start one with `tidegate serve`.") from None
        try:
            body = response.json()
        except ValueError:
            body = None
        if response.is_error or not isinstance(body, dict) or key not in body:
            reason = body.get("detail") if isinstance(body, dict) else None
            raise Refused(str(reason or f"{self._url} answered {response.status_code}: is it a gateway's admin port?"))
        return body
