"""The load test against real gateways, and what the bench makes of its measurements."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny

from loadtests.gateway_process import gateway

SCENARIO = """\
title = "Small pictures"
rest = 1.0
[[phase]]
seconds = 2
rate = 40
[copies]
colours = 2
"""
CHANGES = """\
[[change]]
at_s = 0.2
action = "promote"
model = "colours"
version = 2
[[change]]
at_s = 1.5
action = "rollback"
model = "colours"
[slo]
error_rate = 0.0
"""
WRK_OUTPUT = """\
Running 2s test @ http://127.0.0.1:38205/v2/models/tiny/infer
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     4.38ms  326.79us   8.44ms   92.35%
    Req/Sec     7.32k   146.80     7.50k    85.71%
  Latency Distribution
     50%    4.37ms
     75%    4.43ms
     90%    4.52ms
     99%    1.09s{space}
  15290 requests in 2.10s, 5.83MB read
{errors}Requests/sec:   7280.06
Transfer/sec:      2.78MB
"""


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    tiny.add_classifier(folder)
    tiny.add_plain(folder)  # does no task, so nobody asks it
    return folder


@pytest.fixture
def scenario(tmp_path):
    """Forty small pictures a second, for two seconds."""
    file = tmp_path / "scenario.toml"
    file.write_text(SCENARIO)
    return file


@pytest.fixture
def slo(tmp_path):
    """What a quick model keeps on a machine where tests run beside it."""
    file = tmp_path / "slo.toml"
    file.write_text("[default]\np99_ms = 600\ngoodput = 0.97\n[generator]\nlate_p99_ms = 400\n")
    return file


def load_test(root, *options):
    command = [sys.executable, "-m", "loadtests", *map(str, options)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)


def test_locust_alone_sends_what_is_due_and_says_so(request, repository, scenario):
    root = request.config.rootpath
    tiny.add_diffusion(repository)  # whose route is not made from the task
    with gateway(repository) as url:
        options = ["--headless", "--host", url, "--scenario", scenario, "--json", "--skip-log"]
        command = [sys.executable, "-m", "locust", "-f", root / "loadtests" / "locustfile.py", *options]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = {one["name"]: one for one in json.loads(done.stdout)}
    assert set(asked) == {"classify colours", "generate-images generate-images"}
    assert sum(one["num_requests"] for one in asked.values()) == pytest.approx(80, rel=0.4)
    assert all((one["method"], one["num_failures"]) == ("POST", 0) for one in asked.values())


def test_what_is_promised_is_kept_and_the_report_says_so(request, repository, scenario, slo, tmp_path):
    out = tmp_path / "out"
    done = load_test(
        request.config.rootpath,
        *("run", "--repository", repository, "--scenario", scenario, "--slo", slo, "--out", out, "--processes", 2),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "classify colours/1" in done.stdout
    verdict = json.loads((out / "verdict.json").read_text())
    assert verdict["passed"] is True
    assert verdict["rows"][0]["due"] == pytest.approx(80, rel=0.4), "of both processes"
    assert "Green" in (out / "report.html").read_text()
    again = load_test(request.config.rootpath, "judge", out / "recording.jsonl", "--slo", slo)
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1] == "GREEN: what was promised was kept."


def test_a_model_made_slow_turns_it_red(request, repository, scenario, slo):
    """The shipped fake engine takes 1.5 s a run, in a gateway that is otherwise the same."""
    options = ["--repository", repository, "--scenario", scenario, "--slo", slo, "--seconds", 1, "--fake-ms"]
    assert load_test(request.config.rootpath, "run", *options, 1).returncode == 0
    done = load_test(request.config.rootpath, "run", *options, 1500)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "classify colours/1: p99" in done.stdout
    assert "RED: " in done.stdout


def test_a_version_goes_live_and_back_and_nobody_notices(request, repository, scenario, slo, tmp_path):
    scenario.write_text(f"{SCENARIO}{CHANGES}")
    out = tmp_path / "out"
    done = load_test(
        request.config.rootpath,
        *("run", "--repository", repository, "--scenario", scenario, "--slo", slo, "--out", out, "--seconds", 6),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "promote colours/2, took" in done.stdout
    assert "rollback colours, took" in done.stdout
    rows = {row["name"]: row for row in json.loads((out / "verdict.json").read_text())["rows"]}
    assert rows["all"]["error_rate"] == 0
    assert rows["classify colours/1"]["good"] > 0
    assert rows["classify colours/2"]["good"] > 0


def test_a_key_is_sent_and_without_it_nothing_is_asked(request, repository, scenario, slo, monkeypatch):
    root, keys = request.config.rootpath, slo.with_name("keys.json")
    add = [Path(sys.executable).with_name("tidegate"), "keys", "add", "load", "--scope", "predict", "--keys", keys]
    key = subprocess.run(add, cwd=root, capture_output=True, text=True, check=True).stdout.split()[0]
    options = ["--scenario", scenario, "--slo", slo]
    with gateway(repository, environment={"TIDEGATE_KEYS": str(keys)}) as url:
        refused = load_test(root, "run", "--url", url, *options)
        monkeypatch.setenv("TIDEGATE_KEY", key)
        done = load_test(root, "run", "--url", url, *options)
    assert refused.returncode == 3
    assert "401" in refused.stderr
    assert done.returncode == 0, done.stdout + done.stderr


def test_answers_that_are_errors_turn_it_red(request, repository, scenario, slo):
    version = repository / "colours" / "1"
    (version / "labels.txt").write_text("red\ngreen\n")  # one fewer than the graph has classes
    tiny.write_classifier_manifest(version)
    done = load_test(request.config.rootpath, "run", "--repository", repository, "--scenario", scenario, "--slo", slo)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "x model_output_invalid" in done.stdout
    assert "100.00%" in done.stdout


def test_a_gateway_with_nothing_to_ask_says_nothing(request, tmp_path, scenario):
    tiny.add_plain(tmp_path / "repository")
    done = load_test(request.config.rootpath, "run", "--repository", tmp_path / "repository", "--scenario", scenario)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "No model there is ready to do a task." in done.stderr


def test_a_gateway_that_does_not_start_says_why(request, tmp_path):
    done = load_test(request.config.rootpath, "run", "--repository", tmp_path / "missing")
    assert done.returncode == 3
    assert "The server ended with exit code 1." in done.stderr
    assert "missing" in done.stderr


def test_a_scenario_that_cannot_be_read_is_wrong_usage(request, tmp_path):
    (tmp_path / "bad.toml").write_text("title = 1\n")
    done = load_test(request.config.rootpath, "run", "--scenario", tmp_path / "bad.toml")
    assert done.returncode == 2
    assert "bad.toml: title" in done.stderr


def test_the_capacity_of_a_known_engine_is_found(request, repository, tmp_path):
    """Runs of one row take 4 ms, one at a time: 250 a second. How near, is measured in tests/promises.

    A step lasts a second and an answer may take .3 s: a rate of up to 250 * 1.3 passes before its queue is too long.
    """
    config = repository / "colours" / "config.pbtxt"
    config.write_text(re.sub("max_batch_size: .*", "max_batch_size: 1", config.read_text()))
    slo, out = tmp_path / "slo.toml", tmp_path / "out"
    slo.write_text("[default]\np99_ms = 300\n[generator]\nlate_p99_ms = 10000\n")
    options = ["--repository", repository, "--fake-ms", 4, "--model", "colours", "--slo", slo, "--picture", "example"]
    effort = ["--seconds", 1, "--first", 200, "--resolution", 0.5]
    done = load_test(request.config.rootpath, "capacity", *options, *effort, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((out / "capacity.json").read_text())
    assert 0 < found["capacity"] < 330
    assert found["above"] > found["capacity"]
    assert max(found["closed"]) < 260
    assert f"Capacity {found['capacity']:.1f}/s" in done.stdout


def test_what_wrk_prints_is_read():
    from loadtests.bench import wrk

    load = wrk.parse(WRK_OUTPUT.format(space=" ", errors=""))
    assert (load.rate, load.p50_s, load.p99_s) == (7280.06, pytest.approx(0.00437), pytest.approx(1.09))


@pytest.mark.parametrize(
    "errors", ["  Socket errors: connect 0, read 3, write 0, timeout 1\n", "  Non-2xx or 3xx responses: 15290\n"]
)
def test_a_run_of_wrk_with_errors_counts_for_nothing(errors):
    from loadtests.bench import wrk

    with pytest.raises(wrk.WrkFailed, match=errors.strip()):
        wrk.parse(WRK_OUTPUT.format(space="", errors=errors))


def test_other_text_is_not_taken_for_wrks():
    from loadtests.bench import wrk

    with pytest.raises(wrk.WrkFailed, match="nothing like"):
        wrk.parse("Usage: wrk <options> <url>")


def test_both_servers_of_the_tiny_comparison_do_the_same_work(tmp_path):
    from loadtests.bench import tiny as comparison
    from loadtests.bench import tiny_model
    from loadtests.bench.plain_process import plain

    version = tiny_model.publish(tmp_path)
    with gateway(tmp_path) as our_url, plain("tiny", version) as plain_url:
        comparison.check(comparison.targets(our_url, plain_url))


def test_both_servers_of_the_photo_comparison_do_the_same_work(request):
    from loadtests.bench import photo
    from loadtests.bench.plain_process import plain

    repository = request.config.rootpath / "model_repository"
    with gateway(repository) as our_url, plain("photo", repository / photo.MODEL / "1") as plain_url:
        photo.check(photo.targets(our_url, plain_url))


def test_all_contenders_of_the_search_comparison_search_the_same_vectors():
    from loadtests.bench import report, search
    from loadtests.bench.comparison import Turns, median_load
    from loadtests.clusters import clustered

    corpus = search.Corpus("few vectors", clustered(500, 16, 1), clustered(20, 16, 2))
    found = search.compare(Turns(1, 1), corpus)
    names = [search.OVER_HTTP, search.INSIDE, search.FLAT, search.HNSW]
    assert [contender.name for contender in found.loads] == [f"{name} (recall 1.0000)" for name in names]
    over_http_s, inside_s, *_ = (median_load(loads).p50_s for loads in found.loads.values())
    assert 0 < inside_s < over_http_s
    assert found.bars[0].reached == 1.0
    assert "of FAISS HNSW" in report.table(found)


def test_what_the_gateway_says_of_its_own_time_is_added_up():
    from loadtests.bench import search

    assert search.told_s("queue;dur=0.250, pre;dur=0.000, run;dur=1.500, post;dur=0.000") == pytest.approx(1.75e-3)


def test_each_turn_is_compared_with_the_others_of_its_round():
    from loadtests.bench.comparison import Contender, shares, take_turns
    from loadtests.bench.wrk import Load

    order = []

    def contender(name, rates):
        rates = iter(rates)
        return lambda: order.append(name) or Load(next(rates), 0.0, 0.0)

    ours, theirs = Contender("a", 1), Contender("b", 1)
    # The machine is half as fast in the second round, and slower still in the third.
    loads = take_turns({ours: contender("a", [300, 150, 90]), theirs: contender("b", [100, 50, 15])}, rounds=3)
    assert order == ["a", "b"] * 3
    assert shares(loads, lambda _: theirs) == {ours: [3, 3, 6], theirs: [1, 1, 1]}


@pytest.mark.parametrize(("rates", "count"), [([100, 104, 98], 0), ([100, 50, 98], 1)])
def test_a_machine_with_other_work_to_do_is_noticed(rates, count):
    from loadtests.bench import report
    from loadtests.bench.comparison import Comparison, Contender
    from loadtests.bench.wrk import Load

    loads = {Contender("a", 1): [Load(rate, 0.0, 0.0) for rate in rates]}
    assert len(report.doubts(Comparison("x", "", "", "", loads, {}, []))) == count


def test_the_bound_counts_what_all_its_threads_do():
    from loadtests.bench import bound

    load = bound.measure(lambda: time.sleep(0.02), thread_count=2, seconds=0.4)
    assert 50 < load.rate <= 100
    assert 0.02 <= load.p50_s < 0.04
