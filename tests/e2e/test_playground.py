"""The playground against a real gateway, in a real Chromium."""

from __future__ import annotations

import base64
import io
import json
import shlex
import subprocess

import httpx
import PIL.Image
import pytest
import tiny
from browser_rig import chromium, opened
from http_rig import gateway_process, picture
from picture_rig import SPOT, spotted

from serving.keys import KeyFile

HOSTILE = "<img src=x onerror=window.harmed=1>"
TRANSFER = """([event, name, content]) => {
  const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type: "image/png" }));
  const made = event === "drop"
    ? new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: carried, bubbles: true, cancelable: true });
  document.querySelector("#stage").dispatchEvent(made);
}"""


def add_hostile(root) -> None:
    """A second classifier, whose labels are HTML."""
    folder = tiny.add_classifier(root, "hostile")
    (folder / "labels.txt").write_text(f"{HOSTILE}\n</span><b>green\n&lt;blue\n")
    tiny.write_classifier_manifest(folder)


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("playground")
    for number in (1, 2):
        tiny.add_classifier(folder / "repository", number=number, bias=float(number))
    add_hostile(folder / "repository")
    tiny.add_plain(folder / "repository")
    return folder


@pytest.fixture(scope="module")
def gateway(folder):
    state = folder / "state"
    with gateway_process(folder / "repository", state, TIDEGATE_DEFAULT_MODELS="classify=colours") as process:
        yield process


@pytest.fixture
def shown(browser, gateway):
    """The page, which must have complained of nothing and asked nobody else when the test is over."""
    permissions = ["clipboard-read", "clipboard-write"]
    with opened(browser, gateway.url, permissions=permissions) as watched:
        yield watched
        assert not watched.complaints
        assert not watched.elsewhere


# The files


def test_each_file_is_asked_for_again_and_sent_once(gateway):
    page = httpx.get(gateway.url)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    kinds = {"page.css": "text/css", "app.js": "text/javascript", "mark.svg": "image/svg+xml"}
    for path, kind in {"": "text/html", **{f"playground/{name}": kind for name, kind in kinds.items()}}.items():
        answer = httpx.get(f"{gateway.url}/{path}")
        assert answer.headers["content-type"].split(";")[0] == kind
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-content-type-options"] == "nosniff"
        etag = answer.headers["etag"]
        for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            again = httpx.get(f"{gateway.url}/{path}", headers={"if-none-match": given})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert httpx.get(f"{gateway.url}/{path}", headers={"if-none-match": '"other"'}).content == answer.content
        head = httpx.head(f"{gateway.url}/{path}")
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", etag)


@pytest.mark.parametrize("path", ["/playground", "/playground/", "/playground/index.html", "/playground/..%2fkeys.py"])
def test_there_is_nothing_else(gateway, path):
    assert httpx.get(gateway.url + path).status_code == 404


def test_the_admin_port_has_none(gateway):
    assert httpx.get(gateway.admin_url).status_code == 404


# A picture, sent


def test_a_chosen_picture_is_answered_with_bars(shown):
    shown.choose("red.png", picture(red=255))
    assert shown.labels == ["red", "green", "blue"]
    assert shown.page.inner_text(".who strong") == "colours"
    assert shown.page.inner_text(".who .badge") == "version 1"
    widths = [bar.bounding_box()["width"] for bar in shown.page.locator(".predictions .bar").all()]
    assert len(widths) == 3
    shares = shown.run("[...document.querySelectorAll('.bar')].map((one) => +one.style.getPropertyValue('--share'))")
    reply = json.loads(shown.page.text_content("#json"))
    assert shares == pytest.approx([one["score"] for one in reply["predictions"]])
    legend = shown.page.inner_text(".legend")
    assert all(stage in legend for stage in ("queue", "pre", "run", "post", "transfer"))
    assert shown.page.text_content("#status").startswith("Answered in ")


def test_a_dropped_and_a_pasted_picture_are_taken(shown):
    for event, name, content in (("drop", "green.png", picture(green=255)), ("paste", "b.png", picture(blue=255))):
        shown.run(TRANSFER, [event, name, base64.b64encode(content).decode()])
        shown.page.wait_for_selector(f"#picture-name:text-is('{name}')")
        shown.answered()
        assert shown.labels[0] == {"drop": "green", "paste": "blue"}[event]
        assert shown.page.is_visible("#save") == (event == "paste"), "what is on no disk yet can be saved"


