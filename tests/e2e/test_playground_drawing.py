"""How the playground draws whatever an answer holds, of tasks that this gateway has and of some that it has not.

The page is static, so that any server will do: here one that replays a document of tasks and one reply.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

import numpy as np
import PIL.Image
import pytest
from browser_rig import chromium, opened
from pycocotools import mask as coco

from serving.gateway.routes.playground import MEDIA_TYPES

HOSTILE = "<img src=x onerror=window.harmed=1>"
PHOTO = {"type": "string", "format": "binary"}
PARAMETERS = [
    {"name": "share", "schema": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.25}, "description": ""},
    {"name": "way", "schema": {"type": "string", "enum": ["plain", "odd"], "default": "plain"}, "description": "How."},
    {"name": "fine", "schema": {"type": "boolean", "default": False}, "description": "Whether."},
    {"name": "most", "schema": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "null"}],
                                "default": None}, "description": "At most."},
    {"name": "words", "schema": {"$ref": "#/components/schemas/Words"}, "description": "Words."},
]  # fmt: skip


def document(*verbs: str) -> dict[str, Any]:
    """An OpenAPI document of tasks that take a picture in a part named photo, and of one that does not."""
    content = {
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"note": {"type": "string"}, "photo": PHOTO}}
        },
        "image/png": {"schema": {"type": "string", "format": "binary"}},
    }
    paths = {
        f"/v1/{verb}": {
            "post": {
                "x-tidegate-task": verb,
                "summary": f"To {verb}",
                "parameters": [{"name": "model", "in": "query"}, *({"in": "query", **one} for one in PARAMETERS)],
                "requestBody": {"content": content},
            }
        }
        for verb in verbs
    }
    rows = {"post": {"x-tidegate-task": "rows", "requestBody": {"content": {"application/json": {}}}}}
    words = {"type": "string", "default": "", "maxLength": 9}
    return {"paths": {**paths, "/v1/rows": rows, "/livez": {"get": {}}}, "components": {"schemas": {"Words": words}}}


class Replay(ThreadingHTTPServer):
    """The playground's files, /openapi.json, /v1/models and, for each POST, `reply` as JSON, or as it is if bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.openapi = document("look")
        self.models: list[dict[str, Any]] = [model("eye", "look")]
        self.reply: dict[str, Any] | bytes = {"predictions": []}
        self.targets: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def content(self, path: str) -> tuple[str, bytes]:
        known = {"/openapi.json": self.openapi, "/v1/models": {"models": self.models}, "/v2": {"version": "9.9"}}
        if path in known:
            return "application/json", json.dumps(known[path]).encode()
        name = path.rpartition("/")[2] or "index.html"
        return MEDIA_TYPES["." + name.rpartition(".")[2]], files("serving").joinpath("playground", name).read_bytes()


