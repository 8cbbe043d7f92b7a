"""What is sent: made from the tasks' own examples, so that a new task is load-tested without a line here."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from loadtests import pictures
from loadtests.scenario import PHOTO, Ask, Scenario
from serving import plugins
from serving.task import FOLDER, Example, Task

PHOTOS: Final = 8  # different ones of each kind
# Imported before the test's time begins to run.
TASKS: Final[Mapping[str, type[Task[Any]]]] = {
    name: plugins.find(FOLDER, name, "PLUGIN") for name in plugins.names(FOLDER)
}
Models = Mapping[str, Sequence[str]]  # task -> the names of its models


class NothingToAsk(Exception):
    """The scenario asks for what is not there."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A request, and who is to answer it."""

    task: str
    model: str
    path: str
    body: bytes
    content_type: str

    @property
    def name(self) -> str:
        return f"{self.path.partition('?')[0]} {self.model}"


@dataclass(frozen=True, slots=True)
class Aim:
    """Shots that are alike, of which each time one is taken by chance, and their weight among others."""

    shots: Sequence[Shot]
    weight: float


def drawn(aims: Sequence[Aim], seed: int) -> Iterator[Shot]:
    """One shot after another, by weight and chance; the same ones for the same seed."""
    chance = random.Random(seed)
    weights = [aim.weight for aim in aims]
    while True:
        (aim,) = chance.choices(aims, weights)
        yield chance.choice(aim.shots)


def aims(scenario: Scenario, models: Models, documented: Mapping[str, bytes] | None = None) -> list[Aim]:
    """What the mix asks for, and what `rest` does. NothingToAsk names what the server does not have.

    documented: path -> the JSON that the server's documentation has for it, for routes that were written for a task.
    """
    documented = documented or {}
    found: list[Aim] = []
    named: set[tuple[str, str]] = set()
    for ask in scenario.mix:
        if ask.task not in TASKS:
            raise NothingToAsk(f"There is no task {ask.task!r}: {', '.join(TASKS)}.")
        there = [model for model in models.get(ask.task, ()) if ask.model in (None, model)]
        if not there:
            raise NothingToAsk(f"No model there is ready to {ask.task}{f' as {ask.model}' if ask.model else ''}.")
        named |= {(ask.task, model) for model in there}
        found += [Aim(_shots(ask, model, documented), ask.weight / len(there)) for model in there]
    rest = [(task, model) for task in TASKS for model in models.get(task, ()) if (task, model) not in named]
    if rest and scenario.rest:
        found += [Aim(_shots(Ask(task=task), model, documented), scenario.rest / len(rest)) for task, model in rest]
    if not found:
        raise NothingToAsk("No model there is ready to do a task.")
    return found


def _shots(ask: Ask, model: str, documented: Mapping[str, bytes]) -> list[Shot]:
    plugin = TASKS[ask.task]
    if plugin.path is not None:
        if plugin.path not in documented:
            raise NothingToAsk(f"The server's documentation has no example of {plugin.path}.")
        path = f"{plugin.path}?{urlencode({'model': model})}"
        return [Shot(ask.task, model, path, documented[plugin.path], "application/json")]
    example = plugin.example()
    bodies = [(example.payload, example.content_type)]
    if example.kind == "image" and ask.picture != pictures.EXAMPLE:
        bodies = pictures.named(ask.picture, PHOTOS)
    return [Shot(ask.task, model, _path(plugin, example, model), *body) for body in bodies]


def _path(plugin: type[Task[Any]], example: Example, model: str) -> str:
    return f"/v1/{plugin.verb}?{urlencode({'model': model, **example.parameters})}"


def shot_at(task: str, model: str, picture: str = PHOTO) -> list[Shot]:
    """Requests of one task to one model."""
    return _shots(Ask(task=task, model=model, picture=picture), model, {})
