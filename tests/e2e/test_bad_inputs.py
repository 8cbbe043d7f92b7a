"""Every bad input is refused in one shape, tells nothing of the inside, and leaves the gateway as it was."""

from __future__ import annotations

import base64
import json
import random
import re

import httpx
import pytest
import tiny
from http_rig import PATIENCE_S, Answer, connect, exchange, gateway_process, picture, png_of_size, request_bytes, reset

GOOD = picture(red=64)
GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
PNG = {"content-type": "image/png"}

# What no answer may have in it: paths, tracebacks, names of classes, modules and libraries, addresses.
LEAKS = re.compile(
    r"/work|/tmp|/usr|/root|/home|site-packages|\.py\b|Traceback|File \"|line \d+, in|Exception|[A-Za-z]Error\b|"
    r"ImageInvalid|NotFound|TidegateError|serving\.|pydantic|orjson|numpy|onnx|PIL|starlette|uvicorn|multipart\.|"
    r"127\.0\.0\.1|localhost|0x[0-9a-f]{6}|<class|object at|\\x",
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    tiny.add_classifier(folder / "repository")
    tiny.add_plain(folder / "repository")
    with gateway_process(folder / "repository", folder / "state") as process:
        yield process
        log = process.log.read_text()
    assert "Traceback" not in log
    assert "Evil" not in log


@pytest.fixture(scope="module")
def client(gateway):
    with httpx.Client(base_url=gateway.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="module")
def good_reply(client):
    return client.post("/v1/classify", content=GOOD, headers=PNG).json()


@pytest.fixture(autouse=True)
def good_after_bad(client, good_reply):
    """Whatever a test sent: the gateway lives, and the next good request is right."""
    yield
    assert client.get("/livez").status_code == 200
    assert client.post("/v1/classify", content=GOOD, headers=PNG).json() == good_reply
    assert good_reply["predictions"][0]["label"] == "red"


def check_problem(answer: httpx.Response | Answer, status: int, code: str) -> None:
    if isinstance(answer, httpx.Response):
        answer = Answer(answer.status_code, answer.headers, answer.content)
    problem = answer.json
    assert (answer.status, problem["code"]) == (status, code), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"urn:tidegate:error:{code}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["remedy"]
    assert set(problem) <= {"type", "title", "status", "detail", "instance", "code", "remedy"}
    assert re.fullmatch("[A-Za-z0-9._-]+", answer.headers["x-request-id"])
    said = {key: value for key, value in problem.items() if key != "instance"}  # which is what the caller sent
    assert not LEAKS.search(json.dumps(said)), problem


def check_v2(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"]
    assert answer.headers["x-request-id"]
    assert not LEAKS.search(answer.text), answer.text


def as_json(**fields) -> dict:
    return {
        "content": json.dumps({"image": base64.b64encode(GOOD).decode(), **fields}),
        "headers": {"content-type": "application/json"},
    }


def as_text(text: str | bytes) -> dict:
    return {"content": text, "headers": {"content-type": "application/json"}}


def raw(content: bytes, content_type: str = "image/png") -> dict:
    return {"content": content, "headers": {"content-type": content_type}}


PICTURES = {
    "no picture": raw(b"these are words"),
    "0 bytes": raw(b""),
    "cut short": raw(GOOD[:-20]),
    "header only": raw(GOOD[:33]),
    "signature only": raw(GOOD[:8]),
    "0 x 0": raw(png_of_size(0, 0)),
    "0 wide": raw(png_of_size(0, 8)),
    "no pixels behind the header": raw(png_of_size(8, 8)),
    "GIF": raw(GIF, "image/gif"),
    "GIF that says it is a PNG": raw(GIF),
    "SVG": raw(b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
    "PDF": raw(b"%PDF-1.7\n", "image/png"),
    "ZIP": raw(b"PK\x03\x04" + b"\0" * 26),
    "empty base64": as_text('{"image": ""}'),
    "form with an empty file": {"files": {"image": b""}},
}


@pytest.mark.parametrize("name", PICTURES)
def test_what_is_no_picture_is_refused(client, name):
    check_problem(client.post("/v1/classify", **PICTURES[name]), 422, "image_invalid")


@pytest.mark.parametrize("size", [(30_000, 30_000), (8193, 1), (1, 8193), (5001, 5000), (2**31 - 1, 2**31 - 1)])
def test_more_pixels_than_are_accepted_are_refused_by_the_header(client, size):
    check_problem(client.post("/v1/classify", **raw(png_of_size(*size))), 422, "image_too_large")


BODIES = {
    "no JSON": as_text("image"),
    "nothing": as_text(""),
    "list": as_text("[]"),
    "number": as_text("5"),
    "null": as_text("null"),
    "100,000 levels": as_text('{"image":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "100,000 levels, open": as_text("[" * 100_000),
    "NaN": as_text('{"image": "", "top_k": NaN}'),
    "1e999": as_text('{"image": "", "top_k": 1e999}'),
    "half a surrogate": as_text('{"image": "\\ud800"}'),
    "5,000 digits": as_text('{"image": "", "top_k": ' + "9" * 5000 + "}"),
    "not UTF-8": as_text(b'{"image": "\xff"}'),
    "UTF-16": as_text('{"image": ""}'.encode("utf-16")),
    "no image": as_text("{}"),
    "image is a list": as_text('{"image": []}'),
    "bad base64": as_text('{"image": "!"}'),
    "base64 without its padding": as_text('{"image": "QQ"}'),
    "base64 in lines": as_text('{"image": "QUJD\\nQUJD"}'),
    "URL for an image": as_text('{"image": "http://169.254.169.254/latest/meta-data"}'),
    "file for an image": as_text('{"image": "file:///etc/passwd"}'),
    "form without the part": {"files": {"picture": GOOD}},
    "form that is none": raw(b"x", "multipart/form-data; boundary=b"),
    "form without a boundary": raw(b"x", "multipart/form-data"),
    "form cut short": raw(
        b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + GOOD, "multipart/form-data; boundary=b"
    ),
    "form of 65 parts": {"files": [("image", GOOD)] * 65},
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_not_what_it_says_is_refused(client, name):
    check_problem(client.post("/v1/classify", **BODIES[name]), 400, "body_invalid")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/xml",
        "video/mp4",
        "multipart/mixed; boundary=b",
        "*/*",
    ],
)
def test_other_content_types_are_refused(client, content_type):
    """The first is what `curl --data-binary @cat.jpg` sends by default."""
    check_problem(client.post("/v1/classify", **raw(GOOD, content_type)), 415, "media_type_unsupported")


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate"])
def test_compressed_bodies_are_refused(client, encoding):
    answer = client.post("/v1/classify", content=GOOD, headers={**PNG, "content-encoding": encoding})
    check_problem(answer, 415, "media_type_unsupported")


PARAMETERS = [
    *(
        ("top_k", value)
        for value in ("0", "-1", "1000000000", "1001", "abc", "true", "", "1.5", "nan", "9" * 5000, "5,", "٣3")
    ),
    *(
        ("version", value)
        for value in ("0", "01", "+1", "1_0", "-1", "abc", "", "1.0", " 1", "1e3", "9" * 11, "9" * 5000)
    ),
    *(("label", value) for value in ("", "shadow", "STABLE", "stable ")),
    ("model", ""),
    *((name, "1") for name in ("topk", "image", "TOP_K", "__class__", "top_k[]", "a" * 1000, "a\r\nX-Evil: 1")),
]


@pytest.mark.parametrize(
    ("name", "value"), PARAMETERS, ids=[f"{name[:10]!r}={value[:12]!r}" for name, value in PARAMETERS]
)
def test_a_wrong_parameter_is_refused_in_the_query_and_in_a_form(client, name, value):
    check_problem(client.post("/v1/classify", **raw(GOOD), params={name: value}), 422, "parameter_invalid")
    if name != "image":
        form = client.post("/v1/classify", files={"image": GOOD}, data={name: value})
        check_problem(form, 422, "parameter_invalid")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("top_k", value) for value in (0, 10**9, True, False, "abc", 1.5, None, [1], {})),
        *(("version", value) for value in (0, -1, True, 1.0, "1 ", [1], 10**12)),
        *(("model", value) for value in (5, True, [], {"a": 1})),
        *(("label", value) for value in (5, [], "live")),
        ("unknown", 1),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_wrong_parameter_is_refused_in_json(client, name, value):
    check_problem(client.post("/v1/classify", **as_json(**{name: value})), 422, "parameter_invalid")


def test_a_wrong_parameter_is_named_and_an_unknown_one_shown_what_there_is(client):
    assert "top_k" in client.post("/v1/classify", **raw(GOOD), params={"top_k": 0}).json()["detail"]
    unknown = client.post("/v1/classify", **raw(GOOD), params={"topk": 1}).json()
    assert "top_k" in unknown["remedy"]
    assert "topk" not in unknown["detail"] + unknown["remedy"].replace("top_k", "")


def test_too_many_parameters_are_refused(client):
    params = {f"f{i}": 1 for i in range(65)}
    check_problem(client.post("/v1/classify", **raw(GOOD), params=params), 422, "parameter_invalid")


# Names that would lead somewhere if any of them were ever joined into a path, decoded twice or put into a header.
NAMES = ["..", "../colours", "../../etc/passwd", "colours/../double", "/etc/passwd", "colours\0", "\0",
         "a\r\nX-Evil: 1",
         "C:\\con", "\\\\host\\share", "colours ", "COLOURS", "colours/1", "colours.onnx", ".", "~", "%2e%2e", "%252e",
         "\uff0e\uff0e", "c\N{CYRILLIC SMALL LETTER O}lours", "a" * 64, "a" * 5000,
         "{model}", "$(id)", "*", "file:///etc/passwd", "-"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:24] for name in NAMES])
