"""Digests of a version's files: written by publish, compared before a load."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

from serving.errors import RepositoryInvalid
from serving.repository.layout import Version
from serving.repository.manifest import MANIFEST

_REMEDY = "Publish the version again; a version never changes once it is published."


def digest_file(path: Path) -> str:
    """The file's SHA-256 as `sha256:<hex>`."""
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def digest_folder(folder: Path) -> dict[str, str]:
    """Name -> digest of each file in the folder but the manifest."""
    return {path.name: digest_file(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}


def version_digest(version: Version) -> str:
    """What the version is known by: the digest of its manifest, which has those of its files; `sha256:<hex>`.

    Of a plain Triton model: over its graphs' files by role. OSError when they cannot be read. Blocking.
    """
    if version.manifest is not None:
        return digest_file(version.folder / MANIFEST)
    graphs = (f"{role} {digest_file(graph.file)}\n" for role, graph in sorted(version.graphs.items()))
    return f"sha256:{hashlib.sha256(''.join(graphs).encode()).hexdigest()}"


def verify_version(version: Version) -> None:
    """Compares all files of a version, those of its graphs in folders of their own too, with its manifest.

    RepositoryInvalid as of `verify`, or where manifest and graphs do not match. A plain Triton model has no manifest.
    """
    manifest = version.manifest
    if manifest is None:
        return
    verify(version.folder, manifest.files, version.name)
    apart = {name: folder for name, folder in version.folders.items() if folder != version.folder}
    for name in sorted(apart.keys() ^ manifest.graph_files.keys()):
        what = "the digests of this graph's files" if name in apart else "the name of one of its further graphs"
        raise RepositoryInvalid(f"{version.name}/{MANIFEST}", f"graph_files.{name}", f"expected {what}", remedy=_REMEDY)
    for name, folder in apart.items():
        verify(folder, manifest.graph_files[name], f"{name}/{folder.name}", unlisted=())


def verify(folder: Path, expected: Mapping[str, str], name: str, unlisted: Collection[str] = (MANIFEST,)) -> None:
    """Compares the files of a folder with what its manifest lists. `name`: the folder, as errors shall call it.

    unlisted: files that no manifest lists. RepositoryInvalid: a file is missing, has another content, is a link, or is
    not in the manifest.
    """
    remedy = _REMEDY
    present = {path.name: path for path in folder.iterdir() if path.name not in unlisted}
    for file in sorted(present.keys() - expected.keys()):
        raise RepositoryInvalid(f"{name}/{file}", "", "expected no file that the manifest does not list", remedy=remedy)
    for file, digest in expected.items():
        path = present.get(file)
        if path is None:
            raise RepositoryInvalid(f"{name}/{file}", "", "expected this file, the manifest lists it", remedy=remedy)
        if path.is_symlink() or not path.is_file():
            raise RepositoryInvalid(f"{name}/{file}", "", "expected a plain file, no link or folder", remedy=remedy)
        if (found := digest_file(path)) != digest:
            raise RepositoryInvalid(f"{name}/{file}", "digest", f"expected {digest}; found {found}", remedy=remedy)
