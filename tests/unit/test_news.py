"""News reach all who wait, and nobody who came later."""

from __future__ import annotations

import asyncio
import time

from serving.news import News


def test_all_who_wait_hear_of_it_and_whoever_comes_later_waits():
    async def main():
        news = News()
        waiting = [asyncio.create_task(news.wait(10)) for _ in range(3)]
        await asyncio.sleep(0)
        news.tell()
        began_s = time.monotonic()
        await asyncio.gather(*waiting)
        assert time.monotonic() - began_s < 1
        began_s = time.monotonic()
        await news.wait(0.05)
        assert time.monotonic() - began_s >= 0.04

    asyncio.run(main())
