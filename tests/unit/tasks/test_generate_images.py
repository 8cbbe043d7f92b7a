"""generate-images: what it runs and tells, and what it refuses of versions, graphs and callers."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import tiny
from google.protobuf import text_format

from serving.codecs.pixels import picture_png, pixels_of
from serving.diffusion.drawing import Drawing, noise
from serving.errors import OutputInvalid, ParameterInvalid, RepositoryInvalid, TextInvalid
from serving.repository.config import ModelConfig
from serving.repository.layout import scan
from serving.task import Progress, Request, Watcher
from serving.tasks import generate_images
from serving.tasks.generate_images import GenerateImages, GenerateParameters

VERB = "generate-images"
GREY = np.full((1, 8, 8, 3), 128, np.uint8)


def bound(root, **options) -> GenerateImages:
    tiny.add_diffusion(root, **options)
    return GenerateImages(scan(root).models[VERB].versions[1])


class Steps:
    """Runs what it is given in place of the network, and keeps what was run. aside: how often work was put aside."""

    def __init__(self, network=lambda rows: np.zeros_like(rows["latents"]), watcher: Watcher | None = None) -> None:
        self.network = network
        self.watcher = watcher
        self.runs: list[tuple[str, dict]] = []
        self.pixels = GREY
        self.aside = 0

    async def pre(self, function):
        return function()

    async def run(self, role, inputs):
        self.runs.append((role, inputs))
        if role == "text":
            places = np.arange(len(inputs["tokens"]), dtype=np.float32)
            return {"context": np.broadcast_to(places[:, None, None], (*inputs["tokens"].shape, 3))}
        if role == "decoder":
            return {"pixels": self.pixels}
        return {"prediction": self.network(inputs)}

    def post(self, function):
        return function()

    async def post_aside(self, function):
        self.aside += 1
        return function()

    def of(self, role: str) -> list[dict]:
        return [inputs for name, inputs in self.runs if name == role]


def answered(task: GenerateImages, lent: Steps, prompt: str = "a red disc", **parameters):
    request = Request(prompt.encode(), GenerateParameters(**parameters), kind="text")
    return asyncio.run(task.answer(request, lent))


# What is run


def test_the_text_is_run_once_then_the_network_at_each_timestep_then_the_decoder(tmp_path):
    steps = Steps()
    reply = answered(bound(tmp_path), steps, seed=3, steps=4, sampler="ddim")
    assert [role for role, _ in steps.runs] == ["text", *["unet"] * 4, "decoder"]
    assert [rows["timestep"].tolist() for rows in steps.of("unet")] == [[[t]] * 2 for t in (999, 749, 499, 249)]
    first = steps.of("unet")[0]
    assert {name: (array.dtype, array.shape) for name, array in first.items()} == {
        "latents": (np.float32, (2, 3, 8, 8)),
        "timestep": (np.float32, (2, 1)),
        "context": (np.float32, (2, 6, 3)),
    }
    assert (first["latents"] == noise(3, 0, (3, 8, 8))).all(), "both rows are the seed's noise"
    assert first["context"][:, 0, 0].tolist() == [0, 1], "with the prompt and without"
    assert (reply.seed, reply.steps, reply.size, reply.media_type) == (3, 4, "8x8", "image/png")
    assert (pixels_of(reply.content) == GREY[0]).all()


def test_texts_are_padded_to_one_length(tmp_path):
    task = bound(tmp_path, text={"max_tokens": 6, "null": "[START]", "pad": 3})
    ids = {word: i for i, word in enumerate(tiny.DRAWING_WORDS)}

    def rows(prompt: str, **parameters):
        return task.encode(Request(prompt.encode(), GenerateParameters(**parameters), kind="text"))["tokens"].tolist()

    pad, start, red, disc = 3, ids["[START]"], ids["red"], ids["disc"]
    assert rows("red disc") == [[red, disc, *[pad] * 4], [start, *[pad] * 5]]
    assert rows("red disc", negative_prompt="disc") == [[red, disc, *[pad] * 4], [disc, *[pad] * 5]]
    assert rows("red " * 8)[0] == [red] * 6


def test_without_guidance_a_step_is_one_row(tmp_path):
    steps = Steps()
    answered(bound(tmp_path), steps, guidance=1)
    assert [len(rows["tokens"]) for rows in steps.of("text")] == [1]
    assert {len(rows["latents"]) for rows in steps.of("unet")} == {1}


def test_guidance_is_between_the_rows(tmp_path):
    """The network says 1 with the prompt and 0 without, so what is led to is the guidance itself."""

    def network(rows):
        return np.broadcast_to(1 - rows["context"][:, :1, :1, None], rows["latents"].shape).astype(np.float32)

    steps = Steps(network)
    answered(bound(tmp_path, prediction="sample", clip=None), steps, guidance=2.5, steps=2, sampler="ddim")
    assert steps.of("decoder")[0]["latents"] == pytest.approx(np.full((1, 3, 8, 8), 2.5))


def test_a_seed_that_is_left_open_is_any_and_is_told(tmp_path):
    task = bound(tmp_path)
    seeds = {answered(task, Steps()).seed for _ in range(8)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_large_samples_leave_the_event_loop_free(tmp_path, monkeypatch):
    monkeypatch.setattr(generate_images, "ASIDE", 100)
    steps = Steps()
    answered(bound(tmp_path), steps, steps=7)
    assert steps.aside == 7 + 1  # and the picture's file


# What is told


def test_who_watches_is_told_of_each_step_and_shown_some(tmp_path):
    told: list[Progress] = []
    steps = Steps(watcher=Watcher(told.append, preview_every=2))
    answered(bound(tmp_path), steps, steps=5)
    assert [(one.step, one.steps) for one in told] == [(i, 5) for i in range(1, 6)]
    assert [one.preview is not None for one in told] == [False, True, False, True, False]
    assert (pixels_of(told[1].preview) == GREY[0]).all()
    assert len(steps.of("decoder")) == 3


def test_a_preview_is_what_was_thought_to_come_out(tmp_path):
    steps = Steps(lambda rows: np.full_like(rows["latents"], 0.25), Watcher(lambda _: None, preview_every=1))
    answered(bound(tmp_path, prediction="sample"), steps, steps=3)
    for shown in steps.of("decoder"):
        assert shown["latents"] == pytest.approx(np.full((1, 3, 8, 8), 0.25))


@pytest.mark.parametrize("watcher", [None, Watcher(lambda _: None)], ids=["nobody watches", "no previews"])
def test_who_wants_no_previews_pays_for_none(tmp_path, watcher):
    steps = Steps(watcher=watcher)
    answered(bound(tmp_path), steps)
    assert len(steps.of("decoder")) == 1


def test_the_last_step_needs_no_preview(tmp_path):
    steps = Steps(watcher=Watcher(lambda _: None, preview_every=5))
    answered(bound(tmp_path), steps, steps=5)
    assert len(steps.of("decoder")) == 1


# What cannot be used


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (lambda rows: np.full_like(rows["latents"], np.nan), "not finite"),
        (lambda rows: np.full_like(rows["latents"], np.inf), "not finite"),
        (lambda rows: np.zeros((2, 4, 8, 8), np.float32), "another shape"),
        (lambda rows: np.full_like(rows["latents"], -3e38), "not finite"),
    ],
    ids=["not a number", "infinite", "another shape", "ever larger"],
)
def test_it_draws_nothing_of_predictions_that_cannot_be_used(tmp_path, network, said):
    with pytest.raises(OutputInvalid, match=said):
        answered(bound(tmp_path, clip=None), Steps(network))


@pytest.mark.parametrize("shape", [(1, 8, 8, 4), (1, 8, 8), (1, 0, 8, 3)])
def test_pixels_that_are_no_picture_are_not_sent(tmp_path, shape):
    steps = Steps()
    steps.pixels = np.zeros(shape, np.uint8)
    with pytest.raises(OutputInvalid, match="no picture"):
        answered(bound(tmp_path), steps)


@pytest.mark.parametrize(
    ("parameters", "param"), [({"steps": 1000, "sampler": "dpm-solver++"}, "steps"), ({"size": "16x16"}, "size")]
)
def test_what_the_version_cannot_do_is_the_callers_mistake_before_anything_runs(tmp_path, parameters, param):
    steps = Steps()
    with pytest.raises(ParameterInvalid) as caught:
        answered(bound(tmp_path, spacing="leading"), steps, **parameters)
    assert caught.value.extension == {"param": param}
    assert not steps.runs


@pytest.mark.parametrize(("prompt", "parameters"), [("", {}), (" ", {}), ("red", {"negative_prompt": "x" * 100_001})])
def test_texts_that_cannot_be_read_are_the_callers_mistake(tmp_path, prompt, parameters):
    with pytest.raises(TextInvalid):
        answered(bound(tmp_path), Steps(), prompt, **parameters)


def test_a_size_is_a_shape_of_samples(tmp_path):
    steps = Steps()
    answered(bound(tmp_path, scale=4, free=True), steps, size="96x32")
    assert steps.of("unet")[0]["latents"].shape == (2, 3, 8, 24)


def test_versions_agree_as_far_as_their_pixels_do(tmp_path):
    task = bound(tmp_path)

    def reply(pixels):
        content = picture_png(pixels)
        kind = task.reply
        return kind(model="m", version=1, content=content, media_type="image/png", seed=1, steps=1, size="8x8")

    black, white = (np.full((8, 8, 3), level, np.uint8) for level in (0, 255))
    assert task.agreement(reply(black), reply(black)) == 1
    assert task.agreement(reply(black), reply(white)) == 0
    assert task.agreement(reply(black), reply(np.full((8, 8, 3), 51, np.uint8))) == pytest.approx(0.8)
    assert task.agreement(reply(black), reply(black[:4])) == 0


def test_a_reply_can_be_kept_as_json(tmp_path):
    reply = answered(bound(tmp_path), Steps(), seed=3)
    assert GenerateImages.reply.model_validate_json(reply.model_dump_json()) == reply


# Manifests


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"latents": None}, "latents", "valid tuple"),
        ({"latents": [3, 8]}, "latents.2", "required"),
        ({"latents": [3, 8, 0]}, "latents.2", "greater"),
        ({"schedule": None}, "schedule", "valid dictionary"),
        ({"schedule": {"kind": "steep"}}, "schedule.kind", "'cosine'"),
        ({"text": {"max_tokens": 6, "null": "[START]", "pad": 9}}, "text.pad", "0 to 8"),
        ({"text": {"max_tokens": 6}}, "text.null", "a token or more"),
        ({"steps": 2000}, "steps", "less than or equal to 1000"),
        ({"steps": 900, "schedule": {"kind": "cosine", "steps": 50}}, "steps", "do not fit among the 50"),
        ({"sampler": "euler"}, "sampler", "'ddim'"),
        ({"sizes": {"multiple_of": 6, "most": 64}, "scale": 4}, "sizes.multiple_of", "multiple of scale, 4"),
        ({"noise": 1}, "noise", "not permitted"),
    ],
)  # fmt: skip
def test_it_names_what_is_wrong_with_a_manifest(tmp_path, changes, field, said):
    with pytest.raises(RepositoryInvalid, match=said) as caught:
        bound(tmp_path, **changes)
    assert caught.value.field == f"preprocessing.{field}"


def test_it_needs_its_tokenizer(tmp_path):
    folder = tiny.add_diffusion(tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(RepositoryInvalid, match=r"tokenizer\.json"):
        GenerateImages(scan(tmp_path).models[VERB].versions[1])


def test_a_step_has_two_rows_that_must_fit_into_a_batch(tmp_path):
    with pytest.raises(RepositoryInvalid, match="2 or more") as caught:
        bound(tmp_path, most_rows=1)
    assert (caught.value.file, caught.value.field) == (f"{VERB}/config.pbtxt", "max_batch_size")


@pytest.mark.parametrize(("width", "said"), [(4, r"\[3, 4\]"), (-1, "none in config.pbtxt")])
def test_the_network_must_take_what_the_text_gives(tmp_path, width, said):
    tiny.add_diffusion(tmp_path)
    for graph in (VERB, f"{VERB}.text") if width < 0 else (VERB,):
        path = tmp_path / graph / "config.pbtxt"
        message = text_format.Parse(path.read_text(), ModelConfig())
        for tensor in (*message.input, *message.output):
            if tensor.name == "context":
                tensor.dims[-1] = width
        path.write_text(text_format.MessageToString(message))
    with pytest.raises(RepositoryInvalid, match=said) as caught:
        GenerateImages(scan(tmp_path).models[VERB].versions[1])
    assert caught.value.field == "graphs"


def test_what_is_drawn_is_what_the_steps_lead_to(tmp_path):
    """The loop, with the solver's own way beside it."""

    def network(rows):
        return np.tanh(rows["latents"])

    task, steps = bound(tmp_path, clip=None), Steps(network)
    answered(task, steps, seed=9, guidance=1, sampler="dpm-solver++", steps=6)
    drawing = Drawing.begin(task.settings.plan("dpm-solver++", 6), (3, 8, 8), 9)
    while not drawing.done:
        drawing = drawing.step(network({"latents": drawing.latents[np.newaxis]})[0])
    assert (steps.of("decoder")[0]["latents"] == drawing.latents).all()
