"""Which type of answer a caller gets. Cases from RFC 9110, section 12.5.1, and what clients send."""

import pytest

from serving.errors import NotAcceptable
from serving.gateway.accept import choose

OFFERED = ("application/json", "image/png")


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        (None, "application/json"),
        (b"", "application/json"),
        (b"*/*", "application/json"),
        (b"image/png", "image/png"),
        (b"IMAGE/PNG", "image/png"),
        (b"image/*", "image/png"),
        (b"image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", "image/png"),
        (b"application/json;q=0.5, image/png", "image/png"),
        (b"application/json, image/png;q=0.9", "application/json"),
        (b"image/png;q=0, */*", "application/json"),
        (b"application/json;q=0, */*;q=0.1", "image/png"),
        (b"text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        (b"image/png; charset=x; q=0.2, application/json;q=0.1", "image/png"),
        (b"image/png;q=often, application/json;q=0.5", "image/png"),
    ],
)
def test_the_type_that_is_liked_best_is_sent(header, chosen):
    assert choose(header, OFFERED) == chosen


@pytest.mark.parametrize("header", [b"text/html", b"image/webp", b"*/*;q=0", b"image/png;q=0", b"nonsense", b",;=,"])
def test_none_of_the_types_is_a_refusal(header):
    with pytest.raises(NotAcceptable) as caught:
        choose(header, OFFERED)
    assert caught.value.remedy == "There are: application/json, image/png."


def test_who_has_one_type_sends_it_whatever_is_asked_for():
    assert choose(b"text/html", OFFERED[:1]) == "application/json"
