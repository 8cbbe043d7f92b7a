"""caption: what it runs and says, and what it refuses of versions and of graphs."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import tiny
from http_rig import picture

from serving.errors import OutputInvalid, QueueFull, RepositoryInvalid
from serving.repository.layout import scan
from serving.task import Request
from serving.tasks import caption
from serving.tasks.caption import LENGTH, LOGITS, MEMORY, TOKENS, Caption, CaptionParameters

WORDS = tiny.CAPTION_WORDS
ID = {word: i for i, word in enumerate(WORDS)}
START, END = ID["[START]"], ID["[END]"]


def bound(root, **options) -> Caption:
    tiny.add_captioner(root, **options)
    return Caption(scan(root).models["caption"].versions[1])


class Steps:
    """Runs the decoder that it is given, and keeps what was run in each turn of the loop."""

    def __init__(self, decoder) -> None:
        self.decoder = decoder
        self.turns: list[list[dict]] = []
        self.waiting = 0
        self.aside = 0
        self._open: list[dict] | None = None

    async def pre(self, function):
        return function()

    async def run(self, role, inputs):
        if role == "encoder":
            return {MEMORY: np.zeros((1, 8, 3), np.float32)}
        if self._open is None:
            self._open = []
            self.turns.append(self._open)
        self._open.append(inputs)
        self.waiting += 1
        try:
            await asyncio.sleep(0.001)
        finally:
            self.waiting -= 1
            self._open = None
        return {LOGITS: self.decoder(inputs)[np.newaxis]}

    def post(self, function):
        return function()

    async def post_aside(self, function):
        self.aside += 1
        return function()


def answered(task: Caption, steps: Steps, **parameters):
    request = Request(picture(), CaptionParameters(**parameters))
    return asyncio.run(task.answer(request, steps))


def likely(*words: str):
    """A decoder that says these words, whatever it sees."""
    ids = [ID[word] for word in words]

    def decoder(inputs):
        logits = np.zeros(len(WORDS), np.float32)
        logits[ids[min(int(inputs[LENGTH][0, 0]), len(ids)) - 1]] = 9
        return logits

    return decoder


def test_each_step_sends_the_text_so_far_padded(tmp_path):
    steps = Steps(likely("a", "red", "[END]"))
    assert answered(bound(tmp_path, longest=6), steps).text == "a red"
    rows = [row for turn in steps.turns for row in turn]
    assert [row[TOKENS].tolist() for row in rows] == [
        [[START, 0, 0, 0, 0, 0]],
        [[START, ID["a"], 0, 0, 0, 0]],
        [[START, ID["a"], ID["red"], 0, 0, 0]],
    ]
    assert [row[LENGTH].tolist() for row in rows] == [[[1]], [[2]], [[3]]]
    assert {row[TOKENS].dtype for row in rows} == {row[LENGTH].dtype for row in rows} == {np.dtype(np.int64)}
    assert all(row[MEMORY].shape == (1, 8, 3) for row in rows)


def test_open_hypotheses_are_run_at_the_same_time_a_row_each(tmp_path):
    steps = Steps(likely("a", "red", "[END]"))
    answered(bound(tmp_path), steps, num_beams=4)
    assert [len(turn) for turn in steps.turns][:3] == [1, 4, 4]
    assert all(len(row[TOKENS]) == 1 for turn in steps.turns for row in turn)


@pytest.mark.parametrize(
    ("parameters", "tokens", "text"),
    [
        ({}, 6, "a a a a a a"),
        ({"max_tokens": 1000}, 6, "a a a a a a"),
        ({"max_tokens": 2}, 2, "a a"),
        ({"max_tokens": 1, "num_beams": 8}, 1, "a"),
    ],
    ids=["the version's", "no more than the version's", "the caller's", "one, by beams"],
)
def test_a_caption_is_cut_where_it_is_longest(tmp_path, parameters, tokens, text):
    reply = answered(bound(tmp_path, longest=6), Steps(likely("a")), **parameters)
    assert (reply.tokens, reply.text) == (tokens, text)


def test_the_score_is_the_mean_log_probability_of_tokens_and_end(tmp_path):
    reply = answered(bound(tmp_path), Steps(likely("a", "red", "[END]")))
    assert reply.tokens == 3
    assert reply.score == pytest.approx(9 - np.log(np.exp(9) + len(WORDS) - 1), rel=1e-6)


def test_special_tokens_are_no_words(tmp_path):
    reply = answered(bound(tmp_path), Steps(likely("[START]", "red", "[PAD]", "blue", "[END]")))
    assert (reply.text, reply.tokens) == ("red blue", 5)


def spoilt(value, words: int = 10):
    logits = np.zeros(words, np.float32)
    logits[-1] = value
    return lambda _: logits


@pytest.mark.parametrize(
    "decoder",
    [spoilt(np.nan), spoilt(np.inf), lambda _: np.full(len(WORDS), -np.inf, np.float32), spoilt(0, END)],
    ids=["not a number", "infinite", "nothing may come", "no end"],
)
def test_it_does_not_answer_with_logits_that_cannot_be_used(tmp_path, decoder):
    with pytest.raises(OutputInvalid):
        answered(bound(tmp_path), Steps(decoder))


def test_logits_may_rule_tokens_out(tmp_path):
    assert answered(bound(tmp_path), Steps(spoilt(-np.inf)), num_beams=8).tokens


def test_when_a_hypothesis_fails_the_others_do_not_wait_on(tmp_path):
    async def main():
        task, steps = bound(tmp_path), Steps(likely("a"))
        failed = False
        runs = steps.run

        async def run(role, inputs):
            nonlocal failed
            if role == "decoder" and inputs[LENGTH][0, 0] == 2 and not failed:
                failed = True
                raise QueueFull("It is full.")
            return await runs(role, inputs)

        steps.run = run
        with pytest.raises(QueueFull):
            await task.answer(Request(picture(), CaptionParameters(num_beams=4)), steps)
        await asyncio.sleep(0)
        assert steps.waiting == 0

    asyncio.run(main())


def test_the_search_in_a_large_vocabulary_leaves_the_event_loop_free(tmp_path, monkeypatch):
    monkeypatch.setattr(caption, "ASIDE", 2 * len(WORDS))
    steps = Steps(likely("a", "red", "[END]"))
    answered(bound(tmp_path), steps, num_beams=2)
    assert 0 < steps.aside < len(steps.turns)


@pytest.mark.parametrize(
    ("one", "other", "agreement"),
    [("a red disc", "a red disc", 1), ("a red disc", "a red spot", 2 / 3), ("a disc", "one spot", 0), ("", "a", 0)],
)
def test_versions_agree_by_the_words_of_their_captions(tmp_path, one, other, agreement):
    task = bound(tmp_path)
    replies = [
        task.reply(model="caption", version=i, text=text, score=-i, tokens=i) for i, text in enumerate((one, other))
    ]
    assert task.agreement(*replies) == pytest.approx(agreement)


def without(part: str, *path: str) -> dict:
    """The tiny captioner's preprocessing without something."""
    whole = tiny.caption_preprocessing()
    inner = whole if not path else whole[part]
    del inner[path[-1] if path else part]
    return whole


