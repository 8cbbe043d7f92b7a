"""READ FIRST: from a folder that transformers' `save_pretrained` wrote to a published version.

checkpoint.open_checkpoint   config.json and safetensors; no pickle is opened, no code of the checkpoint runs
  clip.take, captioner.take  networks by the task's roles, preprocessing, tokenizer
    graph_export             each graph exported, and compared with transformers' own network on the serving engine
      vetting.vet            the whole version through the gate, in a scratch repository
        publish              <repository>/<model>/<n>
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exporters import graph_export, provenance, publish, records
from exporters.errors import CheckpointUnsupported
from exporters.graph_export import Treatment
from exporters.hub import captioner, clip, vetting
from exporters.hub.architecture import Imported
from exporters.hub.checkpoint import Checkpoint, open_checkpoint
from exporters.pipeline import Exported
from serving import plugins, task
from serving.repository.layout import MODEL_NAME
from serving.repository.manifest import Licence, Manifest

# By config.json's model_type.
TAKERS: Final[Mapping[str, Callable[[Checkpoint], Imported]]] = {
    "clip": clip.take,
    "vision-encoder-decoder": captioner.take,
}


@dataclass(frozen=True, slots=True)
class Claims:
    """What the user says of the checkpoint, for its manifest."""

    licence: Licence
    intended_use: str = ""


def import_folder(folder: Path, model: str, repository: Path, claims: Claims) -> Exported:
    """Publishes the checkpoint as the next version of `model`.

    CheckpointUnsupported: it cannot be taken, or the gate refuses it; ParityFailed. Then nothing was published.
    """
    started_s = time.perf_counter()
    if not MODEL_NAME.fullmatch(model):
        remedy = "Use a-z, 0-9, _ and -, at most 63 of them."
        raise CheckpointUnsupported(f"{model!r} is no name of a model.", remedy=remedy)
    checkpoint = open_checkpoint(folder)
    taker = TAKERS.get(checkpoint.model_type)
    if taker is None:
        found = checkpoint.model_type or "none"
        raise CheckpointUnsupported(f"Its model_type is {found}.", remedy=f"These are taken: {', '.join(TAKERS)}.")
    imported = taker(checkpoint)
    signatures = plugins.find(task.FOLDER, imported.task, "PLUGIN").signatures
    treatment = Treatment(tolerance=imported.tolerance, free_axes=imported.free_axes)
    graphs = graph_export.export(model, signatures, imported.networks, imported.rows, treatment)
    with graph_export.serve(graphs) as served:
        parity = graph_export.compare(graphs, served)
    manifest = Manifest(
        task=imported.task,
        family=checkpoint.model_type,
        created=records.now(),
        intended_use=claims.intended_use,
        graphs=graph_export.as_manifest(graphs),
        preprocessing=imported.preprocessing,
        parity=parity,
        licence=claims.licence,
        code=provenance.code(),
        files={},
    )
    release = graph_export.release(graphs, imported.files, manifest)
    vetting.vet(release)
    published = publish.publish(release, repository)
    size = sum(len(graph.content) for graph in graphs.values())
    return Exported(published, {}, parity, time.perf_counter() - started_s, size)
