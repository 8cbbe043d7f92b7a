"""Tells an address of the operator's what the guard did."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

import httpx

log = logging.getLogger(__name__)

TRIES_S: Final = (0.0, 1.0, 5.0)
TIMEOUT_S: Final = 5.0


class Webhook:
    """Posts JSON to one address, set at start; nothing that a caller sends has a say in it. Empty: nobody is told."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._tasks: set[asyncio.Task[bool]] = set()

    def tell(self, news: Mapping[str, Any]) -> asyncio.Task[bool] | None:
        """Sends it in the background; the task's result: whether it arrived."""
        if not self._url:
            return None
        task = asyncio.create_task(self._send(dict(news)), name="tell the webhook")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Waits a moment for what is on its way."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=1.0)
            for task in late:
                task.cancel()

    async def _send(self, news: dict[str, Any]) -> bool:
        reason = ""
        for pause_s in TRIES_S:
            await asyncio.sleep(pause_s)
            try:
                async with httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client:
                    answer = await client.post(self._url, json=news)
                if answer.is_success:
                    return True
                reason = f"it answered {answer.status_code}"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                reason = type(error).__name__
        log.error("the webhook was not told of %s: %s", news.get("model"), reason)
        return False