def test_a_name_that_no_model_has_is_not_found_however_it_is_sent(client, name):
    check_problem(client.post("/v1/classify", **raw(GOOD), params={"model": name}), 404, "model_not_found")
    check_problem(client.post("/v1/classify", **as_json(model=name)), 404, "model_not_found")


@pytest.mark.parametrize(
    "segment",
    ["nobody", "..", "%2e%2e", "%2e%2e%2f%2e%2e", "..%2fcolours", "%2fetc%2fpasswd", "a%2fb", "%00", "colours%00",
     "a%0d%0aX-Evil:%201", "%5c..%5c", "%252e%252e", "%25%32%65", "%ff", "%ef%bc%8e", "colours;x", "colours%20",
     "x" * 5000],
)  # fmt: skip
def test_a_path_that_no_model_has_is_not_found(gateway, segment):
    """Over a raw socket: clients would tidy these up before they send them."""
    for prefix, v2 in (("/v1/models/", False), ("/v2/models/", True)):
        target = f"{prefix}{segment}/infer" if v2 else prefix + segment
        tensor = b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}'
        data = request_bytes(target, tensor, "POST") if v2 else request_bytes(target, b"", "GET")
        answer = exchange(gateway.url, data)
        assert answer.status == 404
        assert not any("evil" in name for name in answer.headers)
        assert list(answer.json) == ["error"] if v2 else answer.json["code"] in ("model_not_found", "route_not_found")
        assert "x-request-id" in answer.headers


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({"model": "double"}, 409, "task_mismatch"),
        ({"version": "2"}, 404, "version_not_found"),
        ({"version": "9999999999"}, 404, "version_not_found"),
        ({"label": "canary"}, 404, "version_not_found"),
    ],
    ids=["other task", "no such version", "largest version", "no canary"],
)
def test_what_there_is_not_is_said_with_what_there_is(client, params, status, code):
    check_problem(client.post("/v1/classify", **raw(GOOD), params=params), status, code)


