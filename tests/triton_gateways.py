"""What tests of gateways ask of a real Triton, beside what triton_rig.py gives."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis_rig import until
from triton_rig import TritonServer


class Triton(TritonServer):
    """A Triton with what it has loaded."""

    def ready(self, model: str) -> set[int]:
        """The versions of a graph that are loaded."""
        states = self.client.index()
        names = [name.partition("/") for name, entry in states.items() if entry.state == "READY"]
        return {int(version) for name, _, version in names if name == model}

    def processes(self, model: str) -> dict[int, int]:
        """The processes that run a graph: id -> version."""
        return {stub.pid: int(name.partition("/")[0]) for name, stub in self.stubs(model).items()}

    def forget(self) -> None:
        """Nothing is loaded, and the repository is empty; it is started anew if it was killed."""
        if self._process is None:
            self.start()
        for name in {name.partition("/")[0] for name, entry in self.client.index().items() if entry.state == "READY"}:
            self.client.unload(name)
        until(lambda: not any(entry.state == "READY" for entry in self.client.index().values()), "all is unloaded")
        for folder in self.repository.iterdir():
            shutil.rmtree(folder)


@contextmanager
def beside_triton(repository: Path, engine: str = "triton") -> Iterator[dict[str, str]]:
    """The environment of gateways with this engine; a Triton runs meanwhile, if it is that."""
    if engine != "triton":
        yield {"TIDEGATE_ENGINE": engine}
        return
    with Triton(repository, repository.parent / f"triton-{repository.name}") as server:
        yield environment_of(server)


def environment_of(server: TritonServer) -> dict[str, str]:
    return {"TIDEGATE_ENGINE": "triton", "TIDEGATE_TRITON_URL": server.grpc_url}
