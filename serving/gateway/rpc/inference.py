"""ModelInfer and ModelStreamInfer.

In a stream several requests are answered at once, so that they meet in batches, and their answers leave in the order of
the requests. What becomes of one is said in its answer, and the stream goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from serving.engine import Call
from serving.errors import ShuttingDown, TidegateError
from serving.gateway.http import server_timing
from serving.gateway.open_inference import OpenInference
from serving.gateway.rpc.calls import OK, Calls, Inbound, receive, trailers
from serving.gateway.rpc.messages import Ask, answer, parse, read_ask, stream_answer, stream_error
from serving.gateway.rpc.statuses import status_of, text_of
from serving.pipeline import Inference

UNARY: Final = "ModelInfer"
STREAM: Final = "ModelStreamInfer"
AT_ONCE: Final = 128  # requests of a stream that are being answered or whose answers wait to be taken


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes of a request beside its raw tensors, and the longest it may take."""

    light: int
    request_s: float


class Inferences:
    """Both ways to ask for inference."""

    def __init__(self, protocol: OpenInference, calls: Calls, bounds: Bounds) -> None:
        self._protocol = protocol
        self._calls = calls
        self._bounds = bounds
        self._closing = asyncio.Event()

    def close_streams(self) -> None:
        """Streams take no more requests, answer those they have, and end."""
        self._closing.set()

    async def unary(self, call: Inbound) -> bytes:
        """One request, one answer."""
        deadline_s = call.deadline_s(self._bounds.request_s)
        traffic = self._calls.traffic
        traffic.enter()
        traffic.handed_over += 1
        try:
            message = parse(await receive(call), self._bounds.light)
            call.answered = inference = await self._infer(read_ask(message), call, deadline_s)
            data: bytes = answer(inference, message.id).SerializeToString()
        finally:
            traffic.handed_over -= 1
            traffic.leave()
        model = inference.graph.partition(".")[0]
        call.context.set_trailing_metadata(trailers(call, model, inference.version, server_timing(inference.stages)))
        if inference.afterwards is not None:
            asyncio.get_running_loop().call_soon(inference.afterwards)  # when this answer is on its way
        return data

    async def stream(self, call: Inbound) -> None:
        """Requests as they come, answers in their order."""
        answers = _Answers(call)
        writing = asyncio.create_task(answers.write())
        reading = asyncio.create_task(self._read(call, answers))
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait((writing, reading, closing), return_when=asyncio.FIRST_COMPLETED)
            ended = reading.done()
            if not ended:
                reading.cancel()
            answers.end()
            await writing
            if ended:
                await reading  # for its errors
            else:
                raise ShuttingDown("This gateway ends.", remedy="Open a stream to another one.")
        finally:
            for task in (writing, reading, closing, *answers.tasks):
                task.cancel()
            await asyncio.gather(writing, reading, closing, *answers.tasks, return_exceptions=True)

    async def _read(self, call: Inbound, answers: _Answers) -> None:
        read = call.context.read
        while True:
            await answers.room.acquire()
            data = await read()
            if not isinstance(data, bytes):
                return
            self._calls.check(call, "predict")  # a key that was revoked opens nothing more
            answers.put(asyncio.create_task(self._answer(call, data)))

    async def _answer(self, call: Inbound, data: bytes) -> tuple[bytes, Inference | None]:
        """The answer to one request of a stream, which may be an error."""
        request_id = ""
        calls = self._calls
        call = call.again()
        try:
            deadline_s = call.deadline_s(self._bounds.request_s)
            message = parse(data, self._bounds.light)
            request_id = message.id
            calls.traffic.enter()
            calls.traffic.handed_over += 1
            try:
                usage = calls.admit(call, "predict")
                call.trace = calls.begin(STREAM, call)
                try:
                    call.answered = inference = await self._infer(read_ask(message), call, deadline_s)
                    sent = stream_answer(inference, request_id)
                finally:
                    if usage is not None:
                        usage.leave()
            finally:
                calls.traffic.handed_over -= 1
                calls.traffic.leave()
        except asyncio.CancelledError:
            calls.tell_left(STREAM, call)
            raise
        except TidegateError as known:
            error = known
        except Exception:  # noqa: BLE001  (logged by bug)
            error = calls.bug(call)
        else:
            calls.count(STREAM, OK)
            calls.tell(STREAM, call, OK)
            return sent, inference
        status = status_of(error).name
        calls.count(STREAM, status)
        calls.tell(STREAM, call, status, error.code, error.of)
        return stream_error(text_of(error), request_id), None

    async def _infer(self, ask: Ask, call: Inbound, deadline_s: float) -> Inference:
        if ask.timeout_s is not None:
            deadline_s = min(deadline_s, time.monotonic() + ask.timeout_s)
        wanted = Call(deadline_s, ask.priority, request_id=call.request_id.encode(), trace=call.trace)
        return await self._protocol.infer(ask.name, ask.version, ask.inputs, ask.wanted, wanted, sticky=call.sticky)


class _Answers:
    """The answers of a stream on their way out, bounded: who takes none is asked for no further requests."""

    def __init__(self, call: Inbound) -> None:
        self.tasks: deque[asyncio.Task[Any]] = deque()
        self.room = asyncio.Semaphore(AT_ONCE)
        self._call = call
        self._some = asyncio.Event()
        self._ended = False

    def put(self, task: asyncio.Task[Any]) -> None:
        """For whoever has room: its answer is the next."""
        self.tasks.append(task)
        self._some.set()

    def end(self) -> None:
        self._ended = True
        self._some.set()

    async def write(self) -> None:
        write = self._call.context.write
        while True:
            while not self.tasks:
                if self._ended:
                    return
                self._some.clear()
                await self._some.wait()
            data, inference = await self.tasks[0]
            self.tasks.popleft()
            await write(data)
            self.room.release()
            if inference is not None and inference.afterwards is not None:
                inference.afterwards()
