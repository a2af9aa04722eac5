"""The simulation, against queueing theory and cases calculated by hand."""

import math
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simpy

from benchmarks.cost import Timing
from benchmarks.simulation import (
    Bucket,
    Burst,
    EndpointScaling,
    Pool,
    Quotas,
    Retries,
    Scenario,
    local_rate,
    plot,
    scenarios,
)
from benchmarks.sizing import Work

NO_WORK = Work(cpu=0, cold_cpu=0, waiting=0)
QUICK = Timing({"serialize": NO_WORK, "inference": NO_WORK, "threshold": NO_WORK}, image_cpu=5, workflow_seconds=0.1)
UNLIMITED = Quotas(math.inf, math.inf, math.inf, math.inf, 10**9, math.inf, math.inf)
# Claim, record, announce and confirm.
TAIL = 4 * 0.015


def erlang_c(servers: int, offered: float) -> float:
    """Return the probability that a call must wait: A. K. Erlang, 1917."""
    busy = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return busy / (sum(offered**k / math.factorial(k) for k in range(servers)) + busy)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (2, 0.8), (8, 0.7)])
def test_a_pool_waits_like_an_mmc_queue(servers: int, load: float) -> None:
    chance, env = np.random.default_rng(1), simpy.Environment()
    pool, waits = Pool(env, servers), []
    offered = servers * load

    def call(service: float) -> Generator[simpy.Event, Any, None]:
        asked = env.now
        yield from pool.take()
        waits.append(env.now - asked)
        yield env.timeout(service)
        pool.give()

    def arrive() -> Generator[simpy.Event, Any, None]:
        for between, service in chance.exponential((1 / offered, 1), (40_000, 2)):
            yield env.timeout(between)
            env.process(call(service))

    env.process(arrive())
    env.run()

    expected = erlang_c(servers, offered) / (servers - offered)
    assert np.mean(waits) == pytest.approx(expected, rel=0.1)
    assert np.mean(np.array(waits) > 0) == pytest.approx(erlang_c(servers, offered), abs=0.03)


def test_a_caller_that_gives_up_leaves_the_queue() -> None:
    env = simpy.Environment()
    pool, seen = Pool(env, 1), []

    def call(name: str, patience: float) -> Generator[simpy.Event, Any, None]:
        taken = yield from pool.take(patience)
        seen.append((name, taken, env.now))
        if taken:
            yield env.timeout(10)
            pool.give()

    for name, patience in (("first", 1.0), ("impatient", 5.0), ("patient", 50.0)):
        env.process(call(name, patience))
    env.run()

    assert seen == [("first", True, 0), ("impatient", False, 5), ("patient", True, 10)]


def test_new_servers_serve_waiting_callers() -> None:
    env = simpy.Environment()
    pool, served = Pool(env, 1), []

    def call() -> Generator[simpy.Event, Any, None]:
        yield from pool.take()
        served.append(env.now)
        yield env.timeout(10)
        pool.give()

    def grow() -> Generator[simpy.Event, Any, None]:
        yield env.timeout(3)
        pool.grow(2)

    for _ in range(4):
        env.process(call())
    env.process(grow())
    env.run()

    assert served == [0, 3, 3, 10]
    assert pool.servers == 3


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    bucket = Bucket(size=3, rate=2)
    assert [bucket.reserve(0) for _ in range(6)] == [0, 0, 0, 0.5, 1, 1.5]
    assert bucket.reserve(10) == 0


def test_a_bucket_fills_no_further_than_its_size() -> None:
    bucket = Bucket(size=2, rate=1)
    bucket.reserve(0, 2)
    assert [bucket.reserve(100) for _ in range(3)] == [0, 0, 1]


def test_without_limits_a_photo_takes_the_time_of_its_steps() -> None:
    outcome = Burst(Scenario("quiet", 50, UNLIMITED), QUICK).run()

    assert len(outcome.delays) == 50
    assert outcome.delays == pytest.approx([0.005 + TAIL] * 50, abs=0.02)
    assert outcome.failed == 0
    assert outcome.first_limit() == "none"


def test_executions_start_at_the_quota_and_no_faster() -> None:
    # A photo every 0.36 s, but only one start per second: the last of 10,000 waits 6,400 s.
    quotas = Quotas(1, 1, math.inf, math.inf, 10**9)
    outcome = Burst(Scenario("slow start", 10_000, quotas, peak=0), QUICK).run()

    assert outcome.first_limit() == "StartExecution"
    assert max(outcome.delays) == pytest.approx(10_000 - 3600, rel=0.02)


