"""What a job is to do comes back as it was kept."""

from __future__ import annotations

import json

import pytest

from serving import plugins
from serving.errand import Errand, read_errand, read_replies, write_errand, write_replies
from serving.errors import NotFound
from serving.task import FOLDER, Request
from serving.versions.router import Target

TASK = plugins.find(FOLDER, "generate-images", "PLUGIN")


def request(prompt="a red disc", **parameters) -> Request:
    return Request(prompt.encode(), TASK.parameters.model_validate(parameters), kind="text")


@pytest.mark.parametrize("target", [Target(), Target("m", 3, "canary", b"\xff\x00user")], ids=["any", "all of it"])
def test_an_errand_is_as_it_was(target):
    errand = Errand("generate-images", target, [request(seed=3), request("é", steps=7, guidance=2.5)], 5)
    kept = write_errand(errand)
    assert json.loads(kept)["requests"][0]["parameters"] == {"seed": 3}, "what was left open stays the version's choice"
    assert read_errand(kept) == errand


def test_its_trace_goes_along_and_gateways_of_before_are_told_nothing_new_without_one():
    errand = Errand("generate-images", Target(), [request()])
    assert "traceparent" not in json.loads(write_errand(errand))
    traced = Errand("generate-images", Target(), [request()], traceparent="00-01-02-01")
    assert read_errand(write_errand(traced)) == traced


def test_a_payload_may_be_any_bytes():
    classify = plugins.find(FOLDER, "classify", "PLUGIN")
    sent = Request(bytes(range(256)), classify.parameters(), kind="image")
    assert read_errand(write_errand(Errand("classify", Target(), [sent]))).requests[0] == sent


def test_replies_are_as_they_were():
    fields = {"model": "m", "version": 1, "media_type": "image/png", "seed": 3, "steps": 5, "size": "8x8"}
    replies = [TASK.reply(content=b"\x89PNG", **fields), TASK.reply(content=b"", **fields)]
    assert read_replies("generate-images", write_replies(replies)) == replies


def test_what_this_release_does_not_know_is_said():
    kept = json.loads(write_errand(Errand("generate-images", Target(), [request()])))
    with pytest.raises(NotFound):
        read_errand(json.dumps({**kept, "verb": "sing"}).encode())
    for changed in ({**kept, "more": 1}, {**kept, "requests": [{**kept["requests"][0], "parameters": {"volume": 11}}]}):
        with pytest.raises(ValueError, match="validation error"):
            read_errand(json.dumps(changed).encode())
