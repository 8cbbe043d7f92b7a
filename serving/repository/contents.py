"""What may lie in a version's folder: plain files of known kinds, each with one name. Looked at before any is parsed.

Guards against pickles (torch CVE-2025-32434) and against links that reach out of the folder (ONNX CVE-2026-27489 and
GHSA-whh8-fjgc-qp73, hard links, which ONNX Runtime follows).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from serving.errors import RepositoryInvalid

KINDS: Final = (".onnx", ".plan", ".json", ".txt", ".npz", ".png", ".csv", ".data")
MOST_FILES: Final = 64
_REMEDY: Final = "Publish the version again, without it."

# How files of a kind begin. An ONNX file is a protobuf ModelProto: its first byte is a field's number and wire type.
# Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (ir_version, imports, producer, ..., graph, metadata)
_ONNX_TAGS: Final = frozenset(bytes([byte]) for byte in (0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72))
_NPZ: Final = b"PK\x03\x04"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
# What a file of the wrong kind most often is.
_KNOWN: Final = {
    b"\x80": "a pickle",
    b"PK": "a zip archive, as torch saves",
    b"\x7fELF": "a program",
    b"#!": "a script",
}


def check_contents(folder: Path, name: str) -> int:
    """How many files the folder has, all of them such as may be there. `name`: the folder, as errors shall call it.

    RepositoryInvalid names the first file that may not, and why.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise RepositoryInvalid(name, "", "expected a folder, no link", remedy="Publish the version again.")
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    if len(entries) > MOST_FILES:
        raise RepositoryInvalid(name, "", f"expected at most {MOST_FILES} files; found {len(entries)}", remedy=_REMEDY)
    seen: dict[str, str] = {}
    for entry in entries:
        _check_entry(entry, f"{name}/{entry.name}")
        other = seen.setdefault(entry.name.casefold(), entry.name)
        if other != entry.name:
            expected = f"expected a name that differs from {other} by more than case"
            raise RepositoryInvalid(f"{name}/{entry.name}", "", expected, remedy=_REMEDY)
    return len(entries)


def _check_entry(entry: os.DirEntry[str], file: str) -> None:
    status = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        kind = _kind(status.st_mode)
        raise RepositoryInvalid(file, "", f"expected a plain file; found {kind}", remedy=_REMEDY)
    if status.st_nlink != 1:
        expected = "expected a file of one name; found a hard link to a file that has others"
        raise RepositoryInvalid(file, "", expected, remedy="Copy the file instead of linking it.")
    suffix = Path(entry.name).suffix
    if suffix not in KINDS:
        raise RepositoryInvalid(file, "", f"expected one of {', '.join(KINDS)}", remedy=_REMEDY)
    with Path(entry.path).open("rb") as stream:
        start = stream.read(len(_PNG))
    if not _begins_as(suffix, start):
        looks = next((words for magic, words in _KNOWN.items() if start.startswith(magic)), "something else")
        raise RepositoryInvalid(file, "", f"expected what its name says; it begins as {looks}", remedy=_REMEDY)


def _begins_as(suffix: str, start: bytes) -> bool:
    if suffix == ".onnx":
        return start[:1] in _ONNX_TAGS
    if suffix == ".npz":
        return start.startswith(_NPZ)
    return suffix != ".png" or start == _PNG


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
