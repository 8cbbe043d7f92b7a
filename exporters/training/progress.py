"""What is seen of a training: a bar on a terminal, a line for each epoch elsewhere. On stderr."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from exporters.training.run import Epoch, Run


class Progress:
    """One training's; a context, so that the bar is closed whatever happens."""

    def __init__(self, run: Run, *, quiet: bool) -> None:
        from tqdm import tqdm

        self._run, self._quiet = run, quiet
        steps = run.steps_per_epoch
        self._bar: Any = tqdm(
            total=run.recipe.epochs * steps,
            initial=len(run.history) * steps,
            unit="step",
            disable=quiet or not sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        self._describe()
        if self._run.history and not self._quiet:
            self._bar.write(f"{self._title()}: goes on after epoch {len(self._run.history)}", file=sys.stderr)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.close()

    def step(self) -> None:
        """A batch is done."""
        self._bar.update()

    def show(self, epoch: Epoch) -> None:
        """An epoch is done."""
        name = self._run.family.score_name
        self._bar.set_postfix({"loss": f"{epoch.validation_loss:.3f}", name: f"{epoch.validation_score:.3f}"})
        self._describe()
        if self._bar.disable and not self._quiet:
            sys.stderr.write(
                f"{self._title()}: epoch {epoch.number}/{self._run.recipe.epochs}  loss {epoch.train_loss:.4f}  "
                f"validation loss {epoch.validation_loss:.4f}  {name} {epoch.validation_score:.4f}  "
                f"rate {epoch.learning_rate:.1e}  {epoch.seconds:.1f} s\n"
            )

    def _describe(self) -> None:
        number = min(len(self._run.history) + 1, self._run.recipe.epochs)
        self._bar.set_description(f"{self._title()} epoch {number}/{self._run.recipe.epochs}")

    def _title(self) -> str:
        return self._run.family.model
