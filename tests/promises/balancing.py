"""A caller's side of two gateways: a balancer that asks who is ready, and callers who do as they are told when refused.

A request is lost when its caller, who tries again as `Retry-After` says, has no answer within PATIENCE_S.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence

import httpx
from open_loop import Judge, Reply

PATIENCE_S = 60.0
LOOK_S = 0.2
PAUSE_S = 0.05
REFUSALS = {"engine_unavailable", "model_not_ready", "shutting_down"}


class Balancer(threading.Thread):
    """Asks /readyz of each gateway, and gives those in turn that said yes last."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self.urls = tuple(urls)
        self.stop = threading.Event()
        self._ready: tuple[str, ...] = ()
        self._turns = itertools.count()

    def run(self) -> None:
        with httpx.Client(timeout=1.0) as client:
            while not self.stop.wait(LOOK_S):
                self._ready = tuple(url for url in self.urls if self.is_ready(client, url))

    @staticmethod
    def is_ready(client: httpx.Client, url: str) -> bool:
        try:
            return client.get(f"{url}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def ready(self) -> tuple[str, ...]:
        return self._ready

    def choose(self) -> str | None:
        ready = self._ready
        return ready[next(self._turns) % len(ready)] if ready else None


class Caller(threading.Thread):
    """One request after another until it is told to stop. What became of them is told by `phase`."""

    phase = "calm"

    def __init__(self, balancer: Balancer, target: str, content: bytes, key: str, judge: Judge) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.answered: Counter[str] = Counter()
        self.tried_again: Counter[str] = Counter()
        self.broken: list[str] = []
        self.wrong: list[str] = []
        self.lost: list[str] = []
        self.slowest_s: dict[str, float] = {}
        self.versions: Counter[int] = Counter()
        self._balancer, self._target, self._content, self._judge = balancer, target, content, judge
        self._headers = {"content-type": "image/png", "authorization": f"Bearer {key}"}

    def run(self) -> None:
        with httpx.Client(timeout=30.0) as client:
            while not self.stop.is_set():
                started_s, phase = time.monotonic(), self.phase
                if self._answered(client, phase):
                    self.answered[phase] += 1
                    self.slowest_s[phase] = max(self.slowest_s.get(phase, 0.0), time.monotonic() - started_s)
                else:
                    self.lost.append(phase)
                time.sleep(PAUSE_S)

    def _answered(self, client: httpx.Client, phase: str) -> bool:
        limit_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit_s:
            url = self._balancer.choose()
            if url is None:
                time.sleep(PAUSE_S)
                continue
            wait_s = self._try(client, url, phase)
            if wait_s is None:
                return True
            self.tried_again[self.phase] += 1  # when it was refused, which may be later than when it was begun
            time.sleep(wait_s)
        return False

    def _try(self, client: httpx.Client, url: str, phase: str) -> float | None:
        """How long to wait before the next try; None when there was an answer, which is judged."""
        try:
            answer = client.post(f"{url}{self._target}", content=self._content, headers=self._headers)
        except httpx.HTTPError as error:
            self.broken.append(f"{phase}: {type(error).__name__}: {error}")
            return PAUSE_S
        if answer.status_code == 503 and json.loads(answer.content).get("code") in REFUSALS:
            return float(answer.headers["retry-after"])
        fault = self._judge(Reply(answer.status_code, answer.headers, answer.content))
        if fault:
            self.wrong.append(f"{phase}: {fault}")
        else:
            self.versions[answer.json()["version"]] += 1
        return None
