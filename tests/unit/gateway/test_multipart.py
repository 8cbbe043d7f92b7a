"""Forms: parts by name, limits on all that a form can be bombed with, and no form that is taken half."""

from __future__ import annotations

import pytest
from http_rig import Exchange
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import BodyInvalid, ParameterInvalid
from serving.gateway.form import MAX_FIELD, MAX_PART_HEAD, MAX_PARTS
from serving.gateway.payload import read_payload

IMAGE = b"\x89PNG\r\n\x1a\n--b\r\n\x00\xff"
MULTIPART = "multipart/form-data; boundary=b-0"


def part(name: str, value: bytes, *, more: str = "", boundary: str = "b-0") -> bytes:
    """One part. `more`: behind the name in its Content-Disposition."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form(*parts: bytes, boundary: str = "b-0") -> bytes:
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


def read(body: bytes, content_type: str = MULTIPART, query: str = ""):
    return read_payload(Exchange(headers={"content-type": content_type}, query=query).inbound, body, ("image",))[1:]


def test_the_part_is_the_payload_and_the_other_fields_are_parameters():
    body = form(part("top_k", b"3"), part("image", IMAGE, more='; filename="cat.png"'), part("model", "ä".encode()))
    assert read(body, query="top_k=9&version=1") == (IMAGE, {"top_k": "3", "version": "1", "model": "ä"})


@pytest.mark.parametrize(
    "filename",
    ["../../etc/passwd", "\0", "C:\\con", "a" * 1000, "x; name=other", "%00"],
    ids=["traversal", "NUL", "Windows device", "long", "another name", "percent"],
)
def test_file_names_are_never_looked_at(filename):
    assert read(form(part("image", IMAGE, more=f'; filename="{filename}"'))) == (IMAGE, {})


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=b-0",
        "Multipart/Form-Data; Boundary=b-0",
        'multipart/form-data; boundary="b-0"',
        "multipart/form-data; charset=utf-8; boundary=b-0",
        "multipart/form-data;boundary=b-0;x=y",
    ],
)
def test_content_types_are_read_as_rfc_2046_has_them(content_type):
    assert read(form(part("image", IMAGE)), content_type) == (IMAGE, {})


@pytest.mark.parametrize("length", [1, 70])
def test_boundaries_may_be_of_1_to_70_characters(length):
    boundary = "x" * length
    body = form(part("image", b"picture", boundary=boundary), boundary=boundary)
    assert read(body, f"multipart/form-data; boundary={boundary}") == (b"picture", {})


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""',
     f"multipart/form-data; boundary={'x' * 71}", f"multipart/form-data; boundary={'x' * 10_000}"],
    ids=["none", "empty", "empty in quotes", "71", "10,000"],
)  # fmt: skip
def test_other_boundaries_are_refused(content_type):
    with pytest.raises(BodyInvalid, match="boundary of 1 to 70"):
        read(form(part("image", IMAGE)), content_type)


def test_a_form_is_whole_or_refused():
    """Every way to cut it: a picture that misses its end is never taken for one."""
    body = form(part("top_k", b"3"), part("image", IMAGE))
    whole = len(body) - 2  # the line's end behind the last boundary may be missing
    for end in range(whole):
        with pytest.raises(BodyInvalid):
            read(body[:end])
    for end in range(whole, len(body) + 1):
        assert read(body[:end]) == (IMAGE, {"top_k": "3"})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (form(part("picture", IMAGE)), "no part named image"),
        (form(), "no part named image"),
        (form(part("image", IMAGE), b"--b-0\r\n\r\nx\r\n"), "has no name"),
        (form(part("image", IMAGE), b"--b-0\r\nContent-Disposition: form-data\r\n\r\nx\r\n"), "has no name"),
        (b"no form at all", "damaged"),
        (b"\r\n" * 50_000, "before its last"),
        (b"--b-0\r\nno colon in this head\r\n\r\nx\r\n--b-0--\r\n", "damaged"),
        (form(part("image", IMAGE, boundary="other"), boundary="other"), "damaged"),
        (form(part("image", IMAGE), part("note", b"x" * (MAX_FIELD + 1))), "form field has more than"),
        (form(*[part(f"f{i}", b"") for i in range(MAX_PARTS)], part("image", IMAGE)), "more than 64 parts"),
        (form(*[part("image", b"")] * 1001), "more than 64 parts"),
        (form(part("image", IMAGE, more=f'; filename="{"x" * MAX_PART_HEAD}"')), "damaged"),
        (b"--b-0\r\n" + b"x-a: b\r\n" * 20_000 + b"\r\n--b-0--", "damaged"),
        (b"--b-0\r\n" + b"x" * 2**20 + b": b\r\n\r\n--b-0--", "damaged"),
        (b"--b-0\r\n" + b"x-a: %s\r\n" % (b"b" * 3000) * 3 + b"\r\n--b-0--", "head has more than 8,192"),
    ],
    ids=[
        "other name", "no part", "no disposition", "no name", "no form", "blank lines", "bad head", "other boundary",
        "long field", "65 parts", "1,001 parts", "long header", "20,000 headers", "1 MiB header", "long together",
    ],
)  # fmt: skip
def test_forms_that_cannot_be_used_are_refused(body, message):
    with pytest.raises(BodyInvalid, match=message):
        read(body)


def test_as_many_parts_and_as_long_fields_as_may_be_are_taken():
    fields = [part(f"f{i}", b"v") for i in range(MAX_PARTS - 2)]
    payload, parameters = read(form(part("image", IMAGE), part("note", b"x" * MAX_FIELD), *fields))
    assert payload == IMAGE
    assert len(parameters) == MAX_PARTS - 1


def test_a_field_that_is_no_text_is_refused():
    with pytest.raises(ParameterInvalid, match="not UTF-8"):
        read(form(part("image", IMAGE), part("top_k", b"\xff")))


def test_of_a_name_that_is_given_twice_the_last_counts():
    assert read(form(part("image", b"1"), part("image", b"2"), part("k", b"3"), part("k", b"4"))) == (b"2", {"k": "4"})


def test_a_name_that_is_no_text_finds_no_parameter():
    body = form(part("image", IMAGE), b'--b-0\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n')
    _, parameters = read(body)
    assert len(parameters) == 1
    assert not {"image", "model", "version", "label", "top_k"} & set(parameters)


@given(st.binary(max_size=300).filter(lambda payload: b"\r\n--b-0" not in payload))
def test_any_payload_survives_a_form(payload):
    assert read(form(part("image", payload)))[0] == payload


@given(st.lists(st.sampled_from([b"--b-0", b"--b-0--", b"\r\n", b"\n", b":", b";", b'name="image"', b"x", b"\x00", b"-",
                                 b"Content-Disposition: form-data; "]), max_size=30))  # fmt: skip
def test_no_form_breaks_the_reader(pieces):
    try:
        payload, parameters = read(b"".join(pieces))
    except (BodyInvalid, ParameterInvalid):
        return
    assert isinstance(payload, bytes)
    assert all(isinstance(value, str) for value in parameters.values())
