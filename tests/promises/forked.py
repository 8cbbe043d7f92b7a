"""Gateways that start in a blink: forked off a process that has imported all they need, so that they can be killed by
the dozen. What runs is the program itself; `engine` names a function `module:function` that makes another engine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_S = 60.0
FORKER = """
import asyncio, importlib, json, os, signal, sys
import onnxruntime, tokenizers, uvloop
from serving import cli, plugins, running
from serving.settings import read_settings
for folder, name in (("ledgers", "file"), ("ledgers", "redis"), ("job_stores", "local"), ("job_stores", "redis"),
                     ("indexes", "local"), ("indexes", "redis"), ("claims", "file"), ("claims", "redis"),
                     ("engines", "onnx"), ("tasks", "generate-images")):
    plugins.find("serving." + folder, name, "PLUGIN")
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.update(order["environment"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2), os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if order["engine"]:
        module, _, function = order["engine"].partition(":")
        engine = getattr(importlib.import_module(module), function)()
        asyncio.run(running.run(read_settings(), engine=engine))
        os._exit(0)
    cli.main(["serve"])
"""


@dataclass
class Forked:
    """A gateway, by its process."""

    pid: int
    log: Path
    url: str = ""
    admin_url: str = ""

    def kill(self) -> None:
        """As kill -9; returns when it is gone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        self.wait()

    @property
    def alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait(self) -> None:
        _until(lambda: not self.alive, f"process {self.pid} ends")


@dataclass
class Forker:
    """Starts gateways on one repository and state."""

    popen: subprocess.Popen[str]
    folder: Path
    environment: dict[str, str]
    engine: str = ""
    started: list[Forked] = field(default_factory=list)

    def start(self, **more: str) -> Forked:
        """A gateway that is ready, on ports of its own."""
        log = self.folder / f"gateway-{len(self.started)}.log"
        order = {"environment": {**self.environment, **more}, "log": str(log), "engine": self.engine}
        self.popen.stdin.write(json.dumps(order) + "\n")
        self.popen.stdin.flush()
        gateway = Forked(int(self.popen.stdout.readline()), log)
        self.started.append(gateway)
        _until(lambda: _line(log) or not gateway.alive, "it starts")
        line = _line(log)
        assert line, log.read_text()
        gateway.url, gateway.admin_url = (word.strip("(),\n") for word in line.split() if "http://" in word)
        return gateway


@contextmanager
def forker(folder: Path, engine: str = "", **environment: str) -> Iterator[Forker]:
    """Of gateways whose repository and state are in `folder`. environment: of all of them."""
    given = {
        "TIDEGATE_REPOSITORY": str(folder / "repository"),
        "TIDEGATE_STATE": str(folder / "state"),
        **{f"TIDEGATE_{name}": "0" for name in ("PORT", "ADMIN_PORT", "GRPC_PORT", "DRAIN_DELAY_S")},
        **environment,
    }
    popen = subprocess.Popen(
        [sys.executable, "-c", FORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    made = Forker(popen, folder, given, engine)
    try:
        yield made
    finally:
        for gateway in made.started:
            gateway.kill()
        popen.stdin.close()
        popen.wait(PATIENCE_S)
        popen.stdout.close()


def _line(log: Path) -> str:
    if not log.exists():
        return ""
    return next((line for line in log.read_text().splitlines() if line.startswith("tidegate serves")), "")


def _until(condition, what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"never: {what}"
        time.sleep(0.01)
