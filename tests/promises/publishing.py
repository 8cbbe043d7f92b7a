"""A release for exporters.publish, made of a version folder that exists."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format

from exporters.publish import FurtherGraph, Release
from serving.repository.config import ModelConfig
from serving.repository.manifest import MANIFEST, read_manifest


def release(folder: Path) -> Release:
    """The files of `folder` and of its further graphs, to be published again."""
    manifest = read_manifest(folder / MANIFEST, MANIFEST)
    root = folder.parents[1]
    further = tuple(FurtherGraph(*_graph(root / name / folder.name)) for name in manifest.graph_files)
    return Release(*_graph(folder), manifest, further)


def _graph(folder: Path) -> tuple[ModelConfig, dict[str, bytes]]:
    config = text_format.Parse((folder.parent / "config.pbtxt").read_text(), ModelConfig())
    return config, {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}
