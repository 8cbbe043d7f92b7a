"""gRPC calls one by one, the engine's gate in our hands: who leaves, who is late, who may not, and what streams do."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from grpc import StatusCode
from grpc_rig import doubled, refusal, request, rpc_serving, trailers, values_of
from http_rig import PATIENCE_S, until
from tritonclient.grpc import service_pb2 as pb

from serving.engines.fake import FakeEngine
from serving.gateway.access import ATTEMPTS
from serving.gateway.rpc.inference import AT_ONCE
from serving.gateway.rpc.service import ELSEWHERE, SERVICE
from serving.keys import KeyFile, make_key

pytestmark = pytest.mark.filterwarnings("error")


def met(test):
    """Runs a coroutine function of (gateway) as a test of its own loop."""

    def run(tmp_path, **settings):
        async def main():
            async with rpc_serving(tmp_path, settings=settings) as live:
                await test(live)

        asyncio.run(main())

    return run


# Answers


def test_an_answer_has_its_id_and_says_who_gave_it(tmp_path):
    @met
    async def check(live):
        call = live.infer(request(id="mine"), metadata=[("x-request-id", "abc-7")])
        answer = await call
        assert (answer.model_name, answer.model_version, answer.id) == ("double", "1", "mine")
        assert values_of(answer) == [2.0, 4.0]
        told = trailers(await call.trailing_metadata())
        assert (told["tidegate-model"], told["tidegate-version"], told["x-request-id"]) == ("double", "1", "abc-7")
        assert told["server-timing"].startswith("queue;dur=")
        again = live.infer(metadata=[("x-request-id", "no word")])
        await again
        assert trailers(await again.trailing_metadata())["x-request-id"] not in ("abc-7", "no word")
        assert live.counted() == {("grpc ModelInfer", "OK"): 2}
        assert live.parts.traffic.in_flight == live.parts.traffic.handed_over == 0

    check(tmp_path)


def test_before_models_are_loaded_it_lives_and_is_not_ready(tmp_path):
    async def main():
        async with rpc_serving(tmp_path, started=False) as live:
            assert (await live.stub.ServerLive(pb.ServerLiveRequest())).live
            assert not (await live.stub.ServerReady(pb.ServerReadyRequest())).ready
            assert not (await live.stub.ModelReady(pb.ModelReadyRequest(name="double"))).ready
            error = await refusal(live.infer())
            assert error.code() == StatusCode.UNAVAILABLE
            assert 1 <= int(trailers(error)["retry-after"]) <= 5
            await live.parts.start()
            assert (await live.stub.ServerReady(pb.ServerReadyRequest())).ready
            assert values_of(await live.infer()) == [2.0, 4.0]

    asyncio.run(main())


def test_requests_that_came_together_run_together(tmp_path):
    @met
    async def check(live):
        live.engine.gate.clear()
        first = live.infer()
        await until(lambda: live.engine.runs, "one runs")
        calls = [live.infer(request([[i, i]])) for i in range(8)]
        await until(lambda: live.waiting_rows == 8, "the others wait")
        live.engine.gate.set()
        assert [values_of(await call) for call in calls] == [[2.0 * i] * 2 for i in range(8)]
        await first
        assert [rows for _, rows in live.engine.runs] == [1, 8]

    check(tmp_path)


# Who leaves


@pytest.mark.parametrize("how", ["cancel", "leave"])
def test_nobody_computes_for_callers_who_left(tmp_path, how):
    @met
    async def check(live):
        live.engine.gate.clear()
        first = live.infer()
        await until(lambda: live.engine.runs, "one runs")
        async with grpc.aio.insecure_channel(live.rpc.address) as other:
            infer = other.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            calls = [infer(request().SerializeToString()) for _ in range(200)]
            await until(lambda: live.waiting_rows == 200, "all wait")
            if how == "cancel":
                for call in calls:
                    call.cancel()
                await until(lambda: live.waiting_rows == 0, "none waits")
        await until(lambda: live.waiting_rows == 0, "none waits")
        live.engine.gate.set()
        assert values_of(await first) == [2.0, 4.0]
        assert [rows for _, rows in live.engine.runs] == [1], "0 of 200 were executed"
        await until(lambda: live.parts.traffic.in_flight == 0, "none is in flight")

    check(tmp_path)


def test_nor_for_those_who_leave_a_stream(tmp_path):
    @met
    async def check(live):
        live.engine.gate.clear()
        first = live.infer()
        await until(lambda: live.engine.runs, "one runs")
        stream = live.stub.ModelStreamInfer()
        for _ in range(100):
            await stream.write(request())
        await until(lambda: live.waiting_rows == 100, "all wait")
        stream.cancel()
        await until(lambda: live.waiting_rows == 0, "none waits")
        live.engine.gate.set()
        await first
        assert [rows for _, rows in live.engine.runs] == [1]
        await until(lambda: live.parts.traffic.in_flight == 0, "none is in flight")

    check(tmp_path)


# Who is late


def microseconds(value: int):
    message = request()
    message.parameters["timeout"].int64_param = value
    return message


@pytest.mark.parametrize(
    ("longest_s", "call_s", "parameter"),
    [(60, 0.2, None), (60, 30, 200_000), (0.2, 30, None), (0.2, 30, 30_000_000)],
    ids=["the call's deadline", "the parameter", "the gateway's longest", "the parameter only shortens"],
)
def test_a_late_answer_is_none(tmp_path, longest_s, call_s, parameter):
    @met
    async def check(live):
        live.engine.gate.clear()
        message = request() if parameter is None else microseconds(parameter)
        begun_s = time.monotonic()
        error = await refusal(live.infer(message, timeout=call_s))
        assert error.code() == StatusCode.DEADLINE_EXCEEDED
        assert 0.15 < time.monotonic() - begun_s < 5
        await until(lambda: live.parts.traffic.in_flight == 0, "nobody waits")

    check(tmp_path, request_timeout_s=longest_s)


def test_without_a_deadline_one_waits_as_long_as_it_takes(tmp_path):
    @met
    async def check(live):
        live.engine.gate.clear()
        call = live.infer(timeout=None)
        await until(lambda: live.engine.runs, "it runs")
        await asyncio.sleep(0.3)
        live.engine.gate.set()
        assert values_of(await call) == [2.0, 4.0]

    check(tmp_path)


# Streams


async def spoken(live, messages, **given):
    """The stream's answers to these messages."""

    async def say():
        for message in messages:
            yield message

    return [one async for one in live.stub.ModelStreamInfer(say(), timeout=PATIENCE_S, **given)]


