"""The door: who is let in, how each way out is answered and counted, and that the place is free again after it."""

from __future__ import annotations

import asyncio
import logging

import pytest
from http_rig import Exchange, until

from serving.errors import BodyInvalid, QueueFull
from serving.gateway.body import read_body
from serving.gateway.departure import CallerLeft
from serving.gateway.errors import protocol_error
from serving.gateway.http import Outbound, Stream
from serving.gateway.traffic import MAX_HEAD, MAX_HEADERS, Endpoint, Traffic
from serving.telemetry import Meters


class Door:
    """An endpoint of one route, and what its meters say."""

    def __init__(self, handler, limit: int = 2, **shape) -> None:
        self.meters = Meters()
        self.traffic = Traffic(self.meters, limit)
        self.endpoint = Endpoint("/route/{name}", handler, self.traffic, **shape)

    async def send(self, exchange: Exchange) -> Exchange:
        await self.endpoint(exchange.scope, exchange.receive, exchange.send)
        return exchange

    def counted(self) -> dict[str, float]:
        """status -> answers."""
        samples = [sample for family in self.meters.registry.collect() for sample in family.samples]
        responses = [sample for sample in samples if sample.name == "tidegate_http_responses_total"]
        assert {sample.labels["route"] for sample in responses} <= {"/route/{name}"}
        return {sample.labels["status"]: sample.value for sample in responses}

    @property
    def in_flight(self) -> float | None:
        return self.meters.registry.get_sample_value("tidegate_in_flight_requests")


async def fine(request) -> Outbound:
    return Outbound(b"{}")


def raising(error: BaseException):
    async def handle(request):
        raise error

    return handle


def test_answers_are_counted_by_status():
    async def main():
        door = Door(fine)
        answers = [(await door.send(Exchange(headers={"x-request-id": "mine"}))).answer for _ in range(3)]
        assert {(answer.status, answer.body, answer.headers["x-request-id"]) for answer in answers} == {
            (200, b"{}", "mine")
        }
        assert door.counted() == {"200": 3}
        assert door.in_flight == 0

    asyncio.run(main())


