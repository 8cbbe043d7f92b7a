"""A run on disk after each epoch, so that it can go on: one file, replaced as a whole."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch

from exporters.errors import CheckpointRefused

FILE: Final = "checkpoint.pt"
LOCK: Final = ".lock"
FORM: Final = 1  # of the file; another one is not read
DIGEST: Final = hashlib.sha256().digest_size  # bytes at the file's end, over all before: archives of torch check little
ANEW: Final = "Leave --resume away to begin anew, which replaces it, or name another --checkpoint."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The file of one run in its folder. identity: what makes the run this one, as plain types."""

    folder: Path
    identity: Mapping[str, Any]

    @classmethod
    @contextmanager
    def open(cls, folder: Path, identity: Mapping[str, Any]) -> Iterator[Checkpoint]:
        """Makes the folder, for this run alone. CheckpointRefused: another run uses it, or it cannot be made."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / LOCK).open("w")
        except OSError as error:
            raise CheckpointRefused(
                f"The checkpoint's folder cannot be written: {error.strerror}.", remedy="Name another --checkpoint."
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                remedy = "Wait for it, or name another --checkpoint."
                raise CheckpointRefused("Another run writes its checkpoints here now.", remedy=remedy) from None
            yield cls(folder, identity)

    def write(self, state: Mapping[str, Any]) -> None:
        """Replaces the file. It is on disk when this returns; a kill leaves the old one or the new one."""
        stream = io.BytesIO()
        torch.save({"form": FORM, "identity": dict(self.identity), "state": dict(state)}, stream)
        staged = self.folder / f".{FILE}.new"
        with staged.open("wb") as file:
            file.write(stream.getbuffer())
            file.write(hashlib.sha256(stream.getbuffer()).digest())
            file.flush()
            os.fsync(file.fileno())
        staged.replace(self.folder / FILE)

    def read(self) -> dict[str, Any]:
        """The state of this run. CheckpointRefused: there is none, it is damaged, or it is another run's."""
        found = self._load()
        differences = _differences(found["identity"], self.identity)
        if differences:
            raise CheckpointRefused(f"The checkpoint is another run's: {'; '.join(differences)}.", remedy=ANEW)
        state: dict[str, Any] = found["state"]
        return state

    def _load(self) -> dict[str, Any]:
        try:
            content = (self.folder / FILE).read_bytes()
        except FileNotFoundError:
            raise CheckpointRefused("There is no checkpoint to go on from.", remedy="Leave --resume away.") from None
        body, digest = content[:-DIGEST], content[-DIGEST:]
        try:
            if hashlib.sha256(body).digest() != digest:
                raise UnpicklingError
            found: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        except UnpicklingError:  # what torch says of code too
            raise CheckpointRefused("The checkpoint is damaged.", remedy=ANEW) from None
        if found["form"] != FORM:
            raise CheckpointRefused("The checkpoint was written by another tidegate.", remedy=ANEW)
        return found


def discard(folder: Path) -> None:
    """Removes the folder's checkpoint, if there is one, and the folder if nothing else is in it."""
    for name in (FILE, LOCK):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} is {found.get(name)} there and {wanted.get(name)} here"
        for name in dict.fromkeys([*wanted, *found])
        if found.get(name) != wanted.get(name)
    ]
