"""What is sent: every task's own example, photos of real size, as often as the mix says."""

from __future__ import annotations

import io
from collections import Counter
from itertools import islice

import PIL.Image
import pytest

from loadtests import pictures
from loadtests.payloads import TASKS, NothingToAsk, aims, drawn
from loadtests.scenario import Ask, Scenario, Step

DOCUMENTED = {"/v1/images/generations": b'{"prompt": "a red apple"}'}
PHASE = (Step(seconds=1, rate=1),)


def scenario(**fields) -> Scenario:
    return Scenario(title="t", phase=PHASE, **fields)


def test_every_task_there_is_can_be_asked():
    found = aims(scenario(rest=1), {name: ["m"] for name in TASKS}, DOCUMENTED)
    assert {aim.shots[0].task for aim in found} == set(TASKS)
    for aim in found:
        for shot in aim.shots:
            assert shot.body
            task = TASKS[shot.task]
            assert shot.path.startswith(f"{task.path or f'/v1/{task.verb}'}?model=m")
            assert task.path is None or shot.body == DOCUMENTED[task.path]


def test_a_route_that_was_written_for_its_task_is_asked_as_its_documentation_says():
    with pytest.raises(NothingToAsk, match="no example of /v1/images/generations"):
        aims(scenario(rest=1), {"generate-images": ["m"]})


def test_a_photo_is_of_the_size_and_weight_of_one():
    photos = [pictures.photo(640, 427, seed) for seed in (0, 1)]
    assert photos[0] != photos[1]
    for photo in photos:
        with PIL.Image.open(io.BytesIO(photo)) as opened:
            assert (opened.size, opened.format) == ((640, 427), "JPEG")
        assert 80_000 < len(photo) < 250_000


def test_pictures_are_photos_examples_or_files(tmp_path):
    def bodies(picture):
        (aim,) = aims(scenario(mix=(Ask(task="classify", picture=picture),)), {"classify": ["m"]})
        return [(shot.body, shot.content_type) for shot in aim.shots]

    file = tmp_path / "x.png"
    PIL.Image.new("RGB", (4, 4)).save(file)
    example = TASKS["classify"].example()
    assert bodies("example") == [(example.payload, example.content_type)]
    assert bodies(str(file)) == [(file.read_bytes(), "image/png")]
    assert len(set(bodies("64x48"))) > 1


def test_shots_come_as_often_as_their_weights_say_and_models_share():
    mix = (
        Ask(task="classify", model="a", weight=6, picture="example"),
        Ask(task="detect", weight=2, picture="example"),
    )
    found = aims(scenario(mix=mix, rest=2), {"classify": ["a", "b"], "detect": ["c", "d"], "caption": ["e"]})
    counts = Counter(shot.model for shot in islice(drawn(found, seed=1), 20_000))
    shares = {model: count / 20_000 for model, count in counts.items()}
    assert shares == pytest.approx({"a": 0.6, "c": 0.1, "d": 0.1, "b": 0.1, "e": 0.1}, abs=0.01)


@pytest.mark.parametrize(
    ("fields", "models", "said"),
    [
        ({"rest": 1}, {}, "No model there is ready to do a task"),
        ({"mix": (Ask(task="classify", model="x"),)}, {"classify": ["y"]}, "ready to classify as x"),
        ({"mix": (Ask(task="juggle"),)}, {"classify": ["y"]}, "no task 'juggle'"),
    ],
)
def test_what_is_not_there_is_said(fields, models, said):
    with pytest.raises(NothingToAsk, match=said):
        aims(scenario(**fields), models)
