"""Requests kept by a gateway that was asked to: whole files, bounded, redacted, and nothing of a key in them."""

from __future__ import annotations

import asyncio
import signal
import stat
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
import tiny
from http_rig import gateway_process, metrics, picture, serving, until, wait_until

from serving.capturing.folder import CaptureFolder, captured_of
from serving.capturing.record import Captured, read, write
from serving.errors import SettingsInvalid
from serving.keys import KeyFile
from serving.settings import read_settings

PNG = {"content-type": "image/png"}


@asynccontextmanager
async def capturing(folder, **settings):
    async with serving(folder, settings={"capture": 1.0, **settings}) as live:
        yield live


def outcomes(live, model="colours") -> dict[str, float]:
    samples = [one for family in live.parts.meters.registry.collect() for one in family.samples]
    return {
        one.labels["outcome"]: one.value
        for one in samples
        if one.name == "tidegate_captured_total" and one.labels["model"] == model
    }


def kept(tmp_path, model="colours", most=10**6) -> list[Captured]:
    return list(captured_of(tmp_path / "state", model, most))


def test_a_request_is_kept_with_its_answer_and_no_key(tmp_path):
    async def main():
        (tmp_path / "state").mkdir()
        secret, _ = KeyFile(tmp_path / "state" / "keys.json").add("phone", ["predict"])
        async with capturing(tmp_path) as live:
            headers = {"authorization": f"Bearer {secret}", "x-request-id": "order-17", **PNG}
            payload = picture(200, 0, 0)
            answer = await live.client.post("/v1/classify?top_k=2", content=payload, headers=headers)
            await until(lambda: outcomes(live) == {"kept": 1}, "it is kept")
            [path] = (tmp_path / "state" / "captures" / "colours").iterdir()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert [stat.S_IMODE(one.stat().st_mode) for one in path.parents[:2]] == [0o700, 0o700]
            assert secret.encode() not in path.read_bytes()
            assert b"phone" not in path.read_bytes()
            [one] = kept(tmp_path)
            assert (one.request_id, one.model, one.version, one.task, one.kind) == (
                "order-17", "colours", 1, "classify", "image",
            )  # fmt: skip
            assert (one.payload, one.parameters, one.reply) == (payload, {"top_k": 2}, answer.json())
            assert 0 < one.duration_s < 60
            size = live.parts.meters.registry.get_sample_value("tidegate_capture_bytes")
            assert size == 4096

    asyncio.run(main())


def test_nothing_is_kept_unless_it_is_asked_for(tmp_path):
    async def main():
        async with serving(tmp_path) as live:
            await live.classify()
            assert live.parts.watch.capture is None
        assert not (tmp_path / "state" / "captures").exists()

    asyncio.run(main())


def test_a_share_of_them(tmp_path):
    async def main():
        async with capturing(tmp_path, capture=0.3) as live:
            for _ in range(100):
                await live.classify()
        assert 10 <= len(kept(tmp_path)) <= 55  # all but one time in a hundred thousand

    asyncio.run(main())


def hook(captured: Captured) -> Captured | None:
    """Leaves out what is red, takes the payload of the rest, and tries to put it elsewhere."""
    if captured.request_id == "broken":
        raise RuntimeError("no luck")
    if captured.reply["predictions"][0]["label"] == "red":
        return None
    return replace(captured, payload=b"", request_id="", model="../elsewhere")


def test_a_hook_sees_each_before_it_is_kept(tmp_path):
    async def main():
        async with capturing(tmp_path, capture_redact=f"{__name__}:hook") as live:
            live.parts.engine.engine._compute = None
            for colour in ((200, 0, 0), (0, 0, 200)):
                await live.classify(picture(*colour))
            await live.classify(x_request_id="broken")
            await until(lambda: sum(outcomes(live).values()) == 3, "all are looked at")
        found = kept(tmp_path)
        tops = {one.reply["predictions"][0]["label"] for one in found}
        assert "red" not in tops
        assert {(one.model, one.payload, one.request_id) for one in found} <= {("colours", b"", "")}
        assert outcomes(live)["failed"] == 1, "what a hook could not look at is not kept"
        assert {path.name for path in (tmp_path / "state" / "captures").iterdir()} <= {"colours"}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "said"),
    [("nothing", "expected a function"), ("nowhere:hook", "ModuleNotFoundError"), ("math:pi", "expected a function"),
     ("math:nope", "AttributeError"), (":", "expected a function")],
)  # fmt: skip
def test_a_hook_that_is_not_there_keeps_the_gateway_from_starting(tmp_path, name, said):
    async def main():
        async with capturing(tmp_path, capture_redact=name):
            pass

    with pytest.raises(SettingsInvalid, match=said) as caught:
        asyncio.run(main())
    assert "TIDEGATE_CAPTURE_REDACT" in str(caught.value)


def test_what_comes_too_fast_is_dropped_and_counted(tmp_path):
    async def main():
        async with capturing(tmp_path) as live:
            capture = live.parts.watch.capture
            held = capture._folder.add
            go = asyncio.Event()
            loop = asyncio.get_running_loop()

            def slow(captured):
                asyncio.run_coroutine_threadsafe(go.wait(), loop).result()
                return held(captured)

            capture._folder.add = slow
            for _ in range(300):
                await live.classify()
            assert outcomes(live)["dropped"] >= 300 - 256 - 1
            go.set()
            await until(lambda: sum(outcomes(live).values()) == 300, "the rest is kept")

    asyncio.run(main())