def test_a_stream_answers_in_order_and_its_requests_meet_in_batches(tmp_path):
    async def main():
        engine = FakeEngine(compute=doubled, service_s=lambda rows: 0.02)
        async with rpc_serving(tmp_path, engine) as live:
            answers = await spoken(live, [request([[i]], id=str(i)) for i in range(40)])
            assert [one.infer_response.id for one in answers] == [str(i) for i in range(40)]
            assert [values_of(one.infer_response) for one in answers] == [[2.0 * i] for i in range(40)]
            assert all(one.infer_response.parameters["triton_final_response"].bool_param for one in answers)
            assert max(rows for _, rows in engine.runs) > 1
            assert live.counted() == {("grpc ModelStreamInfer", "OK"): 40}

    asyncio.run(main())


def test_what_becomes_of_one_request_is_said_in_its_answer_and_the_stream_goes_on(tmp_path):
    @met
    async def check(live):
        wrong = request(id="wrong")
        wrong.inputs[0].name = "z"
        final = request(id="final")
        final.parameters["triton_enable_empty_final_response"].bool_param = True
        odd = request(id="odd")
        odd.parameters["triton_enable_empty_final_response"].int64_param = 1
        messages = [request(id="a"), wrong, request(id="nobody", name="nobody"), final, odd, request(id="z")]
        answers = await spoken(live, messages)
        told = [(one.infer_response.id, bool(one.error_message), len(one.infer_response.outputs)) for one in answers]
        assert told == [
            ("a", False, 1), ("wrong", True, 0), ("nobody", True, 0), ("final", False, 1), ("odd", True, 0),
            ("z", False, 1),
        ]  # fmt: skip
        assert "no model of that name" in answers[2].error_message
        assert live.counted() == {
            ("grpc ModelStreamInfer", "OK"): 3,
            ("grpc ModelStreamInfer", "INVALID_ARGUMENT"): 2,
            ("grpc ModelStreamInfer", "NOT_FOUND"): 1,
        }

    check(tmp_path)


