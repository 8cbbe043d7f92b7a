"""Files that read as before or as after, never between, and locks that the system frees when their holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def replace_file(path: Path, content: str | bytes, *, durable: bool = True, mode: int = 0o644) -> None:
    """Writes beside `path`, then renames. durable: on disk when this returns, folder entry and all. OSError."""
    staged = path.with_name(f".{path.name}.new")
    staged.unlink(missing_ok=True)  # of a writer who died, and never through a link that someone laid
    handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
    except OSError:
        staged.unlink(missing_ok=True)  # what a full disk has no room for
        raise
    staged.replace(path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One holder at a time, over processes too. OSError when the lock's file cannot be made."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
