"""What a model means to a caller: its request, its reply, the way to tensors and back, and an example of it all.

A task is bound to one version when that version is loaded: labels, preprocessing and thresholds are the version's
own, so that nothing of one version can answer for another. A new task is one file in `serving/tasks/` with a class
named `PLUGIN`; routes, OpenAPI page, warm-up, contract tests and load test are made from what it says here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from serving.codecs.image import open_image
from serving.errors import RepositoryInvalid, TruthInvalid
from serving.monitoring.features import request_features, size_features
from serving.monitoring.outcomes import reply_features
from serving.monitoring.score import Score
from serving.repository.config import TensorSpec
from serving.repository.layout import SINGLE_GRAPH, Version
from serving.tensors import Array, Tensors

FOLDER = "serving.tasks"


class Parameters(BaseModel):
    """What a caller may set. From the query, form fields or JSON keys; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Reply(BaseModel):
    """What a caller gets. Every reply names the model and the version that gave it."""

    model: str
    version: int


class FileReply(Reply):
    """A reply that is a file, such as a picture: sent as it is, with the model and the version in its headers."""

    content: bytes
    media_type: str


P = TypeVar("P", bound=Parameters)
M = TypeVar("M", bound=BaseModel)
JSON: Final = "application/json"
Gist: TypeAlias = int | str | bytes | Array  # what is kept of a reply; one object, so that its bytes can be told


@dataclass(frozen=True, slots=True)
class Request(Generic[P]):
    """A request of one task: its payload as it was sent (an image's file, undecoded; UTF-8 text) and its parameters.

    media_type: of the reply that the caller wants, one of the task's. kind: of the payload, one of the task's.
    """

    payload: bytes
    parameters: P
    media_type: str = JSON
    kind: str = "image"


@dataclass(frozen=True, slots=True)
class Example:
    """A real request and what the reply looks like. Feeds warm-up, OpenAPI, contract tests and load test.

    payload: the body as raw bytes; content_type: of that body; parameters: as they stand in the query; kind: of the
    payload.
    """

    payload: bytes
    content_type: str
    parameters: Mapping[str, Any]
    reply: Mapping[str, Any]
    kind: str = "image"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a task wants of its graphs: role -> tensors without their batch axis, -1 where any size will do."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a request of many runs has come: step `step` of `steps`, counted from 1.

    preview: a PNG of what there is so far, now and then. index: which of the requests that were sent together.
    """

    step: int
    steps: int
    preview: bytes | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class Watcher:
    """Somebody who wants to hear of progress between the steps.

    told: called on the event loop, which it must not hold up. preview_every: so many steps; 0 for no previews, which
    cost a run each.
    """

    told: Callable[[Progress], None]
    preview_every: int = 0


T = TypeVar("T")


class Steps(Protocol):
    """What the pipeline lends a task for one request. Each call is timed and counted by stage.

    A caller who leaves, or whoever called it off, cancels the task's `answer` wherever it waits for one of these: what
    waits for its turn is dropped and no further step begins.
    """

    @property
    def watcher(self) -> Watcher | None:
        """Whom a task of many steps tells of its progress; None when nobody wants to hear of it."""
        ...

    async def pre(self, function: Callable[[], Tensors]) -> Tensors:
        """Runs blocking work, such as decoding a picture, on a worker thread."""
        ...

    async def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Runs a graph by its role; rows of other callers may share the run."""
        ...

    def post(self, function: Callable[[], T]) -> T:
        """Runs work of microseconds here on the event loop."""
        ...

    async def post_aside(self, function: Callable[[], T]) -> T:
        """Runs what takes longer, such as drawing a mask, on a worker thread."""
        ...