def test_bytes_that_are_no_message_do_not_end_a_stream(tmp_path):
    @met
    async def check(live):
        stream = live.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")()
        for data in (b"\xff\xff", request(id="a").SerializeToString()):
            await stream.write(data)
        await stream.done_writing()
        answers = [pb.ModelStreamInferResponse.FromString(one) async for one in stream]
        assert [one.error_message for one in answers] == ["The message is no ModelInferRequest.", ""]

    check(tmp_path)


def test_a_stream_has_a_bound_of_requests_at_once(tmp_path):
    @met
    async def check(live):
        live.engine.gate.clear()
        stream = live.stub.ModelStreamInfer()

        async def write():
            for i in range(3 * AT_ONCE):
                await stream.write(request(id=str(i)))
            await stream.done_writing()

        writing = asyncio.create_task(write())
        await until(lambda: live.parts.traffic.in_flight == AT_ONCE, "as many as may are inside")
        await asyncio.sleep(0.2)
        assert live.parts.traffic.in_flight <= AT_ONCE + 1
        live.engine.gate.set()
        assert [one.infer_response.id async for one in stream] == [str(i) for i in range(3 * AT_ONCE)]
        await writing

    check(tmp_path)


def test_a_request_of_a_stream_that_is_late_is_an_error_in_the_stream(tmp_path):
    @met
    async def check(live):
        live.engine.gate.clear()
        answers = asyncio.create_task(spoken(live, [microseconds(100_000), request(id="b")]))
        await until(lambda: ("grpc ModelStreamInfer", "DEADLINE_EXCEEDED") in live.counted(), "one is late")
        live.engine.gate.set()
        assert [bool(one.error_message) for one in await answers] == [True, False]

    check(tmp_path)


# How much


def test_who_is_one_too_many_is_told_to_come_back(tmp_path):
    @met
    async def check(live):
        live.engine.gate.clear()
        inside = live.infer()
        await until(lambda: live.engine.runs, "one is inside")
        error = await refusal(live.infer())
        assert error.code() == StatusCode.UNAVAILABLE
        assert trailers(error)["tidegate-error"] == "busy"
        assert 1 <= int(trailers(error)["retry-after"]) <= 5
        (answer,) = await spoken(live, [request()])
        assert "As many requests are in flight" in answer.error_message
        live.engine.gate.set()
        await inside

    check(tmp_path, max_in_flight=1)


def test_a_message_has_a_largest_size(tmp_path):
    @met
    async def check(live):
        assert values_of(await live.infer(request([[1.0] * 250_000])))[:1] == [2.0]
        error = await refusal(live.infer(request([[1.0] * 290_000])))
        assert error.code() == StatusCode.RESOURCE_EXHAUSTED
        typed = request()
        del typed.raw_input_contents[:]
        typed.inputs[0].contents.fp32_contents.extend([1.0] * 50_000)
        error = await refusal(live.infer(typed))
        assert (error.code(), trailers(error)["tidegate-error"]) == (StatusCode.RESOURCE_EXHAUSTED, "body_too_large")
        assert "raw_input_contents" in error.details()

    check(tmp_path, body_limit=2**20, tensor_json_limit=100_000)


def test_metadata_has_a_largest_size(tmp_path):
    @met
    async def check(live):
        error = await refusal(live.infer(metadata=[("x-large", "x" * 100_000)]))
        assert error.code() == StatusCode.RESOURCE_EXHAUSTED
        assert values_of(await live.infer()) == [2.0, 4.0]

    check(tmp_path)


# What goes wrong here


def test_a_bug_is_internal_and_says_nothing_of_itself(tmp_path, caplog):
    def broken(key, inputs):
        raise KeyError("/etc/secret")

    async def main():
        async with rpc_serving(tmp_path, FakeEngine(compute=broken)) as live:
            error = await refusal(live.infer(metadata=[("x-request-id", "bug-1")]))
            assert error.code() == StatusCode.INTERNAL
            assert "secret" not in error.details()
            assert "Traceback" not in error.details()
            (answer,) = await spoken(live, [request()])
            assert "This request met a bug." in answer.error_message

    asyncio.run(main())
    assert "request bug-1 failed" in caplog.text
    assert "/etc/secret" in caplog.text


@pytest.mark.parametrize("method", ELSEWHERE)
def test_what_is_not_offered_says_what_to_do_instead(tmp_path, method):
    @met
    async def check(live):
        error = await refusal(live.bytes_to(method))
        assert error.code() == StatusCode.UNIMPLEMENTED
        assert method in error.details()
        assert ELSEWHERE[method] in error.details()

    check(tmp_path)


