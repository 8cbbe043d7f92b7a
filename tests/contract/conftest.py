"""Engines of every kind, each with the repository that it serves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from triton_gateways import Triton

from serving import plugins
from serving.claim import ClaimOptions
from serving.claims.file import FileClaims
from serving.engine import FOLDER, EngineOptions
from serving.threads import Threads

ENGINES = plugins.names(FOLDER)


@dataclass(frozen=True)
class Bench:
    """One kind of engine, and the repository that it serves."""

    name: str
    root: Path
    state: Path
    url: str = ""

    @asynccontextmanager
    async def engine(self):
        threads = Threads(2, 0)
        claims = FileClaims(ClaimOptions("tests", self.state))
        engine = plugins.find(FOLDER, self.name, "PLUGIN")(EngineOptions(threads, self.url, claims))
        try:
            yield engine
        finally:
            await engine.close()
            threads.close()

    def hold(self, engine) -> Callable[[], None]:
        """Makes runs of `loop` last until what is returned is called, or for a moment by themselves."""
        if self.name == "fake":
            engine.gate.clear()
            return engine.gate.set
        return lambda: None


@pytest.fixture(scope="session")
def triton(tmp_path_factory):
    with Triton(tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("triton")) as server:
        yield server


@pytest.fixture(params=ENGINES)
def bench(request, tmp_path):
    if request.param != "triton":
        return Bench(request.param, tmp_path, tmp_path / ".state")
    server = request.getfixturevalue("triton")
    server.forget()
    return Bench("triton", server.repository, tmp_path, server.grpc_url)