def test_a_disk_that_says_no_hurts_no_request(tmp_path):
    async def main():
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "captures").write_text("in the way")
        async with capturing(tmp_path) as live:
            answers = [await live.classify() for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200] * 3
            await until(lambda: outcomes(live) == {"failed": 3}, "it is counted")

    asyncio.run(main())


# The folder


def one(at: float = 1.0, payload: bytes = b"x", model: str = "m") -> Captured:
    return Captured("id", at, model, 1, "classify", "image", "application/json", {"a": 1}, payload, {"b": [2]}, 0.5)


def test_what_is_written_is_read_again_whatever_the_payload():
    captured = one(payload=bytes(range(256)) + b"\n{}\n")
    assert read(write(captured)) == captured


@pytest.mark.parametrize("content", [b"", b"{}", b"{}\n", b"\xff\n", b"[]\nx", b'{"format":1}\nx', b'{"format":2}\n'])
def test_what_is_none_is_refused(content):
    with pytest.raises(ValueError):  # noqa: PT011  (whichever of its kinds)
        read(content)


def test_the_oldest_go_of_all_models_together(tmp_path):
    folder = CaptureFolder(tmp_path, 64 * 4096)
    folder.open()
    for i in range(200):
        assert folder.add(one(at=float(i), model=("a", "b")[i % 2]))
        paths = list((tmp_path / "captures").glob("*/*"))
        assert folder.bytes == 4096 * len(paths) <= 64 * 4096
    times = sorted(captured.at for model in ("a", "b") for captured in captured_of(tmp_path, model, 1000))
    assert times == [float(i) for i in range(200 - len(times), 200)]
    assert len(times) >= 60, "no more than is needed goes"
    assert [captured.at for captured in captured_of(tmp_path, "a", 2)] == [196.0, 198.0]


def test_several_gateways_keep_one_bound(tmp_path):
    folders = [CaptureFolder(tmp_path, 64 * 4096) for _ in range(3)]
    for folder in folders:
        folder.open()
    for i in range(300):
        folders[i % 3].add(one(at=float(i)))
    assert len(list((tmp_path / "captures").glob("*/*"))) <= 64 + 3 * 64 // 16


def test_what_is_larger_than_its_part_of_the_bound_is_not_kept(tmp_path):
    folder = CaptureFolder(tmp_path, 64 * 4096)
    folder.open()
    assert not folder.add(one(payload=b"x" * 5 * 4096))
    assert folder.add(one(payload=b"x" * 3 * 4096))


def test_half_a_file_is_swept_and_a_damaged_one_passed_over(tmp_path):
    folder = CaptureFolder(tmp_path, 2**20)
    folder.open()
    folder.add(one())
    models = tmp_path / "captures" / "m"
    (models / ".0000000000001-a-1.capture.new").write_bytes(b"half")
    (models / "0000000000000-a-2.capture").write_bytes(b"damaged")
    CaptureFolder(tmp_path, 2**20).open()
    assert len(list(models.iterdir())) == 2
    assert [captured is None for captured in captured_of(tmp_path, "m", 10)] == [True, False]


def test_a_gateway_that_is_killed_leaves_whole_files(tmp_path):
    """And the next one goes on within the bound that is there."""
    repository, state = tmp_path / "repository", tmp_path / "state"
    tiny.add_classifier(repository)
    environment = {"TIDEGATE_CAPTURE": "1", "TIDEGATE_CAPTURE_BYTES": str(64 * 4096)}
    with gateway_process(repository, state, **environment) as gateway:
        for _ in range(80):
            httpx.post(f"{gateway.url}/v1/classify", content=picture(), headers=PNG).raise_for_status()
        gateway.signal(signal.SIGKILL)
        gateway.exit_code()
    found = list(captured_of(state, "colours", 1000))
    assert 40 <= len(found) <= 64
    assert None not in found
    (state / "captures" / "colours" / ".1-a-1.capture.new").write_bytes(b"half")
    with gateway_process(repository, state, **environment) as gateway:
        httpx.post(f"{gateway.url}/v1/classify", content=picture(), headers=PNG).raise_for_status()

        def value(name: str) -> float:
            return next((one.value for one in metrics(gateway.admin_url) if one.name == name), 0.0)

        wait_until(lambda: value("tidegate_captured_total") == 1, "one more is kept")
        assert 40 * 4096 <= value("tidegate_capture_bytes") <= 64 * 4096
    assert not list((state / "captures" / "colours").glob(".*"))


def test_settings_say_how_much():
    settings = read_settings()
    assert (settings.capture, settings.capture_bytes, settings.capture_redact) == (0.0, 256 * 2**20, None)
    for wrong in ({"capture": 1.5}, {"capture": -0.1}, {"capture": float("nan")}, {"capture_bytes": 0}):
        with pytest.raises(SettingsInvalid):
            read_settings(**wrong)