def test_a_drawn_example_is_taken(shown):
    shown.page.click("#samples button >> nth=0")
    shown.answered()
    assert len(shown.labels) == 3


def test_controls_are_those_of_the_document(shown, gateway):
    document = httpx.get(f"{gateway.url}/openapi.json").json()
    parameters = document["paths"]["/v1/classify"]["post"]["parameters"]
    own = {one["name"]: one for one in parameters if one["name"] not in ("model", "version", "label")}
    assert set(shown.run("[...document.querySelectorAll('#parameters [name]')].map((one) => one.name)")) == set(own)
    for name, one in own.items():
        field = shown.page.locator(f"#parameters [name={name}]")
        assert field.get_attribute("min") == str(one["schema"]["minimum"])
        assert field.get_attribute("max") == str(one["schema"]["maximum"])
        assert field.input_value() == str(one["schema"]["default"])
        assert one["description"] in shown.page.inner_text("#parameters")


def test_nothing_in_the_script_knows_a_task_or_a_parameter(gateway):
    page = httpx.get(gateway.url).text
    files = {url for url in page.split('"') if url.startswith("playground/") and url.endswith(".js")}
    seen: set[str] = set()
    while files:
        seen.add(name := files.pop())
        text = httpx.get(f"{gateway.url}/{name}").text
        assert not any(
            word in text for word in ("classify", "top_k", "detect", "segment", "threshold", "embed", "num_beams")
        )
        imported = {line.split('"./')[1].split('"')[0] for line in text.splitlines() if line.startswith("import ")}
        files |= {f"playground/{one}" for one in imported} - seen
    assert len(seen) > 5


def test_a_parameter_changes_the_answer(shown):
    shown.choose("red.png", picture(red=255))
    assert "?" not in shown.curl
    shown.page.fill("#parameter-top_k", "1")
    shown.page.press("#parameter-top_k", "Enter")
    shown.page.wait_for_selector(".predictions li:only-child")
    assert shown.labels == ["red"]
    assert "top_k=1" in shown.curl


def test_a_value_out_of_range_is_not_sent(shown):
    shown.choose("red.png", picture(red=255))
    before = len(shown.requests)
    shown.page.fill("#parameter-top_k", "0")
    shown.page.press("#parameter-top_k", "Enter")
    assert shown.run("document.querySelector('#parameter-top_k').validity.rangeUnderflow")
    assert len(shown.requests) == before


def test_a_model_and_a_version_can_be_chosen(shown):
    shown.choose("grey.png", picture(90, 90, 90))
    assert shown.page.is_disabled("#version")
    shown.page.select_option("#model", "colours")
    shown.answered()
    assert "model=colours" in shown.curl
    texts = shown.page.locator("#version option").all_inner_texts()
    assert texts == ["as routed", "stable (1)", "version 1", "version 2"]
    shown.page.select_option("#version", "label=stable")
    shown.answered()
    assert shown.page.inner_text(".who .badge") == "version 1"
    shown.page.select_option("#version", "version=2")
    shown.page.wait_for_selector("#problem h2")
    problem = shown.page.inner_text("#problem")
    assert "colours has no version 2 loaded." in problem
    assert "version_not_found" in problem
    shown.complaints.clear()  # Chromium says of every answer above 399 that it was one


def test_labels_are_text(shown):
    shown.page.select_option("#model", "hostile")
    shown.choose(f"{HOSTILE}.png", picture(red=255))
    assert shown.labels == [HOSTILE, "</span><b>green", "&lt;blue"]
    assert shown.page.inner_text("#picture-name") == f"{HOSTILE}.png"
    assert shown.run("window.harmed") is None
    assert shown.page.locator(".predictions img, .predictions b").count() == 0


def test_the_picture_stands_upright(shown):
    file = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    PIL.Image.new("RGB", (40, 20), "red").save(file, "JPEG", exif=exif)
    shown.choose("turned.jpg", file.getvalue())
    assert shown.page.inner_text("#picture-facts").startswith("20 \N{MULTIPLICATION SIGN} 40")


# The same as curl


