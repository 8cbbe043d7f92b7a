"""How a training went, as a picture that lies beside its version."""

from __future__ import annotations

import io
from typing import Final

from exporters.training import Trained

FILE: Final = "learning_curve.png"


def draw(trained: Trained, title: str) -> bytes:
    """A PNG: losses by epoch on the left axis, the validation score on the right, the best epoch marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = [epoch.number for epoch in trained.history]
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses = figure.subplots()
    losses.plot(epochs, [epoch.train_loss for epoch in trained.history], label="training loss", color="tab:gray")
    losses.plot(epochs, [epoch.validation_loss for epoch in trained.history], label="validation loss", color="tab:blue")
    losses.axvline(trained.best.number, linestyle=":", color="tab:green", label=f"best epoch {trained.best.number}")
    losses.set(title=title, xlabel="epoch", ylabel="loss", ylim=(0, None))
    scores = losses.twinx()
    scores.plot(epochs, [epoch.validation_score for epoch in trained.history], label="score", color="tab:orange")
    scores.set(ylabel="validation score", ylim=(None, 1))
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100, metadata={"Software": None})
    return stream.getvalue()
