"""embed: what it refuses, of versions, of payloads and of graphs."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from http_rig import picture

from serving.errors import InvalidInput, OutputInvalid, RepositoryInvalid, TextInvalid
from serving.repository.layout import scan
from serving.task import Request
from serving.tasks.embed import ATTENTION_MASK, EMBEDDING, INPUT_IDS, PIXELS, Embed, EmbedParameters


def bound(root, **options) -> Embed:
    tiny.add_embedder(root, **options)
    return Embed(scan(root).models["embed"].versions[1])


def asked(kind: str, payload: bytes) -> Request[EmbedParameters]:
    return Request(payload, EmbedParameters(), kind=kind)


@pytest.mark.parametrize(
    ("towers", "kind", "roles"),
    [
        (("image", "text"), "text", {"image", "text"}),
        (("text",), "text", {"text"}),
        (("image",), "image", {"image"}),
    ],
    ids=["both", "text", "pictures"],
)
def test_a_version_of_any_towers_has_a_sample_and_warm_up_rows(tmp_path, towers, kind, roles):
    task = bound(tmp_path, towers=towers)
    assert task.sample().kind == kind
    task.encode(task.sample())
    assert set(task.warm_up()) == roles


@pytest.mark.parametrize(("towers", "kind", "payload"), [(("text",), "image", picture()), (("image",), "text", b"red")])
def test_what_it_has_no_tower_for_is_refused_with_what_it_takes(tmp_path, towers, kind, payload):
    task = bound(tmp_path, towers=towers)
    with pytest.raises(InvalidInput, match=f"embeds no {kind}, only {towers[0]}"):
        task.encode(asked(kind, payload))


def test_a_text_becomes_tokens_that_are_padded(tmp_path):
    rows = bound(tmp_path).encode(asked("text", b"Red GREEN, nothing blue!"))
    assert rows[INPUT_IDS].tolist() == [[2, 3, 1, 1, 4, 1, 0, 0]]
    assert rows[ATTENTION_MASK].tolist() == [[1, 1, 1, 1, 1, 1, 0, 0]]


def test_tokens_are_the_same_row_as_their_text(tmp_path):
    task = bound(tmp_path)
    rows = task.encode(asked("tokens", np.array([2, 3], "<i8").tobytes()))
    for name, array in task.encode(asked("text", b"red green")).items():
        assert np.array_equal(rows[name], array)


def test_a_picture_becomes_pixels(tmp_path):
    rows = bound(tmp_path).encode(asked("image", picture(red=255)))
    assert rows[PIXELS].shape == (1, 8, 8, 3)
    assert rows[PIXELS][0, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("text", b""),
        ("text", b" \n"),
        ("text", b"\xff"),
        ("text", b"a" * 100_001),
        ("tokens", b""),
        ("tokens", np.array([5], "<i8").tobytes()),
        ("tokens", np.array([-1], "<i8").tobytes()),
    ],
    ids=["empty", "blank", "not UTF-8", "too long", "no tokens", "an unknown token", "a negative one"],
)
def test_text_that_cannot_be_read_is_the_callers_mistake(tmp_path, kind, payload):
    with pytest.raises(TextInvalid):
        bound(tmp_path).encode(asked(kind, payload))


@pytest.mark.parametrize(
    "vector",
    [[1.1, 0], [0.9, 0], [0, 0], [np.nan, 1], [np.inf, 0], [[1, 0]]],
    ids=["too long", "too short", "nothing", "not a number", "infinite", "a matrix"],
)
def test_it_does_not_answer_with_embeddings_that_cannot_be_used(tmp_path, vector):
    with pytest.raises(OutputInvalid):
        bound(tmp_path).decode({EMBEDDING: np.array([vector], np.float32)}, asked("text", b"red"))


def test_versions_agree_by_the_cosine(tmp_path):
    task = bound(tmp_path)
    one, other = (
        task.decode({EMBEDDING: np.array([vector], np.float32)}, asked("text", b"red"))
        for vector in ([1, 0], [0.6, 0.8])
    )
    assert task.agreement(one, one) == 1
    assert task.agreement(one, other) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"preprocessing": {"text": {}}}, "preprocessing.image"),
        ({"preprocessing": {"image": {"resize": None, "size": 8}}}, "preprocessing.text"),
        ({"preprocessing": {"image": {"resize": None}, "text": {}}}, "preprocessing.image.size"),
        ({"preprocessing": {"resize": None, "size": 8}}, "preprocessing.resize"),
        ({"graphs": {"other": "embed"}}, "graphs"),
    ],
    ids=["no picture's", "no text's", "half a picture's", "not nested", "no tower"],
)
def test_it_names_what_is_wrong_with_a_manifest(tmp_path, changes, field):
    folder = tiny.add_embedder(tmp_path)
    whole = {"image": {"resize": None, "size": 8, "channels": 3}, "text": {}}
    given = {"task": "embed", "graphs": {"image": "embed", "text": "embed.text"}, "preprocessing": whole, **changes}
    graphs = given.pop("graphs")
    tiny.write_graphs_manifest(folder, graphs, labels=None, **given)
    with pytest.raises(RepositoryInvalid) as caught:
        Embed(scan(tmp_path).models["embed"].versions[1])
    assert caught.value.field == field


def test_a_tower_for_text_needs_its_tokenizer(tmp_path):
    folder = tiny.add_embedder(tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(RepositoryInvalid, match=r"tokenizer\.json"):
        Embed(scan(tmp_path).models["embed"].versions[1])
