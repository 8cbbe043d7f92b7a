"""How a model is made: data, network, recipe, task, tolerance, floors. A new family is one file in families/.

A family subclasses `Family` when its weights are shipped by a package, `TrainedFamily` when they are trained here, and
calls itself `PLUGIN`. Networks take the task's input tensors as they are served and give raw scores; `served` turns
them into the task's outputs. A family of several graphs says `graphs`, `graph_rows` and `measure_graphs` instead of
`served` and `measure`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Generic, Literal

from pydantic import Field, PositiveInt
from torch import Generator, Tensor, nn
from typing_extensions import TypeVar

from exporters.data.splits import HeldOut, Splits
from exporters.measures.measured import Measured
from exporters.search_space import Space
from serving import plugins
from serving.repository.layout import SINGLE_GRAPH
from serving.repository.manifest import Licence
from serving.tensors import Tensors, row_count, rows
from serving.trial import Policy

FOLDER: Final = "exporters.families"
PARITY_ROWS: Final = 32  # of each graph, that are compared with its network
REFERENCE_ROWS: Final = 1000  # that drift is seen against

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
# A model as a function: the task's inputs, any number of rows, to the task's outputs.
Predict = Callable[[Tensors], Tensors]
D = TypeVar("D", bound=HeldOut[Any])
# What a network gives and what its rows want, in training: a tensor each, or tuples and mappings of tensors.
S = TypeVar("S", default=Tensor)
T = TypeVar("T", default=Tensor)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters of one training. All of them are written to the run log and to the version's run.json.

    learning_rate: its peak; `cosine` falls from there to 0 after a linear rise over `warm_up` (share of all steps).
    patience: epochs without a lower validation loss after which training stops. momentum: of SGD only.
    precision: of the multiplications in training; weights, losses and what is served are float32 in any case.
    clip_norm: the longest gradient that is let through as it is. ema: what a moving average of the weights keeps of
    itself at each step, such as 0.999; with it the average is validated and published instead of the weights. threads:
    of the processor, if it has as many; sums depend on how many share them, so the number is the recipe's.
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    optimizer: Literal["sgd", "adam"]
    learning_rate: Positive
    schedule: Literal["constant", "cosine", "one-cycle", "step"] = "cosine"
    warm_up: Share = 0.0
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    patience: PositiveInt = 10
    precision: Literal["float32", "bfloat16"] = "float32"
    clip_norm: Positive | None = None
    ema: Share | None = None
    threads: PositiveInt = 2


class Family(ABC, Generic[D]):
    """A family whose weights exist. What a subclass must say stands here without a value."""

    model: ClassVar[str]  # the name it is published and called by
    task: ClassVar[str]  # a verb of serving.tasks
    intended_use: ClassVar[str]
    preprocessing: ClassVar[Mapping[str, Any]]  # as the task takes it from the manifest
    tolerance: ClassVar[float]  # largest absolute difference between torch and the engine, and between batch sizes
    floors: ClassVar[Mapping[str, float]]  # least values of metrics, the family's headline first
    golden_rows: ClassVar[int] = 4  # test rows that are published with their outputs
    max_batch_size: ClassVar[int] = 16
    instances: ClassVar[int] = 2  # runs that may go on at once
    compact: ClassVar[bool] = False  # store weights as int16, or int8 where that is exact (exporters/compact.py)
    free_axes: ClassVar[Mapping[str, str]] = {}  # input -> name of its axis 1, where any length will do, as of text
    guard: ClassVar[Policy | None] = None  # how its versions are guarded while they are on trial, if it matters
    variants: ClassVar[tuple[type[Family[Any]], ...]] = ()  # further classes of the same file, each with its own model

    @property
    def name(self) -> str:
        """The family's name, its file's."""
        return type(self).__module__.rpartition(".")[2].replace("_", "-")

    @abstractmethod
    def licence(self) -> Licence:
        """Under what the weights may be used, and where they come from."""

    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """The classes' names in order; empty for tasks without labels."""

    @abstractmethod
    def data(self, *, quick: bool) -> D:
        """The rows, through the task's preprocessing; quick: fewer of them, where reading all takes more than seconds.
        PackageMissing: they are not here, and how to get them.
        """

    @abstractmethod
    def network(self) -> nn.Module:
        """The network that takes the task's inputs and gives scores. Weights: shipped ones, or fresh random ones."""

    def served(self, network: nn.Module) -> nn.Module:
        """The network with the task's inputs and outputs, as it is exported; unless said otherwise, as it is."""
        return network

    def measure(self, predict: Predict, data: D) -> Measured:
        """Metrics on the test rows, each beside a baseline where there is one, and tables of what stands behind them.
        Floors are filled in by the pipeline.
        """
        raise NotImplementedError(f"{type(self).__name__} must say measure, or measure_graphs")

    def graphs(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """The graphs that the network is exported as, by the task's roles; each has its role's inputs and outputs."""
        return {SINGLE_GRAPH: self.served(network)}

    def graph_rows(self, network: nn.Module, data: D) -> Mapping[str, Tensors]:
        """Inputs of each graph, by role: at least PARITY_ROWS real rows if there are as many. `network`: for those
        graphs that take what another one gives.
        """
        del network
        return {SINGLE_GRAPH: rows(data.test.inputs, 0, PARITY_ROWS)}

    def asked(self, data: D | None = None) -> Sequence[Tensors | str]:
        """What callers would send, for drift to be seen against: rows of pixels, or texts. Held-out rows, unless a
        family knows better. data: where the rows have been read already.
        """
        return some_rows((self.data(quick=False) if data is None else data).test.inputs)

    def measure_graphs(self, graphs: Mapping[str, Predict], data: D) -> Measured:
        """As `measure`, of all graphs together."""
        return self.measure(graphs[SINGLE_GRAPH], data)

    def files(self, network: nn.Module) -> Mapping[str, bytes]:
        """Further files of the version, such as tokenizer.json, by their names."""
        del network
        return {}


def spread(count: int, most: int) -> list[int]:
    """So many of `count` places, evenly spread."""
    return sorted({i * count // min(most, count) for i in range(min(most, count))}) if count else []


def some_rows(inputs: Tensors) -> list[Tensors]:
    """REFERENCE_ROWS of them at most, each alone."""
    return [rows(inputs, i, i + 1) for i in spread(row_count(inputs), REFERENCE_ROWS)]


class Learner(ABC, Generic[S, T]):
    """What exporters/training trains. S: what its network gives; T: its targets, in batches."""

    model: ClassVar[str]  # what it is called where people watch it learn
    score_name: ClassVar[str] = "score"  # what `score` is called there

    @abstractmethod
    def network(self) -> nn.Module:
        """A fresh network that takes the rows' inputs and gives scores."""

    @abstractmethod
    def loss(self, scores: S, targets: T) -> Tensor:
        """What training makes small: a scalar, the mean over the rows."""

    @abstractmethod
    def score(self, scores: S, targets: T) -> Tensor:
        """What the progress bar shows beside the loss: a scalar, the mean over the rows, more is better."""

    def augment(self, inputs: tuple[Tensor, ...], generator: Generator) -> tuple[Tensor, ...]:
        """A training batch, changed in ways that do not change the targets. By default as it is."""
        del generator
        return inputs


class TrainedFamily(Family[Splits[Any]], Learner[S, T], Generic[S, T]):
    """A family that is trained here, by exporters/training."""

    recipe: ClassVar[Recipe]
    quick_recipe: ClassVar[Recipe]  # for tests: seconds
    quick_floors: ClassVar[Mapping[str, float]]  # what the quick recipe must reach
    # Trained on the same rows and measured alike, to be the headline metric's baseline, which must be beaten.
    rival: ClassVar[type[TrainedFamily] | None] = None
    search_space: ClassVar[Space | None] = None  # fields of Recipe that `--search` draws; None: those of DEFAULTS


def models() -> dict[str, type[Family[Any]]]:
    """All that can be made: the families and their variants, by the names of their models."""
    families: list[type[Family[Any]]] = [plugins.find(FOLDER, name, "PLUGIN") for name in plugins.names(FOLDER)]
    return {made.model: made for family in families for made in (family, *family.variants)}


def find_family(name: str) -> Family[Any]:
    """The family of that name, which is its file's, or the one whose model has it; NotFound lists the families."""
    known = models()
    if name not in plugins.names(FOLDER) and name in known:
        return known[name]()
    found: type[Family[Any]] = plugins.find(FOLDER, name, "PLUGIN")
    return found()