@pytest.mark.parametrize("name", ["red.png", 'it\'s; a "red", $HOME `one`.png', "-", " @x\\.png", "ä&b=c.png"])
def test_the_copied_command_gives_the_same_answer(shown, tmp_path, name):
    (tmp_path / name).write_bytes(picture(red=200))
    shown.choose(name, picture(red=200))
    shown.page.fill("#parameter-top_k", "2")
    shown.page.press("#parameter-top_k", "Enter")
    shown.page.wait_for_selector(".predictions li:last-child:nth-child(2)")
    shown.page.click("#copy")
    shown.page.wait_for_selector("#copy:text('Copied')")
    command = shown.run("navigator.clipboard.readText()")
    assert shlex.split(command)[0] == "curl"
    done = subprocess.run(  # noqa: S602  (the command is for a shell)
        command, shell=True, check=True, capture_output=True, cwd=tmp_path, timeout=30
    )
    assert json.loads(done.stdout) == json.loads(shown.page.text_content("#json"))


# What goes wrong


def test_a_refusal_is_shown_with_what_to_do(shown):
    shown.choose("broken.png", b"no picture")
    problem = shown.page.inner_text("#problem")
    assert "The image cannot be read" in problem
    assert "Send a JPEG, PNG or WebP picture." in problem
    assert "image_invalid" in problem
    assert "cannot be shown" in shown.page.inner_text("#picture-facts")
    shown.complaints.clear()
    shown.choose("red.png", picture(red=255))
    assert shown.page.locator("#problem > *").count() == 0, "gone with the next answer"


def test_a_request_is_left_for_a_newer_one_and_can_be_cancelled(shown):
    shown.choose("red.png", picture(red=255))
    held = []
    shown.page.route("**/v1/classify*", lambda route: held.append(route))  # noqa: PLW0108  (it cannot wrap a builtin)
    shown.page.click("#send")
    shown.page.wait_for_selector("#cancel:visible")
    shown.page.click("#send")
    shown.page.fill("#parameter-top_k", "1")
    shown.page.press("#parameter-top_k", "Enter")  # a change and a submission
    shown.page.wait_for_timeout(200)
    assert [route.request.url.partition("?")[2] for route in held] == ["", "top_k=1"], "none is sent twice"
    held[1].continue_()
    shown.answered()
    assert shown.labels == ["red"]
    assert [request.failure for request in shown.requests if request.failure] == ["net::ERR_ABORTED"]
    shown.page.click("#send")
    shown.page.click("#cancel")
    assert shown.page.inner_text("#status") == "Cancelled."
    assert not shown.page.is_visible("#progress")


def test_a_server_that_is_gone_is_said_to_be(browser, folder, tmp_path):
    with gateway_process(folder / "repository", tmp_path / "state") as process, opened(browser, process.url) as shown:
        shown.page.select_option("#model", "colours")
        shown.choose("red.png", picture(red=255))
        process.popen.kill()
        process.popen.wait()
        shown.page.click("#send")
        shown.page.wait_for_selector("#problem h2")
        assert "cannot be reached" in shown.page.inner_text("#problem")
        assert shown.page.locator(".predictions").count() == 0, "no old answer beside it"


