"""The load test against real gateways, and what the bench makes of its measurements."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
import tiny

SECONDS = "2"
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


@pytest.fixture(autouse=True)
def importable(monkeypatch, request):
    """`loadtests` is no part of what is installed."""
    monkeypatch.syspath_prepend(request.config.rootpath)


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    tiny.add_classifier(folder)
    tiny.add_plain(folder)  # does no task, so nobody asks it
    return folder


def load_test(root, *options):
    command = [sys.executable, "-m", "loadtests", "--users", "2", "--seconds", SECONDS, *options]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)


def test_users_are_made_from_the_tasks_and_what_the_gateway_has(request, repository):
    from loadtests.gateway_process import gateway

    root = request.config.rootpath
    tiny.add_diffusion(repository)  # whose route is not made from the task
    with gateway(repository) as url:
        options = ["--headless", "--host", url, "--users", "2", "--run-time", f"{SECONDS}s", "--json", "--skip-log"]
        command = [sys.executable, "-m", "locust", "-f", root / "loadtests" / "locustfile.py", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = {one["name"]: one for one in json.loads(done.stdout)}
    assert set(asked) == {"/v1/classify colours", "/v1/images/generations generate-images"}
    for one in asked.values():
        assert one["method"] == "POST"
        assert one["num_requests"] > 0
        assert one["num_failures"] == 0


def test_answers_that_are_errors_fail_it(request, repository):
    version = repository / "colours" / "1"
    (version / "labels.txt").write_text("red\ngreen\n")  # one fewer than the graph has classes
    tiny.write_classifier_manifest(version)
    done = load_test(request.config.rootpath, "--repository", str(repository))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "/v1/classify colours" in done.stdout
    assert "(100.00%)" in done.stdout


def test_a_gateway_with_nothing_to_ask_fails_it(request, tmp_path):
    tiny.add_plain(tmp_path / "repository")
    done = load_test(request.config.rootpath, "--repository", str(tmp_path / "repository"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "No model there is ready to do a task." in done.stdout


def test_a_gateway_that_does_not_start_says_why(request, tmp_path):
    done = load_test(request.config.rootpath, "--repository", str(tmp_path / "missing"))
    assert done.returncode == 1
    assert "The server ended with exit code 1." in done.stderr
    assert "missing" in done.stderr


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
    from loadtests.gateway_process import gateway

    version = tiny_model.publish(tmp_path)
    with gateway(tmp_path) as our_url, plain("tiny", version) as plain_url:
        comparison.check(comparison.targets(our_url, plain_url))


def test_both_servers_of_the_photo_comparison_do_the_same_work(request):
    from loadtests.bench import photo
    from loadtests.bench.plain_process import plain
    from loadtests.gateway_process import gateway

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
