"""An engine that a certain prompt kills, and the whole process with it, as a model may that aborts."""

from __future__ import annotations

import os
import signal
from typing import Any

import tiny

from serving.engines.fake import FakeEngine, _outputs

STEP_S = 0.02
POISON = "blue"


def engine() -> FakeEngine:
    """Draws nothing in particular, a step in STEP_S; dies of a blue prompt after some steps."""
    deadly = set()
    dies_of = tiny.DRAWING_WORDS.index(POISON)
    specs: dict[str, Any] = {}

    class Deadly(FakeEngine):
        async def load(self, graph, warm_up, *, quietly=False):
            specs[graph.key.name] = graph.config.outputs
            return await super().load(graph, warm_up, quietly=quietly)

    def compute(key, inputs):
        if "tokens" in inputs and (inputs["tokens"] == dies_of).any():
            deadly.add(len(made.runs) + 3)
        if any(len(made.runs) >= at for at in deadly):
            os.kill(os.getpid(), signal.SIGKILL)
        return _outputs(specs[key.name], inputs)

    made = Deadly(service_s=lambda _: STEP_S, compute=compute)
    return made
