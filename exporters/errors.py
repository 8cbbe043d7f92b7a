"""What can go wrong on the way from data to a published version, as facts beside those of serving/errors.py."""

from __future__ import annotations

from serving.errors import TidegateError


class ExportFailed(TidegateError):
    code = "export_failed"
    title = "The export failed"


class FloorMissed(ExportFailed):
    """A metric on held-out rows does not reach what the family must reach."""

    code = "floor_missed"
    title = "A metric misses its floor"


class ParityFailed(ExportFailed):
    """The graph on the serving engine does not answer as the trained network does."""

    code = "parity_failed"
    title = "The graph differs from the network"


class ConfigDiffers(ExportFailed):
    """The model is published already, with other inputs or outputs. Versions of one model are interchangeable."""

    code = "config_differs"
    title = "The model's tensors have changed"


class PackageMissing(ExportFailed):
    """A Python package that only exporting needs is not installed."""

    code = "package_missing"
    title = "A package is missing"


class GraphUnsupported(ExportFailed):
    """A graph of another framework has something that we do not convert, or is damaged."""

    code = "graph_unsupported"
    title = "The graph cannot be converted"


class TrainingDiverged(ExportFailed):
    """A loss is infinite or not a number: nothing can be learnt from there on."""

    code = "training_diverged"
    title = "The training diverged"


class TrainingStopped(ExportFailed):
    """Ctrl-C."""

    code = "training_stopped"
    title = "The training was stopped"


class CheckpointRefused(ExportFailed):
    """A checkpoint that cannot be gone on from, or its folder cannot be used."""

    code = "checkpoint_refused"
    title = "The checkpoint cannot be used"


class SettingInvalid(ExportFailed):
    """A setting of the command line that no recipe has, or a value that it cannot take."""

    code = "setting_invalid"
    title = "A setting cannot hold"


class CheckpointUnsupported(ExportFailed):
    """A checkpoint that a user brings lacks something, or is of a kind that is not taken."""

    code = "checkpoint_unsupported"
    title = "The checkpoint cannot be imported"
