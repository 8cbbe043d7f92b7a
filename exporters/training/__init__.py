"""The one training loop: seeded, watched, stopped when the validation loss no longer falls, resumed where it stopped.

Read loop.py, then run.py; each other file is one concern of theirs.
"""

from exporters.training.loop import Options, Trained, train
from exporters.training.run import Epoch

__all__ = ["Epoch", "Options", "Trained", "train"]