def test_all_methods_of_the_service_are_known(tmp_path):
    @met
    async def check(live):
        for method in SERVICE.methods:
            if method.name != "ModelStreamInfer":
                assert await live.bytes_to(method.name).details() != "Method not found!"
        assert await live.bytes_to("Nothing").details() == "Method not found!"
        assert (await refusal(live.bytes_to("Nothing"))).code() == StatusCode.UNIMPLEMENTED

    check(tmp_path)


@pytest.mark.parametrize("method", [one.name for one in SERVICE.methods if one.name not in ELSEWHERE])
def test_bytes_that_are_no_message_are_refused(tmp_path, method):
    @met
    async def check(live):
        if method != "ModelStreamInfer":
            error = await refusal(live.bytes_to(method, data=b"\xff\xff\xff"))
            assert (error.code(), trailers(error)["tidegate-error"]) == (StatusCode.INVALID_ARGUMENT, "body_invalid")

    check(tmp_path)


def test_a_call_without_a_message_is_refused(tmp_path):
    @met
    async def check(live):
        call = live.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")(timeout=PATIENCE_S)
        await call.done_writing()
        assert (await refusal(call)).code() == StatusCode.INVALID_ARGUMENT

    check(tmp_path)


# Keys


class Keyed:
    """A gateway with a key of each scope."""

    def __init__(self, folder, **limits):
        self.file = KeyFile(folder / "state" / "keys.json")
        self.keys = {scope: self.file.add(scope, [scope])[0] for scope in ("predict", "admin", "metrics")}
        if limits:
            self.keys["limited"] = self.file.add("limited", ["predict"], **limits)[0]

    def bearer(self, name: str) -> dict:
        return {"metadata": [("authorization", f"Bearer {self.keys[name]}")]}


def test_each_method_is_shut_but_for_its_scope(tmp_path):
    keyed = Keyed(tmp_path)

    @met
    async def check(live):
        for method in [one.name for one in SERVICE.methods]:
            for name in (None, "predict", "admin", "metrics"):
                given = keyed.bearer(name) if name else {}
                if method == "ModelStreamInfer":
                    stream = live.stub.ModelStreamInfer(**given)
                    await stream.done_writing()
                    code = await stream.code()
                else:
                    code = await live.bytes_to(method, **given).code()
                shut = {None: StatusCode.UNAUTHENTICATED, "predict": None}.get(name, StatusCode.PERMISSION_DENIED)
                if method in ("ServerLive", "ServerReady"):
                    shut = None
                assert (
                    (code == shut)
                    if shut
                    else code
                    not in (
                        StatusCode.UNAUTHENTICATED,
                        StatusCode.PERMISSION_DENIED,
                    )
                ), (method, name)

    check(tmp_path)


def test_a_stranger_is_refused_before_a_message_is_there(tmp_path):
    Keyed(tmp_path)

    @met
    async def check(live):
        for method in ("ModelInfer", "ModelStreamInfer"):
            call = live.channel.stream_stream(f"/inference.GRPCInferenceService/{method}")(timeout=PATIENCE_S)
            assert await call.code() == StatusCode.UNAUTHENTICATED, "nothing was sent"
            assert "tidegate keys add" in await call.details()

    check(tmp_path)


@pytest.mark.parametrize("wrong", ["KEYx", "Basic KEY", "two"])
def test_nearly_a_key_is_none(tmp_path, wrong):
    keyed = Keyed(tmp_path)

    @met
    async def check(live):
        right = ("authorization", f"Bearer {keyed.keys['predict']}")
        metadata = [right, right] if wrong == "two" else [(right[0], wrong.replace("KEY", keyed.keys["predict"]))]
        assert (await refusal(live.infer(metadata=metadata))).code() == StatusCode.UNAUTHENTICATED
        assert values_of(await live.infer(metadata=[right])) == [2.0, 4.0]

    check(tmp_path)


def test_many_wrong_keys_from_an_address_have_to_wait_and_right_ones_do_not(tmp_path):
    keyed = Keyed(tmp_path)

    @met
    async def check(live):
        wrong = [("authorization", f"Bearer {make_key()}")]
        codes = [(await refusal(live.infer(metadata=wrong))).code() for _ in range(ATTEMPTS)]
        assert codes == [StatusCode.UNAUTHENTICATED] * ATTEMPTS
        error = await refusal(live.infer(metadata=wrong))
        assert error.code() == StatusCode.RESOURCE_EXHAUSTED
        assert 1 <= int(trailers(error)["retry-after"]) <= 60
        assert values_of(await live.infer(**keyed.bearer("predict"))) == [2.0, 4.0]
        assert list(live.parts.access._attempts._times) == ["127.0.0.1"], "the address that HTTP's are counted by"

    check(tmp_path)


