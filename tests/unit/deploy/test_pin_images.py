"""Tags become tags with digests, and nothing else changes."""

from __future__ import annotations

import pytest

from deploy.pin_images import FILES, ROOT, pinned, references

DIGEST = "sha256:" + "0123456789abcdef" * 4
OTHER = "sha256:" + "f" * 64
TEXT = """\
services:
  a:
    image: redis:8.2.3
    build: {context: .}
  b:
    image: nvcr.io/nvidia/tritonserver:26.07-py3 # why
  c:
    image: tidegate/gateway:0.1.0
FROM python:3.11.14-slim-bookworm AS build
      - image: redis:8.2.3
COPY --from=build /a /b
"""


def test_each_image_of_others_gets_the_digest_of_its_tag():
    digests = {"redis:8.2.3": DIGEST, "nvcr.io/nvidia/tritonserver:26.07-py3": OTHER}
    text = pinned(TEXT, lambda image: digests.get(image, DIGEST))
    assert text.count(f"image: redis:8.2.3@{DIGEST}\n") == 2
    assert f"image: nvcr.io/nvidia/tritonserver:26.07-py3@{OTHER} # why\n" in text
    assert f"FROM python:3.11.14-slim-bookworm@{DIGEST} AS build\n" in text
    assert "image: tidegate/gateway:0.1.0\n" in text
    assert text.replace(f"@{DIGEST}", "").replace(f"@{OTHER}", "") == TEXT


def test_a_second_time_puts_the_new_digest_in_place_of_the_old_one():
    once = pinned(TEXT, lambda _: DIGEST)
    assert pinned(once, lambda _: DIGEST) == once
    assert pinned(once, lambda _: OTHER) == once.replace(DIGEST, OTHER)
    assert references([once]) == references([TEXT])


@pytest.mark.parametrize("found", ["", "latest", "sha256:abc", DIGEST + "0", f"{DIGEST}\n{DIGEST}"])
def test_what_is_no_digest_is_not_written(found):
    with pytest.raises(ValueError, match="expected sha256"):
        pinned(TEXT, lambda _: found)


def test_every_image_in_the_files_is_found():
    """So that a way of writing that the expression does not know is seen."""
    texts = [path.read_text() for pattern in FILES for path in ROOT.glob(pattern)]
    assert references(texts)
    lines = [line for text in texts for line in text.splitlines() if "image:" in line or line.startswith("FROM ")]
    images = {line.split("#")[0].split("FROM ")[-1].split("image:")[-1].split()[0].split("@")[0] for line in lines}
    assert {image for image in images if not image.startswith("tidegate/")} == set(references(texts))
