"""A client of a gateway's admin port. Stands apart: it knows routes, and nothing of the rest of tidegate."""

from __future__ import annotations

import os
import re
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

DEFAULT_URL = "http://127.0.0.1:8081"


class Unreachable(Exception):
    """No gateway answers there."""


class Refused(Exception):
    """The gateway said no; the message is its reason, `problem` all that it said (RFC 9457)."""

    def __init__(self, message: str, problem: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.problem = problem or {}


class AdminClient:
    """Talks to one gateway. `url`: of its admin port; `key`: for gateways that want one, else TIDEGATE_KEY."""

    def __init__(self, url: str = DEFAULT_URL, timeout_s: float = 600.0, key: str | None = None) -> None:
        self._url = url
        key = (os.environ.get("TIDEGATE_KEY", "") if key is None else key).strip()
        if not re.fullmatch("[!-~]*", key):
            raise Refused("The key (TIDEGATE_KEY) has characters that no key has.")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        # No proxy of the environment: admin ports listen on their own machine, where a proxy would look on its own.
        try:
            self._http = httpx.Client(
                base_url=url, timeout=httpx.Timeout(timeout_s, connect=5.0), trust_env=False, headers=headers
            )
        except httpx.InvalidURL as error:
            raise Unreachable(f"{url!r} is no URL: {error}.") from None

    def models(self) -> dict[str, Any]:
        """What models there are, as GET /admin/models tells it."""
        return self._object("GET", "/admin/models", "models")

    def check(self, model: str, version: int) -> dict[str, Any]:
        """The gate's verdict, kept in the ledger."""
        return self._object("POST", f"/admin/models/{quote(model, safe='')}/check", "checks", {"version": version})

    def promote(self, model: str, order: dict[str, Any]) -> dict[str, Any]:
        """Makes a version live, a canary or a shadow. `order`: version, canary, shadow, force, who, why."""
        return self._object("POST", f"/admin/models/{quote(model, safe='')}/promote", "action", order)

    def rollback(self, model: str, order: dict[str, Any]) -> dict[str, Any]:
        """Goes back. `order`: to, live, who, why."""
        return self._object("POST", f"/admin/models/{quote(model, safe='')}/rollback", "action", order)

    def history(self, model: str) -> list[dict[str, Any]]:
        """The changes that were made, the oldest first."""
        found = self._call("GET", f"/admin/models/{quote(model, safe='')}/history")
        if not isinstance(found, list):
            raise self._no_admin_port(200)
        return found

    def guard(self, model: str) -> dict[str, Any]:
        """How the model's versions on trial are guarded, and how the trial stands."""
        return self._object("GET", f"/admin/models/{quote(model, safe='')}/guard", "policy")

    def set_guard(self, model: str, order: dict[str, Any]) -> dict[str, Any]:
        """Says how they are guarded. `order`: policy (all of it, or None), who, why."""
        return self._object("PUT", f"/admin/models/{quote(model, safe='')}/guard", "policy", order)

    def drift(self, model: str) -> dict[str, Any]:
        """How far what is asked of a model has drifted, by version and feature."""
        return self._object("GET", f"/admin/models/{quote(model, safe='')}/drift", "versions")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def _object(self, method: str, path: str, key: str, order: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer, a JSON object with this key: whatever else answers at an address has another."""
        body = self._call(method, path, order)
        if not isinstance(body, dict) or key not in body:
            raise self._no_admin_port(200)
        return body

    def _call(self, method: str, path: str, order: dict[str, Any] | None = None) -> Any:
        try:
            response = self._http.request(method, path, json=order)
        except (httpx.HTTPError, UnicodeError):  # the latter for a host name that no resolver can be asked for
            raise Unreachable(f"No gateway answers at {self._url}. Start one with `tidegate serve`.") from None
        try:
            body = response.json()
        except ValueError:
            body = None
        if response.is_success and body is not None:
            return body
        if isinstance(body, dict) and "detail" in body:
            raise Refused(f"{body['detail']} {body.get('remedy', '')}".strip(), body)
        raise self._no_admin_port(response.status_code)

    def _no_admin_port(self, status: int) -> Refused:
        return Refused(f"{self._url} answered {status}: is it a gateway's admin port?")
