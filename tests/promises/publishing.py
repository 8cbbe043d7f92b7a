"""A release for exporters.publish, made of a version folder that exists."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format

from exporters.publish import Release
from serving.repository.config import ModelConfig
from serving.repository.digests import MANIFEST
from serving.repository.manifest import read_manifest


def release(folder: Path) -> Release:
    """The files of `folder`, to be published again."""
    config = text_format.Parse((folder.parent / "config.pbtxt").read_text(), ModelConfig())
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}
    return Release(config, files, read_manifest(folder / MANIFEST, MANIFEST))
