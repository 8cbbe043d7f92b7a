"""A server as a child process: up when it says so, and gone when the block ends."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

START_LIMIT_S: Final = 240.0  # models are warmed up, and other work may go on
STOP_LIMIT_S: Final = 30.0
POLL_S: Final = 0.02
TAIL_LINES: Final = 20


class ServerFailed(Exception):
    """It did not start, or ended by itself. The message has the last lines that it printed."""


@contextmanager
def server(
    command: Sequence[str], start_line: re.Pattern[str], environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Group 1 of `start_line`, the server's URL, once the command has printed it; on leaving it is interrupted.

    ServerFailed if the line does not come within START_LIMIT_S or the process ends before the block does.
    """
    with matched_server(command, start_line, environment) as found:
        yield found[1]


@contextmanager
def matched_server(
    command: Sequence[str], start_line: re.Pattern[str], environment: Mapping[str, str] | None = None
) -> Iterator[re.Match[str]]:
    """As server(), with all that `start_line` found."""
    with tempfile.TemporaryDirectory(prefix="server-") as folder:
        log = Path(folder) / "log"
        # Into a file and not a pipe: nobody would read on, and a full pipe stops whoever writes into it.
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)  # noqa: S603  (our own)
        try:
            yield _started(process, log, start_line)
            if process.poll() is not None:
                raise ServerFailed(_told(process, log))
        finally:
            _stop(process)


def _started(process: subprocess.Popen[bytes], log: Path, start_line: re.Pattern[str]) -> re.Match[str]:
    limit_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit_s:
        ended = process.poll() is not None  # asked before the log is read, so that its last line is seen
        if found := start_line.search(log.read_text(errors="replace")):
            return found
        if ended:
            break
        time.sleep(POLL_S)
    raise ServerFailed(_told(process, log))


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)  # to tidegate: do not wait for balancers to turn away
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _told(process: subprocess.Popen[bytes], log: Path) -> str:
    state = "does not start" if process.poll() is None else f"ended with exit code {process.returncode}"
    lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join([f"The server {state}. The last it said:", *lines])