def with_text(**changes) -> dict:
    whole = tiny.caption_preprocessing()
    whole["text"].update(changes)
    return whole


@pytest.mark.parametrize(
    ("preprocessing", "field", "said"),
    [
        (without("image"), "image", "required"),
        (without("text"), "text", "required"),
        (without("text", "start"), "text.start", "required"),
        (without("text", "end"), "text.end", "required"),
        (without("image", "size"), "image.size", "required"),
        (with_text(stop=3), "text.stop", "not permitted"),
        (with_text(start=-1), "text.start", "greater"),
        (with_text(end=len(WORDS)), "text.end", "0 to 9"),
        (with_text(start=len(WORDS)), "text.start", "0 to 9"),
        (with_text(pad=len(WORDS)), "text.pad", "0 to 9"),
        (with_text(max_tokens=11), "text.max_tokens", "expected 12"),
    ],
)
def test_it_names_what_is_wrong_with_a_manifest(tmp_path, preprocessing, field, said):
    folder = tiny.add_captioner(tmp_path)
    graphs = {"encoder": "caption", "decoder": "caption.decoder"}
    tiny.write_graphs_manifest(folder, graphs, task="caption", labels=None, preprocessing=preprocessing)
    with pytest.raises(RepositoryInvalid, match=said) as caught:
        Caption(scan(tmp_path).models["caption"].versions[1])
    assert caught.value.field == f"preprocessing.{field}"


def test_it_needs_its_tokenizer(tmp_path):
    folder = tiny.add_captioner(tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(RepositoryInvalid, match=r"tokenizer\.json"):
        Caption(scan(tmp_path).models["caption"].versions[1])


def test_the_decoder_must_take_what_the_encoder_gives(tmp_path):
    tiny.add_captioner(tmp_path)
    tiny.add_captioner(tmp_path / "other", size=16)
    decoder = tmp_path / "caption.decoder/config.pbtxt"
    decoder.write_bytes((tmp_path / "other/caption.decoder/config.pbtxt").read_bytes())
    with pytest.raises(RepositoryInvalid, match=r"\[8, 3\]; found \[16, 3\]") as caught:
        Caption(scan(tmp_path).models["caption"].versions[1])
    assert caught.value.field == "graphs"