def test_photos_that_a_small_endpoint_fails_run_again_until_decided() -> None:
    # An hour of work for two cores at five seconds per image, half of it within ten minutes.
    slow = Timing(QUICK.functions, image_cpu=5000, workflow_seconds=1)
    hosting = EndpointScaling(least=1, most=1)
    outcome = Burst(Scenario("too small", 1_440, UNLIMITED, hosting, peak=0.5), slow).run()

    assert outcome.first_limit() == "endpoint"
    assert len(outcome.delays) == 1_440
    assert 0 < outcome.again < 720
    assert outcome.failed == 0
    assert max(outcome.delays) > 300


def test_a_table_takes_only_its_writes_per_second() -> None:
    # 1,080 photos in an hour are 0.3 per second; each takes three of the 0.6 writes per second.
    quotas = replace(UNLIMITED, table_writes=0.6)
    outcome = Burst(Scenario("narrow table", 1_080, quotas, peak=0), QUICK).run()

    assert outcome.first_limit() == "table"
    assert outcome.again > 0
    assert outcome.failed == 0
    assert 3600 + max(outcome.delays) >= 1_080 * 3 / 0.6


def test_a_hot_index_key_delays_its_photos() -> None:
    # 3,600 photos are one per second: in each of sixteen shards a sixteenth of one, which writes its key twice.
    quotas = replace(UNLIMITED, key_writes=0.1)
    outcome = Burst(Scenario("hot keys", 3_600, quotas, peak=0), QUICK).run()

    assert outcome.first_limit() == "index"
    assert outcome.failed == 0


def test_retries_are_those_of_the_definition() -> None:
    waits = Retries("InferVehicle", "EndpointUnavailable").waits

    assert waits[:4] == [2, 4, 8, 16]
    assert max(waits) == 30
    assert Retries("InferVehicle", "EndpointUnavailable").patience == sum(waits) / 2


def test_the_endpoint_grows_once_its_target_was_exceeded_for_minutes() -> None:
    # 60 photos a minute against a target of 20 for an instance: three are wanted after three minutes and a launch.
    hosting = EndpointScaling(least=1, most=8, calls_a_minute=20, alarm_minutes=3, launch_seconds=300)
    outcome = Burst(Scenario("growing", 3_600, UNLIMITED, hosting, peak=0), QUICK).run()

    assert outcome.instances[:47] == [1] * 47
    assert outcome.instances[50] >= 3
    assert max(outcome.instances) <= 5


def test_functions_share_the_account_s_concurrency() -> None:
    # Each holds its slot for a second; with one slot, one photo takes two of them.
    second = Work(cpu=0, cold_cpu=0, waiting=1000)
    timing = Timing({"serialize": second, "inference": second, "threshold": NO_WORK}, 1, 2)
    quotas = Quotas(math.inf, math.inf, math.inf, math.inf, concurrency=1)
    outcome = Burst(Scenario("one slot", 3_000, quotas, peak=0), timing).run()

    assert outcome.first_limit() == "Lambda concurrency"
    assert outcome.again > 0


def test_the_same_seed_gives_the_same_burst() -> None:
    first, second = (Burst(Scenario("twice", 500), QUICK, seed=3).run() for _ in range(2))
    assert first.delays == second.delays


def test_the_plot_shows_every_scenario(tmp_path: Path) -> None:
    outcomes = [Burst(scenario, QUICK).run() for scenario in scenarios(1_000)]
    plot(tmp_path / "plot.svg", outcomes)
    drawn = (tmp_path / "plot.svg").read_text()
    assert [outcome.scenario.name for outcome in outcomes if outcome.scenario.name not in drawn] == []


def test_photos_arrive_within_the_hour_and_in_order() -> None:
    arrivals = Scenario("any", 10_000).arrivals(np.random.default_rng(0))
    assert len(arrivals) == 10_000
    assert np.all(np.diff(arrivals) >= 0)
    assert arrivals[0] >= 0
    assert arrivals[-1] <= 3600


@pytest.mark.parametrize(
    ("concurrency", "cpu", "waiting", "rate"),
    [
        (1, 0.1, 0.3, 2.5),  # one photo at a time
        (4, 0.0, 0.4, 10.0),  # idle time scales with concurrency
        (64, 0.1, 0.3, 20.0),  # two cores are never idle: 2 / 0.1
    ],
)
def test_a_batch_on_one_machine_is_bound_by_waiting_or_by_cores(
    concurrency: int, cpu: float, waiting: float, rate: float
) -> None:
    assert local_rate(concurrency, 2, cpu, waiting, photos=640) == pytest.approx(rate, rel=0.06)