def tensor(**changes) -> dict:
    return {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0], **changes}]}


def infer(number: str) -> str:
    return '{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, ' + number + "]}]}"


TENSORS = {
    "NaN": infer("NaN"),
    "Infinity": infer("Infinity"),
    "1e999": infer("1e999"),
    "1e39 in FP32": infer("1e39"),
    "400 digits": infer("9" * 400),
    "text": infer('"1"'),
    "null": infer("null"),
    "deep": infer("[" * 100_000),
    "no JSON": "x",
    "list": "[]",
    "no inputs": "{}",
    "unknown datatype": json.dumps(tensor(datatype="FP8")),
    "other datatype": json.dumps(tensor(datatype="INT32", data=[1, 2])),
    "other name": json.dumps(tensor(name="z")),
    "shape that lies": json.dumps(tensor(shape=[2, 2])),
    "shape that overflows": json.dumps(tensor(shape=[2**32, 2**32])),
    "shape of nothing that overflows": json.dumps(tensor(shape=[0, 2**63], data=[])),
    "no rows": json.dumps(tensor(shape=[0, 2], data=[])),
    "no axis": json.dumps(tensor(shape=[], data=[1])),
    "negative size": json.dumps(tensor(shape=[-1, -2])),
    "more rows than a batch": json.dumps(tensor(shape=[9, 1], data=[1] * 9)),
    "unknown output": json.dumps({**tensor(), "outputs": [{"name": "z"}]}),
    "an output twice": json.dumps({**tensor(), "outputs": [{"name": "y"}] * 2}),
    "outputs without names": json.dumps({**tensor(), "outputs": [{}]}),
    "outputs that are no list": json.dumps({**tensor(), "outputs": {"name": "y"}}),
    "negative priority": json.dumps({**tensor(), "parameters": {"priority": -1}}),
    "priority in words": json.dumps({**tensor(), "parameters": {"priority": "high"}}),
    "priority true": json.dumps({**tensor(), "parameters": {"priority": True}}),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_cannot_be_used_are_refused_in_the_protocol_s_shape(client, name):
    check_v2(client.post("/v2/models/double/infer", content=TENSORS[name]), 400)


@pytest.mark.parametrize("version", ["0", "01", "+1", "1_0", "-1", "abc", "%201", "1.0", "99999999999"])
def test_a_version_that_is_no_number_is_refused_in_the_protocol_s_shape(client, version):
    check_v2(client.post(f"/v2/models/double/versions/{version}/infer", json=tensor()), 400)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/nobody/infer",
        "/v2/models/double/versions/2/infer",
        "/v2/models/double/versions/9999999999/infer",
        "/v2/nothing",
    ],
)
def test_what_the_protocol_does_not_find_has_its_shape(client, path):
    check_v2(client.post(path, json=tensor()), 404)


