"""Those who look on at one gateway, put together: the only place where they are named."""

from __future__ import annotations

import time
from dataclasses import dataclass

from serving.observation.answers import Answers
from serving.observation.feedback import Feedback
from serving.observation.feedback_meters import FeedbackMeters
from serving.observation.seen import Witness
from serving.settings import Settings
from serving.telemetry import Meters
from serving.threads import Threads


@dataclass(frozen=True, slots=True)
class Watch:
    """All who look on. `witnesses`: in the order in which they are shown what was answered."""

    witnesses: tuple[Witness, ...]
    feedback: Feedback

    async def start(self) -> None:
        """Begins what they do by themselves."""

    async def close(self) -> None:
        """Ends it."""


def open_watch(settings: Settings, meters: Meters, threads: Threads) -> Watch:
    """As the settings want it."""
    answers = Answers(settings.feedback_answers, settings.feedback_bytes, settings.feedback_age_s)
    feedback = Feedback(answers, FeedbackMeters(meters.registry, lambda: answers.count(time.monotonic())), threads)
    witnesses: list[Witness] = [feedback] if settings.feedback_answers else []
    return Watch(tuple(witnesses), feedback)