class _Answering(BaseHTTPRequestHandler):
    server: Replay

    def do_GET(self) -> None:
        self._send(*self.server.content(self.path))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.targets.append(self.path)
        reply = self.server.reply
        if isinstance(reply, bytes):
            self._send("image/png", reply)
        else:
            self._send("application/json", json.dumps(reply).encode())

    def _send(self, media_type: str, content: bytes) -> None:
        self.send_response(200)
        for name, value in (("content-type", media_type), ("content-length", str(len(content)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""


def model(name: str, task: str) -> dict[str, Any]:
    return {"name": name, "task": task, "versions": [1], "stable": 1, "canary": None, "ready": True}


def png(width: int = 200, height: int = 100) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (width, height), "white").save(file, "PNG")
    return file.getvalue()


def encoded(mask: np.ndarray) -> dict[str, Any]:
    """A mask [height, width] as pycocotools has it."""
    made = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": made["size"], "counts": made["counts"].decode()}


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@contextmanager
def replaying() -> Iterator[Replay]:
    with Replay() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server():
    with replaying() as server:
        yield server


@pytest.fixture
def shown(browser, server):
    with opened(browser, server.url) as watched:
        yield watched
        assert not watched.complaints
        assert not watched.elsewhere


# Boxes


@pytest.mark.parametrize(
    "place",
    [{"box": {"xmin": 50, "ymin": 20, "xmax": 150, "ymax": 80}}, {"bbox": [50, 20, 100, 60]}],
    ids=["corners", "as COCO has it"],
)
@pytest.mark.parametrize("width", [360, 1400])
def test_boxes_lie_where_they_are_said_to(browser, server, place, width):
    server.reply = {"image": {"width": 200, "height": 100}, "predictions": [{"label": HOSTILE, "score": 0.5, **place}]}
    with opened(browser, server.url, viewport={"width": width, "height": 900}) as shown:
        shown.choose("a.png", png())
        picture = shown.page.locator("#picture").bounding_box()
        box = shown.page.locator(".box").bounding_box()
        scale = picture["width"] / 200
        assert picture["height"] == pytest.approx(100 * scale, abs=1)
        found = [(box["x"] - picture["x"]) / scale, (box["y"] - picture["y"]) / scale, box["width"] / scale]
        assert found == pytest.approx([50, 20, 100], abs=1.5)
        assert box["height"] / scale == pytest.approx(60, abs=1.5)
        assert shown.page.inner_text(".box span") == HOSTILE
        assert shown.run("window.harmed") is None


def test_a_prediction_that_is_looked_at_stands_out(shown, server):
    boxes = [{"xmin": 10, "ymin": 10, "xmax": 60, "ymax": 60}, {"xmin": 90, "ymin": 10, "xmax": 190, "ymax": 60}]
    server.reply = {
        "predictions": [{"label": "a", "class_id": i, "score": 0.9, "box": box} for i, box in enumerate(boxes)]
    }
    shown.choose("a.png", png())
    classes = "[...document.querySelectorAll('.box')].map((one) => one.classList.contains('faded'))"
    assert shown.run(classes) == [False, False]
    shown.page.focus(".predictions li:nth-child(2)")
    assert shown.run(classes) == [True, False]
    shown.page.focus("#send")
    assert shown.run(classes) == [False, False]
    shown.page.hover(".predictions li:nth-child(1)")
    assert shown.run(classes) == [False, True]


@pytest.mark.parametrize("box", [{}, {"xmin": 1, "ymin": 2, "xmax": None, "ymax": 3}, {"xmin": "1"}], ids=repr)
def test_a_box_that_is_none_is_left_out(shown, server, box):
    server.reply = {"predictions": [{"label": "a", "score": 0.9, "box": box}]}
    shown.choose("a.png", png())
    assert shown.labels == ["a"]
    assert shown.page.locator(".box").count() == 0


# Masks


SHAPES = [(1, 1), (1, 9), (9, 1), (7, 5), (64, 48), (333, 417)]
DENSITIES = [0.0, 0.001, 0.1, 0.5, 0.9, 1.0]


def test_masks_are_read_as_pycocotools_writes_them(shown):
    pick = np.random.default_rng(20_260_101)
    masks = [pick.random(shape) < density for shape in SHAPES for density in DENSITIES]
    masks += [pick.integers(0, 2, shape) * np.ones(shape) for shape in ((500, 1), (1, 500))]
    masks += [np.kron(pick.integers(0, 2, (4, 3)), np.ones((300, 200)))]  # runs of several characters
    script = """async (masks) => {
      const { pixelsOf } = await import("./playground/rle.js");
      return masks.map((mask) => {
        const pixels = pixelsOf(mask);
        return [pixels.length, pixels.reduce((all, one, place) => one ? (all * 31 + place) % 1000003 : all, 0)];
      });
    }"""

    def digest(mask: np.ndarray) -> list[int]:
        value = 0
        for place in np.flatnonzero(mask.ravel(order="F")):
            value = (value * 31 + int(place)) % 1_000_003
        return [mask.size, value]

    assert shown.run(script, [encoded(mask) for mask in masks]) == [digest(mask) for mask in masks]
    plain = {"size": [2, 3], "counts": [1, 2, 3]}  # run lengths as they are, as in COCO's crowds
    assert shown.run(script, [plain]) == [digest(np.array([[0, 1, 0], [1, 0, 0]]))]


@pytest.mark.parametrize(
    "mask",
    [{"size": [2, 2], "counts": "1"}, {"size": [2, 2], "counts": "9"}, {"size": [2, 2], "counts": "~~"},
     {"size": [0, 2], "counts": "0"}, {"size": [1e6, 1e6], "counts": "0"}, {"size": [2, 2], "counts": "P"},
     {"size": [2, 2], "counts": [5]}, {"size": [2, 2], "counts": [-1, 5]}, {"counts": "4"}],
    ids=repr,
)  # fmt: skip
def test_a_damaged_mask_is_said_to_be_and_the_rest_is_shown(shown, server, mask):
    server.reply = {"predictions": [{"label": "a", "score": 0.5, "mask": mask}]}
    shown.choose("a.png", png())
    assert shown.labels == ["a"]
    assert "It cannot be drawn" in shown.page.inner_text("#result")


def test_masks_are_painted_where_they_are(shown, server):
    mask = np.zeros((100, 200), bool)
    mask[20:60, 30:90] = True
    other = np.zeros((100, 200), bool)
    other[70:, 150:] = True
    server.reply = {
        "predictions": [
            {"label": name, "class_id": i, "score": 0.9, "area": int(one.sum()), "mask": encoded(one)}
            for i, (name, one) in enumerate({"a": mask, "b": other}.items())
        ]
    }
    shown.choose("a.png", png())
    canvas = """() => {
      const canvas = document.querySelector("#masks");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return [canvas.width, canvas.height, [...data]];
    }"""
    width, height, data = shown.run(canvas)
    pixels = np.array(data, np.uint8).reshape(height, width, 4)
    assert ((pixels[..., 3] > 0) == (mask | other)).all()
    assert (pixels[40, 60, :3] != pixels[90, 180, :3]).any(), "each class has its colour"
    assert 0 < pixels[40, 60, 3] < pixels[20, 60, 3] < 255, "the picture shows through, the edge stands out"
    assert "2,400 px" in shown.page.inner_text(".predictions")
    frame, over = (shown.page.locator(name).bounding_box() for name in ("#picture", "#masks"))
    assert over == frame


def test_large_masks_are_painted_smaller(shown, server):
    mask = np.zeros((1500, 3000), bool)
    mask[:, 1500:] = True
    server.reply = {"predictions": [{"label": "a", "score": 0.9, "mask": encoded(mask)}]}
    shown.choose("a.png", png(300, 150))
    row = """() => {
      const { data } = document.querySelector("#masks").getContext("2d").getImageData(0, 256, 1024, 1);
      return [...data].filter((_, place) => place % 4 === 3);
    }"""
    assert shown.run("[document.querySelector('#masks').width, document.querySelector('#masks').height]") == [1024, 512]
    assert [alpha > 0 for alpha in shown.run(row)] == 512 * [False] + 512 * [True]


# Other answers


def test_text_and_numbers_are_shown_plainly(shown, server):
    server.reply = {"model": "eye", "version": 3, "text": f"a cup {HOSTILE}", "score": -1.25}
    shown.choose("a.png", png())
    assert shown.page.inner_text("blockquote") == f"a cup {HOSTILE}"
    assert shown.page.inner_text("dl").split("\n") == ["score", "-1.25"]
    assert shown.page.inner_text(".who").startswith("eye")
    assert shown.run("window.harmed") is None


def test_a_picture_that_comes_back_is_shown(shown, server):
    server.reply = png(30, 40)
    shown.choose("a.png", png())
    shown.page.wait_for_function("document.querySelector('.came').naturalHeight === 40")
    assert shown.page.text_content("#json").startswith("image/png, ")


def test_an_empty_list_is_said_to_be_one(shown):
    shown.choose("a.png", png())
    assert "found nothing" in shown.page.inner_text("#result")


# Tasks and their parameters


def test_tasks_that_take_a_picture_appear_by_themselves(browser, server):
    server.openapi = document("look", "count-things")
    server.models.append(model("hand", "count-things"))
    with opened(browser, server.url) as shown:
        assert shown.page.locator(".pill").all_inner_texts() == ["look", "count-things"]
        shown.choose("a.png", png())
        shown.page.click(".pill >> nth=1")
        shown.answered()
        assert server.targets == ["/v1/look", "/v1/count-things"]
        assert shown.curl == f"curl -F photo=@a.png {server.url}/v1/count-things"
        assert "9.9" in shown.page.inner_text("#server")


def test_every_kind_of_parameter_has_its_control_and_only_changes_are_sent(shown, server):
    shown.choose("a.png", png())
    kinds = "[...document.querySelectorAll('#parameters [name]')].map((one) => [one.name, one.type])"
    assert shown.run(kinds) == [["share", "number"], ["way", "select-one"], ["fine", "checkbox"], ["most", "number"],
                                ["words", "text"]]  # fmt: skip
    for name, value in {"share": "0.5", "most": "3", "words": "a&b c"}.items():
        shown.page.fill(f"#parameter-{name}", value)
    shown.page.select_option("#parameter-way", "odd")
    shown.page.check("#parameter-fine")
    shown.answered()
    query = "share=0.5&way=odd&fine=true&most=3&words=a%26b+c"
    assert server.targets[0] == "/v1/look"
    assert shown.requests[-1].url == f"{shown.url}/v1/look?{query}"
    assert f"/v1/look?{query}" in server.targets  # not as the last one, where one that was given up came later
    assert shown.curl == f"curl -F photo=@a.png '{server.url}/v1/look?{query}'"
    slider = shown.page.get_by_label("share, slider")
    assert slider.input_value() == "0.5"
    slider.focus()
    slider.press("Home")
    assert shown.page.input_value("#parameter-share") == "0"


def test_a_task_that_no_model_does_is_said_to_be_so(browser, server):
    server.openapi = document("look", "smell")
    with opened(browser, server.url) as shown:
        shown.choose("a.png", png())
        shown.page.click(".pill >> nth=1")
        assert "No model for this task" in shown.page.inner_text("#problem")
        assert shown.page.is_disabled("#send")
        assert server.targets == ["/v1/look"]
        shown.page.click(".pill >> nth=0")
        shown.answered()
        assert shown.page.locator("#problem > *").count() == 0


def test_a_server_without_such_tasks_is_said_to_be_one(browser, server):
    server.openapi = document()
    with opened(browser, server.url) as shown:
        assert "no task that can be tried" in shown.page.inner_text("#problem")
