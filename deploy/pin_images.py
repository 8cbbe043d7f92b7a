"""`make pin-images`: the tags of images in deploy/ and docker-compose.yml, with the digests that they have now.

A tag can be moved to another image, a digest cannot. Registries are asked through Docker: it needs that and a network.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FILES: Final = ("docker-compose.yml", "deploy/*/Dockerfile", "deploy/kubernetes/**/*.yaml", "deploy/kserve/*.yaml")
OURS: Final = "tidegate/"
# `image: NAME:TAG` and `FROM NAME:TAG`, with the digest of an earlier time or without.
REFERENCE: Final = re.compile(
    r"^(\s*(?:- )?image: |FROM )([a-z0-9][\w./-]*:[\w.-]+)(?:@sha256:[0-9a-f]{64})?(?=\s|$)", re.MULTILINE
)
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def references(texts: Iterable[str]) -> list[str]:
    """The images of others, as NAME:TAG, each once. Those that are built here have no digest before they are pushed."""
    found = {match[2] for text in texts for match in REFERENCE.finditer(text)}
    return sorted(image for image in found if not image.startswith(OURS))


def pinned(text: str, digest_of: Callable[[str], str]) -> str:
    """The text with each image of others as NAME:TAG@DIGEST. ValueError for what is no digest."""

    def pin(match: re.Match[str]) -> str:
        image = match[2]
        if image.startswith(OURS):
            return match[0]
        digest = digest_of(image)
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"{image}: expected sha256:... ; found {digest[:80]!r}")
        return f"{match[1]}{image}@{digest}"

    return REFERENCE.sub(pin, text)


def ask(image: str) -> str:
    """The digest that the registry has for the tag: of the list of platforms, where there are several."""
    command = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


def main() -> int:
    """0 when all are pinned. Nothing is written when one cannot be."""
    files = [path for pattern in FILES for path in sorted(ROOT.glob(pattern))]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    try:
        digests = {image: ask(image) for image in references(texts.values())}
        new = {path: pinned(text, digests.__getitem__) for path, text in texts.items()}
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip()
        print(f"pin-images: nothing was changed. It needs Docker with buildx, and a network. {said}", file=sys.stderr)
        return 1
    for path, text in new.items():
        if text != texts[path]:
            path.write_text(text, encoding="utf-8")
            print(f"pinned {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
