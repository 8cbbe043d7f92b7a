"""READ FIRST: from a folder that the `save_pretrained` of transformers or diffusers wrote to a published version.

checkpoint.open_checkpoint   config.json and safetensors; no pickle is opened, no code of the checkpoint runs
  clip.take, captioner.take, stable_diffusion.take   networks by the task's roles, preprocessing, tokenizer
    graph_export             each graph exported, and compared with the library's own network on the serving engine
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
from exporters.hub import captioner, clip, stable_diffusion, vetting
from exporters.hub.architecture import Imported
from exporters.hub.checkpoint import Checkpoint, open_checkpoint, open_pipeline
from exporters.pipeline import Exported
from serving import plugins, task
from serving.repository.layout import MODEL_NAME
from serving.repository.manifest import Licence, Manifest

Taker = Callable[[Checkpoint], Imported]
# By config.json's model_type.
TAKERS: Final[Mapping[str, Taker]] = {
    "clip": clip.take,
    "vision-encoder-decoder": captioner.take,
}
# By model_index.json's class: the family, and how it is taken.
PIPELINES: Final[Mapping[str, tuple[str, Taker]]] = {
    "StableDiffusionPipeline": ("stable-diffusion", stable_diffusion.take),
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
    family, imported = _take(folder)
    signatures = plugins.find(task.FOLDER, imported.task, "PLUGIN").signatures
    treatment = Treatment(tolerance=imported.tolerance, free_axes=imported.free_axes, instances=imported.instances)
    graphs = graph_export.export(model, signatures, imported.networks, imported.rows, treatment)
    with graph_export.serve(graphs) as served:
        parity = graph_export.compare(graphs, served)
    manifest = Manifest(
        task=imported.task,
        family=family,
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


def _take(folder: Path) -> tuple[str, Imported]:
    """The family's name and what it gives."""
    if pipeline := open_pipeline(folder):
        name = pipeline.class_name or "none"
        if name not in PIPELINES:
            raise CheckpointUnsupported(f"Its class is {name}.", remedy=f"These are taken: {', '.join(PIPELINES)}.")
        family, take = PIPELINES[name]
        return family, take(pipeline)
    checkpoint = open_checkpoint(folder)
    taker = TAKERS.get(checkpoint.model_type)
    if taker is None:
        found = checkpoint.model_type or "none"
        raise CheckpointUnsupported(f"Its model_type is {found}.", remedy=f"These are taken: {', '.join(TAKERS)}.")
    return checkpoint.model_type, taker(checkpoint)
