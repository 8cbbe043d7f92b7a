"""Callers who leave cost nothing further; those who stay, and a server that ends, are not mistaken for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from http_rig import until

from serving.gateway.departure import CallerLeft, Presence


@dataclass
class Caller:
    """Somebody at the other end: `leave()` is what ASGI's receive tells of."""

    left: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0
    asking: int = 0
    message: str = "http.disconnect"

    async def receive(self):
        self.asked += 1
        self.asking += 1
        try:
            await self.left.wait()
            return {"type": self.message}
        finally:
            self.asking -= 1


@dataclass
class Work:
    """Work that ends when it is told to, and remembers when it was cancelled."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False

    async def run(self) -> str:
        try:
            await self.done.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "result"


def test_the_work_of_a_caller_who_leaves_is_cancelled():
    async def main():
        caller, work = Caller(), Work()
        task = asyncio.create_task(Presence().hold(caller.receive, work.run()))
        await until(lambda: caller.asking, "the caller is watched")
        caller.left.set()
        with pytest.raises(CallerLeft):
            await task
        assert work.cancelled
        assert task.cancelling() == 0  # whoever awaited it goes on as if nothing had been cancelled

    asyncio.run(main())


def test_neighbours_stay():
    async def main():
        presence = Presence()
        pairs = [(Caller(), Work()) for _ in range(5)]
        tasks = [asyncio.create_task(presence.hold(caller.receive, work.run())) for caller, work in pairs]
        await until(lambda: all(caller.asking for caller, _ in pairs), "all are watched")
        pairs[2][0].left.set()
        await until(tasks[2].done, "one left")
        for _, work in pairs:
            work.done.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results.pop(2), CallerLeft)
        assert results == ["result"] * 4
        assert [work.cancelled for _, work in pairs] == [False, False, True, False, False]

    asyncio.run(main())


def test_answers_that_come_soon_start_no_watcher():
    async def main():
        presence, callers = Presence(), [Caller() for _ in range(50)]

        async def soon():
            await asyncio.sleep(0)
            return "result"

        tasks = len(asyncio.all_tasks())
        for caller in callers:
            assert await presence.hold(caller.receive, soon()) == "result"
        assert len(asyncio.all_tasks()) == tasks
        await until(lambda: not presence._ticking, "nobody is there, so nothing ticks")
        await asyncio.sleep(0)  # a watcher that was started would ask now
        assert [caller.asked for caller in callers] == [0] * 50

    asyncio.run(main())


def test_an_answer_that_comes_before_the_second_tick_starts_no_watcher():
    async def main():
        presence, caller, work = Presence(), Caller(), Work()
        task = asyncio.create_task(presence.hold(caller.receive, work.run()))
        await until(lambda: presence._older, "it was there for a tick")
        work.done.set()
        assert await task == "result"
        await until(lambda: not presence._ticking, "nobody is there, so nothing ticks")
        await asyncio.sleep(0)  # a watcher that was started would ask now
        assert caller.asked == 0

    asyncio.run(main())


def test_many_callers_share_one_timer_and_are_asked_for_once():
    async def main():
        presence, loop = Presence(), asyncio.get_running_loop()
        timers = len(loop._scheduled)
        early, late = [(Caller(), Work()) for _ in range(20)], [(Caller(), Work())]
        tasks = [asyncio.create_task(presence.hold(caller.receive, work.run())) for caller, work in early]
        await asyncio.sleep(0)
        assert len(loop._scheduled) == timers + 1
        await until(lambda: early[0][0].asking, "the first are watched")
        tasks += [asyncio.create_task(presence.hold(caller.receive, work.run())) for caller, work in late]
        await until(lambda: late[0][0].asking, "the last is watched, some ticks later")
        assert {caller.asked for caller, _ in early + late} == {1}
        for _, work in early + late:
            work.done.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_whoever_comes_after_a_quiet_time_is_watched_too():
    async def main():
        presence = Presence()
        for _ in range(2):
            caller, work = Caller(), Work()
            task = asyncio.create_task(presence.hold(caller.receive, work.run()))
            await until(lambda caller=caller: caller.asking, "the caller is watched")
            caller.left.set()
            with pytest.raises(CallerLeft):
                await task
            await until(lambda: not presence._ticking, "nobody is there, so nothing ticks")

    asyncio.run(main())


def test_a_watcher_ends_with_the_answer():
    async def main():
        caller, work = Caller(), Work()
        task = asyncio.create_task(Presence().hold(caller.receive, work.run()))
        await until(lambda: caller.asking, "the caller is watched")
        work.done.set()
        assert await task == "result"
        await until(lambda: not caller.asking, "the watcher ended")
        assert not task.cancelled()

    asyncio.run(main())


def test_the_work_s_own_failure_is_passed_on():
    async def main():
        async def fail():
            raise ValueError("of the work")

        with pytest.raises(ValueError, match="of the work"):
            await Presence().hold(Caller().receive, fail())

    asyncio.run(main())


def test_the_server_s_cancellation_is_no_departure():
    async def main():
        caller, work = Caller(), Work()
        task = asyncio.create_task(Presence().hold(caller.receive, work.run()))
        await until(lambda: caller.asking, "the caller is watched")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.cancelled
        assert task.cancelled()

    asyncio.run(main())


def test_when_both_come_at_once_the_server_s_cancellation_goes_on():
    async def main():
        class Both(Caller):
            async def receive(self):
                message = await super().receive()
                task.cancel()
                return message

        caller, work = Both(), Work()
        task = asyncio.create_task(Presence().hold(caller.receive, work.run()))
        await until(lambda: caller.asking, "the caller is watched")
        caller.left.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())


def test_any_other_message_is_no_departure():
    async def main():
        caller, work = Caller(message="http.request"), Work()
        task = asyncio.create_task(Presence().hold(caller.receive, work.run()))
        await until(lambda: caller.asking, "the caller is watched")
        caller.left.set()
        await until(lambda: not caller.asking, "the message was read")
        work.done.set()
        assert await task == "result"

    asyncio.run(main())