def test_numbers_that_double_beyond_their_type_are_the_model_s_fault(client):
    check_v2(client.post("/v2/models/double/infer", json=tensor(data=[3e38, 0])), 502)


def test_more_json_than_is_read_in_one_go_is_refused(client):
    answer = client.post("/v2/models/double/infer", content=b" " * (2**20 + 1))
    check_v2(answer, 413)
    assert "Tensors in JSON" in answer.json()["error"]


@pytest.mark.parametrize("header", ["0", "-1", "1.5", "abc", "1e3", "9" * 13])
def test_a_deadline_that_is_none_is_refused(client, header):
    headers = {**PNG, "x-request-timeout-ms": header}
    check_problem(client.post("/v1/classify", content=GOOD, headers=headers), 422, "parameter_invalid")
    check_v2(client.post("/v2/models/double/infer", json=tensor(), headers={"x-request-timeout-ms": header}), 400)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_a_wrong_method_is_refused_with_the_right_one(client, method):
    answer = client.request(method, "/v1/classify")
    check_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_a_head_is_answered_without_a_body(client):
    assert (client.head("/v1/classify").status_code, client.head("/v1/classify").content) == (405, b"")


@pytest.mark.parametrize(
    "target", ["/nothing", "/v1", "/v1/classify/", "//v1/classify", "/V1/classify", "/v1/classify%2f", "/v1/%00", "*"]
)
def test_an_unknown_path_is_refused(gateway, target):
    answer = exchange(gateway.url, request_bytes(target, GOOD))
    if answer.status == 405:
        pytest.fail(f"{target} is a path")
    check_problem(answer, 404, "route_not_found")


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/models", "/nothing"])
@pytest.mark.parametrize(
    "headers", [{f"x-{i}": "1" for i in range(101)}, {"x": "1" * 2**20}], ids=["too many", "too long"]
)
def test_heads_out_of_all_proportion_are_refused(gateway, path, headers):
    answer = exchange(gateway.url, request_bytes(path, GOOD, **headers))
    check_problem(answer, 431, "headers_too_many")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("end", ["reset", "close", "half-close"])
@pytest.mark.parametrize(
    "sent", [10, 60, 120, -1], ids=["in the line", "in the head", "in the body", "before the last byte"]
)
def test_a_request_that_is_never_finished_harms_nobody(gateway, end, sent):
    connection = connect(gateway.url)
    connection.sendall(request_bytes("/v1/classify", GOOD)[:sent])
    if end == "reset":
        reset(connection)
    elif end == "half-close":
        connection.shutdown(1)
        assert connection.recv(1) == b""  # nobody is answered: a request is whole or none
    connection.close()


def test_a_request_that_stays_half_sent_ends_with_its_deadline(gateway):
    with connect(gateway.url) as connection, connection.makefile("rb") as stream:
        connection.sendall(request_bytes("/v1/classify", GOOD, x_request_timeout_ms="50")[:-1])
        status, *_ = stream.readline().split()[1:]
        assert status == b"504"


def test_damaged_requests_of_any_kind_are_refused_or_closed(gateway):
    """Bytes changed, lost or doubled anywhere in a request. Where it still is one, the answer is no fault of ours."""
    pick = random.Random(20_260_101)
    whole = request_bytes("/v1/classify?top_k=1", GOOD, connection="close")
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(pick.randrange(1, 4)):
            place = pick.randrange(len(data))
            data[place : place + pick.randrange(3)] = bytes(pick.randrange(256) for _ in range(pick.randrange(3)))
        with connect(gateway.url) as connection:
            connection.sendall(bytes(data))
            connection.shutdown(1)
            answer = b""
            while part := connection.recv(2**16):
                answer += part
        assert not answer or re.match(rb"HTTP/1.1 (200|4\d\d) ", answer), (bytes(data), answer)
