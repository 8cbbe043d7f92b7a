"""The payload and the parameters, by each way a caller may send them, and what is said of all other ways."""

from __future__ import annotations

import base64
import json
from contextlib import suppress

import pytest
from http_rig import Exchange
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import BodyInvalid, MediaTypeUnsupported, ParameterInvalid
from serving.gateway.payload import read_json, read_payload, read_version, take_target
from serving.versions.router import Target

IMAGE = b"\x89PNG \x00\xff"
TEXT = base64.b64encode(IMAGE).decode()


def read(body: bytes, content_type: str | None = None, query: str = ""):
    headers = {} if content_type is None else {"content-type": content_type}
    return read_payload(Exchange(headers=headers, query=query).inbound, body, ("image",))[1:]


@pytest.mark.parametrize(
    "content_type",
    [None, "", "image/png", "image/anything", "IMAGE/PNG", "image/png; q=1", "application/octet-stream", " image/png "],
)
def test_a_raw_body_is_the_payload(content_type):
    assert read(IMAGE, content_type, "top_k=3") == (IMAGE, {"top_k": "3"})


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/json ;x"]
)
def test_json_has_the_payload_as_base64_and_parameters_beside_it(content_type):
    body = json.dumps({"image": TEXT, "top_k": 3}).encode()
    assert read(body, content_type) == (IMAGE, {"top_k": 3})


def test_a_data_url_is_base64_behind_its_comma():
    assert read(json.dumps({"image": f"data:image/png;base64,{TEXT}"}).encode(), "application/json")[0] == IMAGE


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/jsonx",
        "multipart/mixed; boundary=b",
        "x",
        "image",
    ],
)
def test_other_content_types_are_refused_with_the_ways_there_are(content_type):
    with pytest.raises(MediaTypeUnsupported) as caught:
        read(IMAGE, content_type)
    assert "multipart part named image" in caught.value.remedy


def test_where_a_parameter_stands_twice_the_bodys_counts():
    _, fields = read(json.dumps({"image": TEXT, "top_k": 3}).encode(), "application/json", "top_k=9&model=colours")
    assert fields == {"top_k": 3, "model": "colours"}


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("", {}),
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a=1&a=2", {"a": "2"}),
        ("a=", {"a": ""}),
        ("a", {"a": ""}),
        ("a=%C3%A4+b", {"a": "ä b"}),
        ("a=%FF", {"a": "\N{REPLACEMENT CHARACTER}"}),
        ("&".join(f"f{i}=1" for i in range(64)), {f"f{i}": "1" for i in range(64)}),
    ],
    ids=["none", "two", "twice: the last", "empty", "bare", "UTF-8", "not UTF-8", "as many as may be"],
)
def test_parameters_of_the_query(query, fields):
    assert read(IMAGE, None, query) == (IMAGE, fields)


def test_a_query_of_too_many_parameters_is_refused():
    with pytest.raises(ParameterInvalid, match="more than 64 parameters"):
        read(IMAGE, None, "&".join(f"f{i}=1" for i in range(65)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": -Infinity}', "not JSON"),
        (b'{"a": 1e999}', "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a": "\\ud800"}', "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "not JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
        (b'{"a": 1}\x00', "not JSON"),
        (b'{"a": 1,}', "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "not JSON"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
    ],
    ids=[
        "empty", "cut short", "list", "text", "null", "NaN", "Infinity", "1e999", "5,000 digits", "half a surrogate",
        "not UTF-8", "UTF-16", "byte order mark", "NUL behind", "comma at the end", "Python", "deep objects",
        "deep lists",
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(body, message):
    with pytest.raises(BodyInvalid, match=message):
        read(body, "application/json")


@given(st.binary(max_size=64))
def test_any_bytes_are_json_or_refused(body):
    with suppress(BodyInvalid):
        assert isinstance(read_json(body), dict)


@given(st.binary())
def test_any_payload_survives_base64(payload):
    body = json.dumps({"image": base64.b64encode(payload).decode()}).encode()
    assert read(body, "application/json") == (payload, {})


@pytest.mark.parametrize(
    "fields",
    [{}, {"image": None}, {"image": 5}, {"image": [TEXT]}, {"picture": TEXT}],
    ids=["none", "null", "number", "list", "other name"],
)
def test_json_without_the_payload_is_refused(fields):
    with pytest.raises(BodyInvalid, match="image"):
        read(json.dumps(fields).encode(), "application/json")


@pytest.mark.parametrize(
    "text",
    ["!", "AAA", TEXT[:-1], TEXT + "=", "AA\nAA", "äöü", "data:image/png;base64,!", "AA-_", "data:no comma"],
    ids=[
        "no letter",
        "no padding",
        "cut short",
        "padding",
        "line break",
        "umlauts",
        "data URL",
        "URL alphabet",
        "no comma",
    ],
)
def test_what_is_no_base64_is_refused_or_empty(text):
    if text == "data:no comma":
        assert read(json.dumps({"image": text}).encode(), "application/json")[0] == b""
        return
    with pytest.raises(BodyInvalid, match="image is not base64"):
        read(json.dumps({"image": text}).encode(), "application/json")


def test_the_target_is_taken_out_of_the_fields():
    fields = {"model": "colours", "version": "2", "label": "stable", "top_k": "1"}
    assert take_target(fields) == Target("colours", 2, "stable")
    assert fields == {"top_k": "1"}
    assert take_target({}) == Target()


@pytest.mark.parametrize("model", ["", 5, True, ["a"], {"a": 1}])
def test_a_model_that_is_no_name_is_refused(model):
    with pytest.raises(ParameterInvalid, match="model is not a name"):
        take_target({"model": model})


@pytest.mark.parametrize("label", ["", "shadow", "Stable", 1, ["stable"]])
def test_a_label_there_is_not_is_refused(label):
    with pytest.raises(ParameterInvalid, match="label is neither"):
        take_target({"label": label})


@pytest.mark.parametrize(("version", "number"), [("1", 1), (7, 7), ("9999999999", 9_999_999_999)])
def test_versions_are_whole_numbers_from_one(version, number):
    assert read_version(version) == number


@pytest.mark.parametrize(
    "version",
    ["", "0", "01", "00001", "+1", "-1", "1_0", " 1", "1 ", "1\n", "1.0", "1e3", "abc", "٣", "1" * 11, "9" * 5000, 0,
     -1, 1.0, True, None, [1], 10**23],
)  # fmt: skip
def test_any_other_version_is_refused(version):
    with pytest.raises(ParameterInvalid, match="version is not a whole number"):
        read_version(version)
