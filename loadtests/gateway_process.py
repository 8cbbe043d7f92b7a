"""A gateway of its own for a load test: free ports, and a state that is forgotten with it."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from loadtests.server_process import server

START_LINE: Final = re.compile(r"^tidegate serves .* on (http://\S+) \(admin [^)]+\)$", re.MULTILINE)


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
    tidegate = str(Path(sys.executable).with_name("tidegate"))
    with tempfile.TemporaryDirectory(prefix="tidegate-") as fresh:
        ports = ["--port", "0", "--admin-port", "0"]
        command = [*prefix, tidegate, "serve", "--repository", str(repository), "--state", str(state or fresh), *ports]
        given = {**os.environ, "TIDEGATE_GRPC_PORT": "0", **(environment or {})}
        with server(command, START_LINE, given) as url:
            yield url