class Task(ABC, Generic[P]):
    """A verb, bound to one version. RepositoryInvalid from the constructor when the version does not fit the task."""

    verb: ClassVar[str]
    summary: ClassVar[str]
    payloads: ClassVar[tuple[str, ...]]  # what a payload may be: "image", "text"; the first unless it is said
    parameters: ClassVar[type[Parameters]]
    reply: ClassVar[type[Reply]]
    signatures: ClassVar[Mapping[str, Signature]]
    any_graph: ClassVar[bool] = False  # whether one of its graphs is enough
    path: ClassVar[str | None] = None  # of the route that was written for it; else one is made at /v1/<verb>
    media_types: ClassVar[tuple[str, ...]] = (JSON,)  # of its replies: the first unless the caller asks for another

    def __init__(self, version: Version) -> None:
        self.model = version.model
        self.version = version.number
        missing = [role for role in self.signatures if role not in version.graphs]
        if missing and not (self.any_graph and len(missing) < len(self.signatures)):
            expected = " or ".join(map(repr, missing)) if self.any_graph else repr(missing[0])
            raise RepositoryInvalid(f"{version.name}/manifest.json", "graphs", f"expected a graph {expected}")

    @classmethod
    @abstractmethod
    def example(cls) -> Example:
        """A small request, and what its reply looks like."""

    @abstractmethod
    def encode(self, request: Request[P]) -> Tensors:
        """The request as one row or more. Blocking; InvalidInput when the payload cannot be used."""

    @abstractmethod
    def decode(self, outputs: Tensors, request: Request[P]) -> Reply:
        """The rows' outputs as a reply; OutputInvalid when they cannot be one."""

    async def answer(self, request: Request[P], steps: Steps) -> Reply:
        """The way from request to reply. Tasks that need several runs override this and drive their graphs."""
        inputs = await steps.pre(lambda: self.encode(request))
        outputs = await steps.run(SINGLE_GRAPH, inputs)
        return steps.post(lambda: self.decode(outputs, request))

    def agreement(self, reply: Reply, other: Reply) -> float:
        """How far another version's reply to the same request says the same, from 0 to 1. Unless a task knows better:
        whether all but the version is equal.
        """
        return float(reply.model_dump(exclude={"version"}) == other.model_dump(exclude={"version"}))

    def group(self, reply: Reply) -> str:
        """What the reply says, if that is one of few things, such as a class; else nothing. By it agreement and truths
        are told apart: a version may be wrong about one thing alone.
        """
        del reply
        return ""

    def features(self, request: Request[P], inputs: Tensors) -> dict[str, float | str]:
        """What drift is watched in: numbers and kinds of an encoded request. Unless a task knows better, what its kind
        of payload has. Blocking, a fraction of a millisecond.
        """
        found = request_features(request.kind, request.payload, inputs)
        if request.kind == "image" and request.payload:
            image = open_image(request.payload)
            found |= size_features(image.width, image.height)
        return found

    def outcome(self, reply: Reply) -> dict[str, float | str]:
        """As `features`, of a reply: unless a task knows better, of its predictions, its embedding or its text."""
        return reply_features(reply)

    def gist(self, reply: Reply) -> Gist | None:
        """What is kept of a reply for the day that somebody tells the truth: small, and as much as `score` needs. None:
        the task takes no truths. Called for every answer, on the event loop: microseconds.
        """
        del reply
        return None

    def score(self, gist: Gist, truth: Any) -> Score:
        """How good the reply was that has this gist. truth: parsed from JSON, whatever a caller sent.

        TruthInvalid: it does not fit. Of a gist that is bytes or an array it may be slow, and runs on a worker thread.
        """
        del gist, truth
        raise TruthInvalid(f"{self.verb} takes no truths.", remedy="docs/feedback.md has the tasks that do.")

    def sample(self) -> Request[P]:
        """A small request that this version can take: the example, unless some versions want another."""
        example = self.example()
        parameters: Any = self.parameters.model_validate(dict(example.parameters))
        return Request(example.payload, parameters, kind=example.kind)

    def warm_up(self) -> Mapping[str, Tensors]:
        """One row for each graph by its role, made from the sample. Blocking."""
        return {SINGLE_GRAPH: self.encode(self.sample())}


def read_preprocessing(version: Version, kind: type[M]) -> M:
    """What the manifest says under `preprocessing`, as the task wants it; RepositoryInvalid names the field."""
    try:
        return kind.model_validate(dict(version.manifest.preprocessing if version.manifest else {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in ("preprocessing", *first["loc"]))
        raise RepositoryInvalid(f"{version.name}/manifest.json", field, first["msg"]) from None
