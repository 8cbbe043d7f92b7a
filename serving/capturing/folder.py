"""The folder of captured requests: bounded, the oldest go first, and read by nobody but its owner.

    captures/<model>/<milliseconds since 1970>-<process>-<n>.capture

A file is whole or not there. Several gateways may share the folder; each keeps it within the bound, as far as it knows.
"""

from __future__ import annotations

import itertools
import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from serving.atomic_file import replace_file
from serving.capturing.record import Captured, read, write

FOLDER: Final = "captures"
SUFFIX: Final = ".capture"
BLOCK: Final = 4096  # bytes of a disk that even a small file takes
SHARE: Final = 16  # the largest file is this part of the bound; and after as much as that, others' files are looked at


class CaptureFolder:
    """Blocking, and used from one thread. OSError from all methods, where the disk says no."""

    def __init__(self, state: Path, most_bytes: int) -> None:
        self.bytes = 0  # on the disk, of all gateways, as far as this one knows
        self._root = state / FOLDER
        self._most_bytes = most_bytes
        self._names = (f"{secrets.token_hex(3)}-{n:x}" for n in itertools.count())
        self._unseen_bytes = 0  # written here since others' files were looked at

    def open(self) -> None:
        """Sweeps what writers left half written who died, and counts what is there."""
        self._root.parent.mkdir(parents=True, exist_ok=True)
        self._root.mkdir(mode=0o700, exist_ok=True)
        for staged in self._root.glob(f"*/.*{SUFFIX}.new"):
            staged.unlink(missing_ok=True)
        self._look()

    def add(self, captured: Captured) -> bool:
        """Keeps it; False: it is too large for the bound."""
        content = write(captured)
        size = _on_disk(len(content))
        if size > self._most_bytes // SHARE:
            return False
        if self.bytes + size > self._most_bytes or self._unseen_bytes > self._most_bytes // SHARE:
            self._look(size)
        folder = self._root / captured.model
        for made in (self._root, folder):
            made.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{round(captured.at * 1000):013d}-{next(self._names)}{SUFFIX}"
        replace_file(path, content, durable=False, mode=0o600)
        self.bytes += size
        self._unseen_bytes += size
        return True

    def _look(self, room: int = 0) -> None:
        """Counts what is there, and lets the oldest go where there is no room; some more, to be quiet for a while."""
        found = sorted(self._root.glob(f"*/[!.]*{SUFFIX}"), key=lambda path: path.name)
        files: deque[tuple[Path, int]] = deque()
        self.bytes = self._unseen_bytes = 0
        for path in found:
            with suppress(FileNotFoundError):  # another gateway was quicker
                size = _on_disk(path.stat().st_size)
                files.append((path, size))
                self.bytes += size
        if self.bytes + room <= self._most_bytes:
            return
        while files and self.bytes > self._most_bytes * (SHARE - 1) // SHARE:
            path, size = files.popleft()
            path.unlink(missing_ok=True)
            self.bytes -= size


def captured_of(state: Path, model: str, most: int) -> Iterator[Captured | None]:
    """The latest captured requests of a model, the oldest first; None for each that cannot be read."""
    paths = sorted((state / FOLDER / model).glob(f"[!.]*{SUFFIX}"), key=lambda path: path.name)
    for path in paths[-most:]:
        try:
            yield read(path.read_bytes())
        except FileNotFoundError:  # it went meanwhile
            continue
        except (OSError, ValueError):
            yield None


def _on_disk(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
