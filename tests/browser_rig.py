"""A real Chromium for tests of the playground, driven through Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright


def need_chromium() -> str:
    """Where it is; to be called by whatever cannot do without."""
    if found := shutil.which("chromium"):
        return found
    remedy = "no Chromium here: apt-get install chromium"
    if os.environ.get("CI"):
        pytest.fail(remedy)
    pytest.skip(remedy)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own; nothing is downloaded. Not to be held while another test runs an event loop."""
    program = need_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page, and what it complained of and asked for."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    @property
    def elsewhere(self) -> list[str]:
        own = (self.url, "blob:")
        return [request.url for request in self.requests if not request.url.startswith(own)]

    @property
    def labels(self) -> list[str]:
        return self.page.locator(".predictions .label").all_inner_texts()

    @property
    def curl(self) -> str:
        return self.page.inner_text("#curl")

    def run(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def choose(self, name: str, content: bytes) -> None:
        """Chooses a file and waits for the answer."""
        self.page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})
        self.answered()

    def answered(self) -> None:
        """Returns when nothing is under way and there is an answer or a problem."""
        self.page.wait_for_selector("#answer[aria-busy=false]:has(.who, #problem:not(:empty))")


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Watched]:
    """The playground at an address, in a fresh profile, ready to be used."""
    context = browser.new_context(**options)
    context.set_default_timeout(15_000)
    page = context.new_page()
    watched = Watched(page, url)

    def complain(message: ConsoleMessage) -> None:
        watched.complaints.append(f"{message.type}: {message.text}")

    page.on("console", complain)
    page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    page.on("request", lambda request: watched.requests.append(request))  # noqa: PLW0108  (it cannot wrap a builtin)
    try:
        page.goto(f"{url}/")
        page.wait_for_selector("#controls:visible, #key-form:visible, #problem:not(:empty)")
        yield watched
    finally:
        context.close()
