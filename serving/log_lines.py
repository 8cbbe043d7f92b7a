"""What the process says of itself, line by line, written by a thread: whoever has something to say never waits.

A pipe that nobody reads stops a writer for good. Here it stops the thread, and what does not fit is counted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

import orjson

from serving.timestamp import timestamp

MOST_WAITING: Final = 4096  # lines
MOST_AT_ONCE: Final = 4096  # bytes; a pipe takes so many from one writer with nobody else's between them
GATHER_S: Final = 0.1  # lines that are written together: each time the thread wakes it takes the loop's turn away
LEAVE_S: Final = 2.0  # at the end, for what waits
TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
STDERR: Final = 2
Format: TypeAlias = Literal["text", "json"]


class Lines:
    """Writes lines to a file descriptor, in their order. `written` and `dropped` say what became of them."""

    def __init__(self, descriptor: int = STDERR) -> None:
        self.written = 0
        self.dropped = 0
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._some = threading.Event()
        self._end = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._keep_on, name="log-lines", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> bool:
        """Whether it will be written. line: without its end."""
        if len(self._waiting) >= MOST_WAITING or self._closing:
            self.dropped += 1
            return False
        self._waiting.append(line)
        if not self._some.is_set():
            self._some.set()
        return True

    def close(self) -> None:
        """Returns when all is written, or after a while without."""
        self._closing = True
        self._some.set()
        self._end.set()
        self._thread.join(LEAVE_S)

    def _keep_on(self) -> None:
        while not self._closing or self._waiting:
            self._some.wait()
            self._end.wait(GATHER_S)
            self._some.clear()
            while data := self._some_lines():
                try:
                    self._write(data)
                except OSError:  # whoever read is gone: nothing can be said, and nobody is hurt
                    self.dropped += data.count(b"\n")
                else:
                    self.written += data.count(b"\n")

    def _some_lines(self) -> bytes:
        """As many of those that wait as go together, each with its end; none is split by another writer's."""
        taken: list[bytes] = []
        size = 0
        while self._waiting and (not taken or size + len(self._waiting[0]) < MOST_AT_ONCE):
            line = self._waiting.popleft()
            taken.append(line + b"\n")
            size += len(line) + 1
        return b"".join(taken)

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # somebody made it a descriptor that does not wait
                time.sleep(0.01)


@contextmanager
def logging_to_stderr(form: Format) -> Iterator[Lines]:
    """All that is logged goes to stderr by way of the lines that are given, until the end."""
    lines = Lines()
    handler = _LinesHandler(lines)
    handler.setFormatter(JsonFormatter() if form == "json" else logging.Formatter(TEXT))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        lines.close()


class _LinesHandler(logging.Handler):
    """Python's logging, into lines."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put(self.format(record).encode(errors="backslashreplace"))
        except Exception:  # noqa: BLE001  (as logging has it: what cannot be said stops nobody)
            self.handleError(record)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": timestamp(record.created, "milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json_line(said).decode()


def json_line(said: Mapping[str, object]) -> bytes:
    """One line: no text in it can end it."""
    try:
        return orjson.dumps(said)
    except TypeError:  # text with half a surrogate in it
        safe = {name: value.encode(errors="replace").decode() if isinstance(value, str) else value
                for name, value in said.items()}  # fmt: skip
        return orjson.dumps(safe)