def test_who_is_one_too_many_is_refused_before_a_byte_of_the_body_is_read():
    async def main():
        opened = asyncio.Event()

        async def handle(request):
            await read_body(request, 100)
            await opened.wait()
            return Outbound(b"{}")

        door = Door(handle, limit=2)
        inside = [asyncio.create_task(door.send(Exchange((b"body",)))) for _ in range(2)]
        await until(lambda: door.in_flight == 2, "two are inside")
        refused = await asyncio.wait_for(door.send(Exchange((b"body",))), 5)
        assert refused.read == 0
        assert refused.answer.json["code"] == "busy"
        assert refused.answer.status == 503
        assert 1 <= int(refused.answer.headers["retry-after"]) <= 5
        assert door.in_flight == 2
        opened.set()
        assert [exchange.answer.status for exchange in await asyncio.gather(*inside)] == [200, 200]
        assert door.in_flight == 0
        assert (await door.send(Exchange((b"body",)))).answer.status == 200
        assert door.counted() == {"200": 3, "503": 1}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (QueueFull("Full."), 503, "queue_full"),
        (BodyInvalid("Bad."), 400, "body_invalid"),
        (KeyError("secret"), 500, "internal_error"),
    ],
)
def test_failures_are_answered_counted_and_leave_their_place(error, status, code, caplog):
    async def main():
        door = Door(raising(error))
        answer = (await door.send(Exchange(path="/route/x", headers={"x-request-id": "id-7"}))).answer
        assert (answer.status, answer.json["code"], answer.json["instance"]) == (status, code, "/route/x")
        assert answer.headers["x-request-id"] == "id-7"
        assert door.counted() == {str(status): 1}
        assert door.in_flight == 0
        return answer

    answer = asyncio.run(main())
    if status == 500:
        assert b"secret" not in answer.body
        (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert "id-7" in record.message
        assert record.exc_info is not None


def test_routes_have_their_own_shape_of_errors():
    async def main():
        door = Door(raising(QueueFull("Full.", remedy="Wait.")), shape=protocol_error)
        assert (await door.send(Exchange())).answer.json == {"error": "Full. Wait."}

    asyncio.run(main())


def test_who_has_left_is_not_answered():
    async def main():
        door = Door(raising(CallerLeft()))
        assert (await door.send(Exchange())).sent == []
        assert door.counted() == {}
        assert door.in_flight == 0

    asyncio.run(main())


def test_who_is_cancelled_when_the_time_to_drain_is_over_is_told_to_go_elsewhere():
    async def main():
        door = Door(lambda request: asyncio.Event().wait())
        exchange = Exchange()
        task = asyncio.create_task(door.send(exchange))
        await until(lambda: door.in_flight == 1, "it is inside")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (exchange.answer.status, exchange.answer.json["code"]) == (503, "shutting_down")
        assert door.counted() == {"503": 1}
        assert door.in_flight == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-%d" % i, b"1") for i in range(MAX_HEADERS + 1)],
        [(b"x", b"1")] * (MAX_HEADERS + 1),
        [(b"x", b"1" * MAX_HEAD)],
        [(b"x" * MAX_HEAD, b"1")],
        [(b"x-%02d" % i, b"1" * (MAX_HEAD // 99)) for i in range(100)],
    ],
    ids=["names", "one name over and over", "a long value", "a long name", "long together"],
)
def test_heads_out_of_all_proportion_are_refused_unread(headers):
    async def main():
        door = Door(fine)
        exchange = await door.send(Exchange(more_headers=headers))
        assert (exchange.answer.status, exchange.answer.json["code"]) == (431, "headers_too_many")
        assert exchange.answer.headers["connection"] == "close"
        assert exchange.read == 0
        assert door.counted() == {"431": 1}

    asyncio.run(main())


def test_as_many_headers_as_may_be_are_taken():
    headers = [(b"x-%d" % i, b"1" * 600) for i in range(MAX_HEADERS)]
    assert asyncio.run(Door(fine).send(Exchange(more_headers=headers))).answer.status == 200


# Answers that come in parts


def streaming(parts):
    async def handle(request) -> Stream:
        await read_body(request, 0)
        return Stream(parts(), b"text/event-stream", ((b"cache-control", b"no-store"),))

    return handle


def test_a_stream_is_sent_part_by_part_and_is_in_flight_no_more():
    async def main():
        seen = []

        async def parts():
            for part in (b"one", b"two"):
                seen.append(door.in_flight)
                yield part

        door = Door(streaming(parts))
        exchange = await door.send(Exchange(headers={"x-request-id": "mine"}))
        start, *bodies = exchange.sent
        assert start["status"] == 200
        assert dict(start["headers"])[b"content-type"] == b"text/event-stream"
        assert dict(start["headers"])[b"cache-control"] == b"no-store"
        assert dict(start["headers"])[b"x-request-id"] == b"mine"
        assert b"content-length" not in dict(start["headers"])
        assert [(one["body"], one.get("more_body", False)) for one in bodies] == [
            (b"one", True),
            (b"two", True),
            (b"", False),
        ]
        assert seen == [0, 0], "a drain does not wait for it"
        assert door.counted() == {"200": 1}

    asyncio.run(main())


def test_a_stream_ends_when_its_caller_leaves():
    async def main():
        closed = asyncio.Event()

        async def parts():
            try:
                while True:
                    yield b"x"
                    await asyncio.sleep(0.01)
            finally:
                closed.set()

        class Leaving(Exchange):
            async def receive(self):
                self.read += 1
                if self.read == 1:
                    return {"type": "http.request", "body": b"", "more_body": False}
                await until(lambda: len(self.sent) > 3, "some was sent")
                return {"type": "http.disconnect"}

        door = Door(streaming(parts))
        exchange = await door.send(Leaving())
        assert closed.is_set()
        assert exchange.sent[-1]["body"] == b"x", "nobody is told of an end"
        assert door.in_flight == 0

    asyncio.run(main())
