"""A gateway of its own for a load test: free ports, and a state that is forgotten with it."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.server_process import matched_server

START_LINE: Final = re.compile(r"^tidegate serves .* on (http://\S+) \(admin (http://[^,)]+)[^)]*\)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Addresses:
    """URLs of a gateway's two ports."""

    public: str
    admin: str


@dataclass(frozen=True, slots=True)
class Fake:
    """The shipped fake engine in place of a real one: a run of n rows takes base_s + n * row_s."""

    base_s: float
    row_s: float = 0.0


@contextmanager
def gateway(
    repository: Path,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    state: Path | None = None,
) -> Iterator[str]:
    """The URL of a gateway on the models of `repository`, ready; it is stopped on leaving. ServerFailed as in server().

    prefix: stands before the command, such as taskset with its options. environment: on top of this one's.
    state: a folder that is kept, in place of one that is forgotten.
    """
    with gateway_ports(repository, prefix, environment, state) as addresses:
        yield addresses.public


@contextmanager
def gateway_ports(
    repository: Path,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    state: Path | None = None,
    fake: Fake | None = None,
) -> Iterator[Addresses]:
    """As gateway(), with the admin port. `fake`: on that engine."""
    with tempfile.TemporaryDirectory(prefix="tidegate-") as fresh:
        program = [str(Path(sys.executable).with_name("tidegate")), "serve"]
        given = {**os.environ, "TIDEGATE_GRPC_PORT": "0", "TIDEGATE_DRAIN_DELAY_S": "0", **(environment or {})}
        if fake is not None:
            program = [sys.executable, "-m", "loadtests.fake_gateway", str(fake.base_s), str(fake.row_s)]
        options = ["--repository", str(repository), "--state", str(state or fresh), "--port", "0", "--admin-port", "0"]
        with matched_server([*prefix, *program, *options], START_LINE, given) as found:
            yield Addresses(found[1], found[2])


@contextmanager
def part_of(repository: Path, models: Collection[str], copies: Mapping[str, int]) -> Iterator[Path]:
    """The repository, with these models alone if any are named, so that it is quickly loaded.

    copies: model -> the number of a version that there shall be too, a copy of its lowest.
    """
    if not (models or copies) or not repository.is_dir():
        yield repository
        return
    with tempfile.TemporaryDirectory(prefix="repository-") as folder:
        for graph in repository.iterdir():
            model = graph.name.partition(".")[0]  # a model's further graphs have its name and a dot before theirs
            if graph.is_dir() and (not models or model in models):
                copied = Path(folder) / graph.name
                shutil.copytree(graph, copied)
                if model in copies:
                    _copy(copied, copies[model])
        yield Path(folder)


def _copy(graph: Path, number: int) -> None:
    versions = [version for version in graph.iterdir() if version.name.isdecimal()]
    lowest = min(versions, key=lambda version: int(version.name))
    if not (graph / str(number)).exists():
        shutil.copytree(lowest, graph / str(number))
