"""The plain server as a child process, run by uvicorn as its documentation says, but for the access log."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from loadtests.bench.plain_server import VERSION_VARIABLE
from loadtests.server_process import server

ROOT: Final = Path(__file__).parents[2]
START_LINE: Final = re.compile(r"Uvicorn running on (http://\S+)")


@contextmanager
def plain(factory: str, version: Path, prefix: Sequence[str] = ()) -> Iterator[str]:
    """The URL of the application that `factory` of plain_server makes around the version's model."""
    application = f"loadtests.bench.plain_server:{factory}"
    options = ["--factory", "--app-dir", str(ROOT), "--no-access-log", "--port", "0"]
    environment = {**os.environ, VERSION_VARIABLE: str(version.absolute())}
    with server([*prefix, sys.executable, "-m", "uvicorn", application, *options], START_LINE, environment) as url:
        yield url
