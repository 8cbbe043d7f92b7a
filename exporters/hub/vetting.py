"""The gate, before anything is published: nobody of ours has trained what is imported."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from exporters import publish
from exporters.errors import CheckpointUnsupported
from serving.repository.layout import scan
from serving.versions.examiner import Examiner


def vet(release: publish.Release) -> None:
    """Publishes it in a scratch repository and takes it through the gate; CheckpointUnsupported says what failed."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = publish.publish(release, Path(scratch))
        index = scan(Path(scratch))
        if index.problems:
            raise _refused(str(index.problems[0]))
        version = index.models[release.config.name].versions[int(folder.name)]
        verdict = asyncio.run(Examiner().examine(version, None))
    failed = [f"{check.name}: {check.detail}" for check in verdict.checks if check.passed is False]
    if failed:
        raise _refused(" ".join(failed))


def _refused(why: str) -> CheckpointUnsupported:
    return CheckpointUnsupported(f"The gate refuses it. {why}", remedy="Nothing was published.")
