"""The playground's tasks that take a text: pictures of it, in a real Chromium against a real gateway."""

from __future__ import annotations

import json
import shlex

import httpx
import pytest
import tiny
from browser_rig import chromium, opened
from http_rig import gateway_process, picture

VERB = "generate-images"
SEEN = """() => [...document.querySelectorAll("#gallery img")].map((image) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const mean = (channel) => data.filter((_, i) => i % 4 === channel).reduce((a, b) => a + b) / (data.length / 4);
  return { width: canvas.width, height: canvas.height, colour: [0, 1, 2].map(mean) };
})"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("writing")
    tiny.add_diffusion(folder / "repository", "painter")
    tiny.add_diffusion(folder / "repository", "slow", steps=900)
    tiny.add_classifier(folder / "repository")
    environment = {"TIDEGATE_DEFAULT_MODELS": f"{VERB}=painter"}
    with gateway_process(folder / "repository", folder / "state", **environment) as process:
        yield process


@pytest.fixture
def shown(browser, gateway):
    """The page with the task chosen, which must have asked nobody else when the test is over."""
    with opened(browser, gateway.url) as watched:
        watched.page.click(f"label.pill:has-text('{VERB}')")
        yield watched
        assert not watched.elsewhere


def drawn(shown, text: str) -> list[dict]:
    shown.page.fill("#text", text)
    shown.page.click("#send")
    shown.answered()
    shown.page.wait_for_function("[...document.images].every((image) => image.complete)")
    return shown.run(SEEN)


@pytest.mark.parametrize("colour", tiny.COLOURS)
def test_a_text_becomes_a_picture(shown, colour):
    (found,) = drawn(shown, f"a {colour} disc")
    assert (found["width"], found["height"]) == (8, 8)
    assert tiny.COLOURS[max(range(3), key=found["colour"].__getitem__)] == colour
    image = shown.page.locator("#gallery img")
    assert image.bounding_box()["width"] >= 256, "small ones are enlarged"
    assert image.get_attribute("alt") == f"Picture 1 of “a {colour} disc”"
    assert shown.page.inner_text(".who strong") == "painter"
    assert not shown.complaints


def test_what_is_sent_is_what_curl_says(shown, gateway):
    shown.page.fill("#parameter-seed", "5")
    shown.page.fill("#parameter-n", "3")
    shown.page.select_option("#parameter-sampler", "ddim")
    assert len(drawn(shown, "it's a red disc")) == 3
    words = shlex.split(shown.curl)
    sent = json.loads(words[words.index("-d") + 1])
    assert sent == {"prompt": "it's a red disc", "seed": 5, "n": 3, "sampler": "ddim"}
    assert words[-1] == f"{gateway.url}/v1/images/generations"
    reply = json.loads(shown.page.text_content("#json"))
    assert [one["seed"] for one in reply["data"]] == [5, 6, 7]
    assert all(len(one["b64_json"]) < 60 for one in reply["data"]), "the base64 is not for people"


def test_the_controls_are_those_that_leave_a_choice(shown, gateway):
    names = shown.run("[...document.querySelectorAll('#parameters [name]')].map((one) => one.name)")
    assert names == ["n", "size", "steps", "guidance", "seed", "negative_prompt", "sampler"]
    assert shown.page.input_value("#text") == "a red apple", "the documentation's example is there to begin with"


def test_enter_sends_and_shift_enter_begins_a_line(shown):
    shown.page.fill("#text", "a red")
    shown.page.press("#text", "Shift+Enter")
    shown.page.keyboard.type("disc")
    assert shown.page.input_value("#text") == "a red\ndisc"
    assert not [one for one in shown.requests if one.method == "POST"]
    shown.page.press("#text", "Enter")
    shown.answered()
    assert len([one for one in shown.requests if one.method == "POST"]) == 1


def test_a_refusal_in_openai_s_shape_is_told(shown):
    shown.page.fill("#parameter-size", "1024x1024")
    shown.page.click("#send")
    shown.page.wait_for_selector("#problem h2")
    problem = shown.page.inner_text("#problem")
    assert "8x8 pixels here, not 1024x1024" in problem
    assert "parameter_invalid" in problem


def test_an_empty_text_is_not_sent(shown):
    shown.page.fill("#text", "")
    shown.page.click("#send")
    assert shown.run("document.querySelector('#text').validity.valueMissing")
    assert not [one for one in shown.requests if one.method == "POST"]


def test_cancel_ends_it_at_the_gateway_too(shown, gateway):
    shown.page.select_option("#model", "slow")
    shown.page.fill("#text", "a red disc")
    shown.page.fill("#parameter-n", "10")
    shown.page.click("#send")
    shown.page.click("#cancel")
    assert shown.page.text_content("#status") == "Cancelled."
    assert shown.page.locator("#gallery img").count() == 0
    httpx.post(f"{gateway.url}/v1/images/generations", json={"prompt": "a red disc"}).raise_for_status()


def test_tasks_with_pictures_are_there_beside_it(shown):
    drawn(shown, "a red disc")
    shown.page.click("label.pill:has-text('classify')")
    assert shown.page.is_hidden("#gallery")
    assert shown.page.is_hidden("#writing")
    shown.choose("red.png", picture(red=255))
    assert shown.labels[0] == "red"
    shown.page.click(f"label.pill:has-text('{VERB}')")
    assert shown.page.is_hidden("#figure")
    shown.choose("green.png", picture(green=255))
    assert shown.labels[0] == "green", "a picture is for a task that takes pictures"