def test_a_rate_is_of_calls_and_of_messages_in_a_stream(tmp_path):
    keyed = Keyed(tmp_path, rate=2)

    @met
    async def check(live):
        for _ in range(2):
            await live.infer(**keyed.bearer("limited"))
        error = await refusal(live.infer(**keyed.bearer("limited")))
        assert error.code() == StatusCode.RESOURCE_EXHAUSTED
        assert int(trailers(error)["retry-after"]) >= 1
        answers = await spoken(live, [request(id=str(i)) for i in range(5)], **keyed.bearer("limited"))
        assert len(answers) == 5
        refused = [one for one in answers if "requests a second" in one.error_message]
        assert len(refused) >= 4

    check(tmp_path)


def test_places_at_once_are_given_back_however_a_call_ends(tmp_path):
    keyed = Keyed(tmp_path, concurrency=1)

    @met
    async def check(live):
        live.engine.gate.clear()
        inside = live.infer(**keyed.bearer("limited"))
        await until(lambda: live.engine.runs, "one is inside")
        assert (await refusal(live.infer(**keyed.bearer("limited")))).code() == StatusCode.RESOURCE_EXHAUSTED
        inside.cancel()
        await until(lambda: live.parts.traffic.in_flight == 0, "it left")
        live.engine.gate.set()
        await refusal(live.infer(request(name="nobody"), **keyed.bearer("limited")))
        assert not (await spoken(live, [request()], **keyed.bearer("limited")))[0].error_message
        assert values_of(await live.infer(**keyed.bearer("limited"))) == [2.0, 4.0]

    check(tmp_path)


def test_a_key_that_is_revoked_ends_its_stream(tmp_path):
    keyed = Keyed(tmp_path)

    @met
    async def check(live):
        stream = live.stub.ModelStreamInfer(timeout=PATIENCE_S, **keyed.bearer("predict"))
        await stream.write(request())
        assert not (await stream.read()).error_message
        keyed.file.revoke("predict")
        await asyncio.sleep(1)
        await stream.write(request())
        assert await stream.code() == StatusCode.UNAUTHENTICATED

    check(tmp_path)


# The end


def test_what_runs_is_finished_and_nothing_more_is_taken(tmp_path):
    @met
    async def check(live):
        live.engine.gate.clear()
        inside = live.infer()
        stream = live.stub.ModelStreamInfer(timeout=PATIENCE_S)
        await stream.write(request(id="inside"))
        idle = live.stub.ModelStreamInfer(timeout=PATIENCE_S)
        await idle.wait_for_connection()
        await until(lambda: live.parts.traffic.in_flight == 2, "both are inside")
        ending = asyncio.create_task(live.rpc.stop(PATIENCE_S))
        assert await idle.code() == StatusCode.UNAVAILABLE, "a stream that waits for nothing does not hold it up"
        assert (await refusal(live.infer())).code() == StatusCode.UNAVAILABLE
        assert not ending.done()
        live.engine.gate.set()
        assert values_of(await inside) == [2.0, 4.0]
        assert (await stream.read()).infer_response.id == "inside"
        assert await stream.code() == StatusCode.UNAVAILABLE
        await asyncio.wait_for(ending, PATIENCE_S)

    check(tmp_path)


def test_who_is_not_answered_when_the_time_to_drain_is_over_is_told_so(tmp_path):
    @met
    async def check(live):
        live.engine.gate.clear()
        inside = live.infer()
        stream = live.stub.ModelStreamInfer(timeout=PATIENCE_S)
        await stream.write(request())
        await until(lambda: live.parts.traffic.in_flight == 2, "both are inside")
        begun_s = time.monotonic()
        await live.rpc.stop(0.2)
        assert time.monotonic() - begun_s < 5
        error = await refusal(inside)
        assert (error.code(), trailers(error)["tidegate-error"]) == (StatusCode.UNAVAILABLE, "shutting_down")
        assert await stream.code() == StatusCode.UNAVAILABLE

    check(tmp_path)
