"""Lines of the log: in their order, each one line whatever is in it, and nobody waits for whoever reads them."""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import contextmanager

import pytest
from http_rig import wait_until

from serving.log_lines import MOST_WAITING, JsonFormatter, Lines, logging_to_stderr

HOSTILE = 'one\r\n{"level":"error","message":"forged"}\u2028\x1b[31m'


@contextmanager
def piped():
    """Lines into a pipe, and its other end."""
    reading, writing = os.pipe()
    lines = Lines(writing)
    try:
        yield lines, reading
    finally:
        os.close(reading)  # whoever waits in a write is woken
        lines.close()
        os.close(writing)


def test_lines_are_written_in_their_order_and_all_of_them_before_it_closes():
    with piped() as (lines, reading):
        for i in range(1000):
            assert lines.put(b"%d" % i)
        lines.close()
        assert os.read(reading, 1 << 16).split() == [b"%d" % i for i in range(1000)]
        assert (lines.written, lines.dropped) == (1000, 0)
        assert not lines.put(b"late")


def test_a_pipe_that_nobody_reads_makes_nobody_wait(monkeypatch):
    monkeypatch.setattr("serving.log_lines.LEAVE_S", 0.05)
    line = b"x" * 200
    with piped() as (lines, reading):
        started_s = time.monotonic()
        kept = sum(lines.put(line) for _ in range(3 * MOST_WAITING))
        assert time.monotonic() - started_s < 1.0
        assert MOST_WAITING <= kept < 3 * MOST_WAITING
        assert lines.dropped == 3 * MOST_WAITING - kept
        lines.close()
        assert time.monotonic() - started_s < 1.5
        assert os.read(reading, 201) == line + b"\n"


def test_a_reader_that_is_gone_is_no_error():
    reading, writing = os.pipe()
    lines = Lines(writing)
    os.close(reading)
    lines.put(b"anybody?")
    wait_until(lambda: lines.dropped == 1, "it is counted")
    lines.close()
    os.close(writing)


@pytest.mark.parametrize("text", [HOSTILE, "half \ud800 a letter"])
def test_a_record_is_one_line_of_json_whatever_is_in_it(text):
    try:
        raise ValueError(text)
    except ValueError as error:
        record = logging.LogRecord("serving.x", logging.ERROR, "", 1, "%s", (text,), (ValueError, error, None))
    line = JsonFormatter().format(record)
    said = json.loads(line)
    assert len(line.splitlines()) == 1 or "\u2028" in line  # which JSON may hold, and ends no line of a file
    assert "\n" not in line
    assert (said["level"], said["logger"]) == ("error", "serving.x")
    assert said["message"].startswith(text[:3])
    assert "ValueError" in said["exception"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_is_logged_goes_to_stderr(capfd, form):
    with logging_to_stderr(form):
        logging.getLogger("serving.x").info("said %d", 7)
        logging.getLogger("serving.x").debug("not said")
    written = capfd.readouterr()
    assert written.out == ""
    (line,) = written.err.splitlines()
    assert json.loads(line)["message"] == "said 7" if form == "json" else line.endswith("INFO serving.x: said 7")
    logging.getLogger("serving.x").info("afterwards")
    assert capfd.readouterr().err == ""
