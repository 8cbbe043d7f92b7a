"""A gateway of its own for a load test: free ports, and a state that is forgotten with it."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from loadtests.server_process import server

START_LINE: Final = re.compile(r"^tidegate serves .* on (http://\S+) \(admin \S+\)$", re.MULTILINE)


@contextmanager
def gateway(repository: Path, prefix: Sequence[str] = ()) -> Iterator[str]:
    """The URL of a gateway on the models of `repository`, ready; it is stopped on leaving. ServerFailed as in server().

    prefix: stands before the command, such as taskset with its options.
    """
    tidegate = str(Path(sys.executable).with_name("tidegate"))
    with tempfile.TemporaryDirectory(prefix="tidegate-") as state:
        options = ["--repository", str(repository), "--state", state, "--port", "0", "--admin-port", "0"]
        with server([*prefix, tidegate, "serve", *options], START_LINE) as url:
            yield url
