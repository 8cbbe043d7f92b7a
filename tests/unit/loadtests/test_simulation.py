"""The simulation: against queues whose answers are known by formula, and the page that is made of it."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from loadtests.simulation import page
from loadtests.simulation.balance import BALANCERS
from loadtests.simulation.bounds import bounds, design_of
from loadtests.simulation.cluster import Cluster, Costs, Design
from loadtests.simulation.figures import FAST, HEAVY, Kind, Measured, Route
from loadtests.simulation.lane import Lane
from loadtests.simulation.loop import Loop, Station
from loadtests.simulation.shared_state import Gateways, Loads, StateCosts
from serving.repository.config import BatchRules

ALONE = BatchRules(max_batch_size=1, max_queue_rows=10**9)
MEASURED = Measured(
    machine="a machine",
    date="2026-01-01",
    photo=Route(sent_bytes=100_000, loop_s=0.001, decode_s=0.004),
    text=Route(sent_bytes=10, loop_s=0.0005, decode_s=0.0),
    photo_on_triton_loop_s=0.002,
    runs={1: 0.01, 2: 0.018},
    load_s=1.0,
    announce_s=2e-5,
    look_s=1e-5,
    read_s=1e-5,
    members={1: (2e-5, 1e-4), 101: (1.2e-4, 2.1e-3)},
    member_bytes=300,
)


def test_events_come_in_order_and_those_of_one_time_as_they_were_made():
    loop, seen = Loop(), []
    for seconds, name in ((2, "c"), (1, "a"), (1, "b")):
        loop.after(seconds, lambda name=name: seen.append((loop.now_s, name)))
    loop.run()
    assert seen == [(1, "a"), (1, "b"), (2, "c")]


def test_a_station_serves_as_many_as_it_has_servers_in_order():
    loop, seen = Loop(), []
    station = Station(loop, 2)
    for name in "abc":
        station.serve(1.0, lambda name=name: seen.append((loop.now_s, name)))
    assert station.present == 3
    loop.run()
    assert seen == [(1, "a"), (1, "b"), (2, "c")]
    assert station.busy_s == 3


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_one_server_of_equal_work_waits_as_pollaczek_and_khinchine_say(load):
    service_s = 0.01
    cluster = Cluster(Design(rules=ALONE), Costs(0, 0, 0, service_s, 0))
    latencies_s = cluster.run(load / service_s, 60_000, 2_000).latencies_s
    expected_s = service_s + load * service_s / (2 * (1 - load))
    assert statistics.mean(latencies_s) == pytest.approx(expected_s, rel=0.05)


def test_the_lane_cuts_batches_by_the_gateways_own_policy():
    loop, done = Loop(), []
    lane = Lane(loop, BatchRules(max_batch_size=4, max_queue_rows=6), 1, lambda rows: rows * 1.0)
    taken = [lane.offer(lambda i=i: done.append((loop.now_s, i))) for i in range(9)]
    loop.run()
    # The first goes alone, since the engine is free; six wait; the rest is refused.
    assert taken == [True] * 7 + [False] * 2
    assert done == [(1, 0), (5, 1), (5, 2), (5, 3), (5, 4), (7, 5), (7, 6)]
    assert (lane.runs, lane.rows) == (3, 7)


def test_a_full_queue_refuses_and_what_is_refused_is_no_goodput():
    design = Design(rules=BatchRules(max_batch_size=1, max_queue_rows=10))
    result = Cluster(design, Costs(0, 0, 0, 0.01, 0)).run(200, 4_000)
    assert len(result.latencies_s) + result.refused == result.due
    assert result.goodput(1.0) == pytest.approx(0.5, abs=0.03)
    assert max(result.latencies_s) <= 0.01 * 12


@pytest.mark.parametrize("part", ["network", "event loop", "decoding"])
def test_each_part_can_be_what_everything_waits_for(part):
    costs = Costs(0.01 if part == "event loop" else 0, 0.01 if part == "decoding" else 0, 1.0, 0.0001, 0)
    design = Design(bytes_s=100 if part == "network" else math.inf)
    result = Cluster(design, costs).run(90, 5_000)
    assert result.busy[part] == pytest.approx(0.9, abs=0.05)
    assert max(result.busy, key=result.busy.__getitem__) == part


@pytest.mark.parametrize("name", BALANCERS)
def test_balancers_choose_a_place_and_all_places(name):
    choose = BALANCERS[name](random.Random(0))
    assert {choose([1, 1, 1, 1]) for _ in range(200)} == {0, 1, 2, 3}


def test_the_least_busy_is_chosen_and_of_two_the_one_with_less():
    assert {BALANCERS["least busy"](random.Random(0))([3, 1, 2, 1]) for _ in range(9)} <= {1, 3}
    choose = BALANCERS["two choices"](random.Random(0))
    assert sum(choose([9, 0]) for _ in range(1000)) == pytest.approx(750, abs=60)


def test_two_choices_have_a_shorter_tail_than_chance():
    def p99_s(balancer):
        design = Design(hosts=20, rules=ALONE, balancer=balancer)
        return Cluster(design, Costs(0, 0, 0, 0.01, 0)).run(0.9 * 2000, 20_000, 5_000).percentile_s(0.99)

    assert p99_s("two choices") < 0.6 * p99_s("random")


COSTS = StateCosts(announce_s=1e-4, look_s=1e-4, read_s=1e-4, members_s=1e-4, member_s=1e-6, parse_s=1e-5)


def test_redis_is_as_busy_as_all_beats_together():
    busy, beat_s = Gateways(100, COSTS).beats(20.0)
    assert busy == pytest.approx(100 * (3e-4 + 100e-6), rel=0.05)
    assert 4e-4 <= beat_s < 0.1


def test_beats_that_are_too_many_never_end_in_time():
    busy, beat_s = Gateways(3000, COSTS).beats(5.0)
    assert busy == 1.0
    assert beat_s > 1


def test_a_promotion_takes_as_long_as_the_slowest_gateway_loads():
    loads = Loads(1.0, 0.5)

    def seconds(count):
        return statistics.median(Gateways(count, COSTS, seed).promotion(loads, 60) for seed in range(7))

    assert seconds(1) == pytest.approx(1.0, abs=0.6)
    # The median of the largest of a hundred log-normal times: exp(0.5 * 2.46).
    assert seconds(100) == pytest.approx(math.exp(0.5 * 2.46), rel=0.35)
    assert Gateways(10, COSTS).promotion(loads, limit_s=0.1) == math.inf


def test_what_gives_way_first_is_what_can_do_least():
    kind = Kind(gpus=8, cores=96, gateways=16, gigabits=100)
    fast = bounds(MEASURED, FAST, kind)
    assert fast.parts == pytest.approx(
        {"GPUs": 200_000, "network": 125_000, "cores that decode": 20_000, "event loops": 8_000}
    )
    assert (fast.first, fast.rate) == ("event loops", pytest.approx(8_000))
    assert bounds(MEASURED, HEAVY, kind).first == "GPUs"


def test_few_gpus_stand_in_a_part_of_a_host():
    design = design_of(1, FAST, Kind(gpus=8, cores=96, gateways=16))
    assert (design.hosts, design.gpus, design.gateways, design.cores) == (1, 1, 2, 10)
    assert design_of(1000, FAST, Kind()).hosts == 125


def test_what_was_measured_becomes_a_straight_line():
    costs = MEASURED.state_costs()
    assert costs.census_s(101) == pytest.approx(1.2e-4)
    assert (costs.member_s, costs.parse_s) == pytest.approx((1e-6, 2e-5))


def test_tables_stand_between_their_marks_and_nothing_else_changes():
    text = "before <!-- begin a -->old\nlines<!-- end a --> after"
    assert page.put(text, {"a": "new"}) == "before <!-- begin a -->\nnew\n<!-- end a --> after"
    with pytest.raises(page.MarkMissing):
        page.put(text, {"b": "new"})


def test_the_page_in_docs_has_a_place_for_each_table(request):
    text = (request.config.rootpath / "docs" / "scaling.md").read_text()
    found = page.tables(MEASURED, Kind(), [], [], [])
    assert page.put(text, found).count("<!-- end ") == len(found)