def test_a_key_is_asked_for_where_it_is_wanted_and_never_shown(browser, folder, tmp_path):
    secret, _ = KeyFile(tmp_path / "state" / "keys.json").add("a", ["predict"])
    with gateway_process(folder / "repository", tmp_path / "state") as process, opened(browser, process.url) as shown:
        assert shown.page.is_visible("#key-form")
        assert shown.page.locator("#problem > *").count() == 0, "nothing went wrong yet"
        shown.page.fill("#key", "tg_wrong")
        shown.page.press("#key", "Enter")
        shown.page.wait_for_selector("#problem h2")
        assert shown.page.is_visible("#key-form")
        shown.page.fill("#key", f" {secret} ")
        shown.page.press("#key", "Enter")
        shown.page.wait_for_selector("#controls:visible")
        assert not shown.page.is_visible("#key-form")
        shown.page.select_option("#model", "colours")
        shown.choose("red.png", picture(red=255))
        assert shown.labels[0] == "red"
        assert '-H "Authorization: Bearer $KEY"' in shown.curl
        assert secret not in shown.page.content()
        assert shown.run("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_without_a_key_none_is_asked_for(shown):
    assert not shown.page.is_visible("#key-form")
    assert "KEY" not in shown.curl


@pytest.mark.parametrize("width", [360, 1400])
def test_it_fits_the_width(browser, gateway, width):
    with opened(browser, gateway.url, viewport={"width": width, "height": 800}) as shown:
        shown.choose("a-picture-with-a-rather-long-name-as-cameras-and-phones-give-them.png", picture(red=255))
        assert shown.run("document.documentElement.scrollWidth") <= width


def test_everything_can_be_reached_by_keyboard_and_has_a_name(shown):
    shown.choose("red.png", picture(red=255))
    unnamed = """() => [...document.querySelectorAll("button, input, select, a")]
      .filter((one) => one.checkVisibility() && !(one.labels?.length || one.ariaLabel || one.innerText.trim()))
      .map((one) => one.outerHTML)"""
    assert shown.run(unnamed) == []
    reached = set()
    for _ in range(25):
        shown.page.keyboard.press("Tab")
        reached.add(shown.run("document.activeElement.id || document.activeElement.name"))
    assert {"task", "model", "parameter-top_k", "send", "copy", "choose-other"} <= reached


# Detect and segment


@pytest.fixture(scope="module")
def finding(tmp_path_factory):
    """A gateway whose models find what is dark."""
    folder = tmp_path_factory.mktemp("finding")
    tiny.add_dark(folder / "repository", "detect", letterbox=True)
    tiny.add_dark(folder / "repository", "segment", labels=("background", "ink"), letterbox=True)
    with gateway_process(folder / "repository", folder / "state") as process:
        yield process


def test_what_is_found_is_drawn_where_it_is(browser, finding):
    """A photo that is stored turned: the page shows it upright, and the server's boxes and masks lie on its spot."""
    with opened(browser, finding.url) as shown:
        shown.page.locator("#tasks label", has_text="detect").click()
        shown.choose("turned.png", spotted(orientation=6))
        assert shown.labels == ["ink", "shade"]
        frame, box = (shown.page.locator(name).first.bounding_box() for name in ("#picture", "#boxes > *"))
        scale = frame["width"] / 96
        found = [(box["x"] - frame["x"]) / scale, (box["y"] - frame["y"]) / scale]
        found += [found[0] + box["width"] / scale, found[1] + box["height"] / scale]
        assert found == pytest.approx(SPOT, abs=5)
        shown.page.locator("#tasks label", has_text="segment").click()
        shown.page.wait_for_selector(".who:has-text('segment')")
        shown.answered()
        row = "[...document.querySelector('#masks').getContext('2d').getImageData(0, 35, 96, 1).data]"
        opacity = shown.run(row)[3::4]
        assert opacity[45] > 0
        assert opacity[5] == 0
        assert not shown.complaints


# Caption and embed


@pytest.fixture(scope="module")
def saying(tmp_path_factory):
    """A gateway with a captioner and an embedder of pictures and texts."""
    folder = tmp_path_factory.mktemp("saying")
    tiny.add_captioner(folder / "repository")
    tiny.add_embedder(folder / "repository")
    with gateway_process(folder / "repository", folder / "state") as process:
        yield process


def test_a_caption_is_text_and_its_beams_can_be_set(browser, saying):
    with opened(browser, saying.url) as shown:
        shown.page.locator("#tasks label", has_text="caption").click()
        shown.choose("red.png", picture(red=255))
        assert shown.page.inner_text("blockquote") == "a red disc"
        assert shown.page.text_content("#status").endswith(": a red disc")
        shown.page.fill("#parameter-num_beams", "3")
        shown.page.press("#parameter-num_beams", "Enter")
        shown.page.wait_for_selector("blockquote:text('a red spot')")
        assert "num_beams=3" in shown.curl
        facts = shown.page.inner_text("#result dl")
        assert "score" in facts
        assert "tokens" in facts
        assert not shown.complaints


def test_of_a_task_that_takes_texts_too_pictures_can_be_tried(browser, saying):
    with opened(browser, saying.url) as shown:
        shown.page.locator("#tasks label", has_text="embed").click()
        shown.choose("red.png", picture(red=255))
        facts = shown.page.inner_text("#result dl")
        assert "0.995" in facts
        assert "dimensions" in facts
        assert not shown.complaints
