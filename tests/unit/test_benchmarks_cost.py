"""The arithmetic of the bill, against bills calculated by hand."""

import json
from datetime import date
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import pytest

from benchmarks import cost
from benchmarks.cost import Setup, Timing, Workload, bill, cheapest, instances, states_on_the_way
from benchmarks.sizing import Work
from loading_bay.stack.prices import FILE, Prices, monthly_hosting
from loading_bay.stack.template import read_definition

PRICES = Prices.read()
# A function of 20 ms on a core without waiting, an endpoint of 10 ms per image, a workflow of 0.25 s.
WORK = Work(cpu=20, cold_cpu=200, waiting=0)
TIMING = Timing({"serialize": WORK, "inference": WORK, "threshold": WORK}, image_cpu=10, workflow_seconds=0.25)
STANDARD = Setup("Standard", "real-time")
EXPRESS = Setup("Express", "real-time")
SERVERLESS = Setup("Standard", "serverless")
ALL_ROUTED = Workload(1_000_000, rejected=0, review=0)


def chain(*names: str, end: str = "Succeed") -> dict[str, object]:
    states: dict[str, object] = {name: {"Type": "Pass", "Next": following} for name, following in pairwise(names)}
    return {"StartAt": names[0], "States": states | {names[-1]: {"Type": end}}}


def test_states_are_counted_along_the_way_to_the_outcome() -> None:
    assert states_on_the_way(chain("A", "B", "C"), "C") == ["A", "B", "C"]


def test_a_choice_takes_the_branch_to_the_outcome() -> None:
    definition = chain("A", "Pick")
    states = definition["States"]
    assert isinstance(states, dict)
    states["Pick"] = {"Type": "Choice", "Choices": [{"Next": "Good"}, {"Next": "More"}]}
    states["More"] = {"Type": "Pass", "Next": "Best"}
    states["Good"], states["Best"] = {"Type": "Succeed"}, {"Type": "Succeed"}

    assert states_on_the_way(definition, "Good") == ["A", "Pick", "Good"]
    assert states_on_the_way(definition, "Best") == ["A", "Pick", "More", "Best"]


def test_a_failing_state_takes_its_catch() -> None:
    definition = chain("A", "B", "C", "End")
    states = definition["States"]
    assert isinstance(states, dict)
    states["A"] |= {"Catch": [{"Next": "C"}]}

    assert states_on_the_way(definition, "End", fails_at="A") == ["A", "C", "End"]


def test_an_outcome_that_is_not_reached_is_an_error() -> None:
    with pytest.raises(ValueError, match="ends in C, not in D"):
        states_on_the_way(chain("A", "B", "C"), "D")


def test_every_outcome_of_the_workflow_has_a_path() -> None:
    definition = read_definition(cost.DEFINITION)

    ways = {name: states_on_the_way(definition, name, fails_at) for name, fails_at in cost.OUTCOMES.items()}

    assert {"SerializePhoto", "InferVehicle", "CheckConfidence", "RecordOutcome"} <= set(ways["VehicleRouted"])
    assert len(ways["LowConfidence"]) == len(ways["VehicleRouted"])
    assert len(ways["PhotoRejected"]) == len(ways["VehicleRouted"]) - 2


def test_standard_is_billed_by_transition() -> None:
    definition = read_definition(cost.DEFINITION)
    states = len(states_on_the_way(definition, "VehicleRouted"))

    # A million photos, each with so many states and the start, at $25 per million transitions.
    assert bill(ALL_ROUTED, STANDARD, TIMING, PRICES)["workflow"] == pytest.approx((states + 1) * 25)


def test_express_is_billed_by_request_and_begun_100_ms_of_64_mb() -> None:
    # 0.25 s are billed as 0.3 s of 1/16 GB: a million of them are 18,750 GB-s at $0.00001667, and $1 for requests.
    assert bill(ALL_ROUTED, EXPRESS, TIMING, PRICES)["workflow"] == pytest.approx(1 + 18_750 * 0.00001667)


def test_a_function_slows_down_with_less_than_a_core() -> None:
    assert WORK.milliseconds(1769) == 20
    assert WORK.milliseconds(3538) == 20
    assert Work(cpu=20, cold_cpu=0, waiting=7).milliseconds(1769 // 2) == pytest.approx(47, abs=0.1)


def test_a_function_is_billed_by_begun_millisecond_and_request() -> None:
    # 20 ms of 1,769 MB: 1e6 × 0.020 s × 1.7275 GB = 34,551 GB-s at $0.0000133334, and $0.20 for requests.
    assert WORK.price_of_a_million(1769, PRICES) == pytest.approx(34_550.78 * 0.0000133334 + 0.2, rel=1e-6)
    begun = Work(cpu=20.2, cold_cpu=0, waiting=0).price_of_a_million(1769, PRICES)
    assert begun == pytest.approx(21 / 20 * 34_550.78 * 0.0000133334 + 0.2, rel=1e-6)


def test_rejected_photos_never_reach_the_model() -> None:
    some = bill(Workload(1_000_000, rejected=0.5, review=0), SERVERLESS, TIMING, PRICES)
    none = bill(ALL_ROUTED, SERVERLESS, TIMING, PRICES)
    assert some["endpoint"] == pytest.approx(none["endpoint"] / 2)


def test_an_instance_costs_while_it_stands() -> None:
    # 730 hours at $0.115, and 1e6 × 4 KB = 4 GB of data at $0.016.
    assert bill(ALL_ROUTED, STANDARD, TIMING, PRICES)["endpoint"] == pytest.approx(730 * 0.115 + 4 * 0.016)


def test_serverless_costs_while_it_answers() -> None:
    # 1e6 × 10 ms × 2 GB = 20,000 GB-s at $0.00002, and the data.
    assert bill(ALL_ROUTED, SERVERLESS, TIMING, PRICES)["endpoint"] == pytest.approx(20_000 * 0.00002 + 4 * 0.016)


def test_instances_are_for_the_busiest_minute() -> None:
    # Two cores at 10 ms per image answer 200 per second, of which 140 count.
    month = 730 * 3600
    assert instances(140 * month, Workload(1, peak_factor=1), TIMING) == 1
    assert instances(141 * month, Workload(1, peak_factor=1), TIMING) == 2
    assert instances(140 * month, Workload(1, peak_factor=3), TIMING) == 3
    assert instances(1, Workload(1), TIMING) == 1


def test_a_decision_is_written_three_times_and_its_index_twice() -> None:
    # 3 writes of the table, 2 of the queue's index: 5 at $0.625 per million. Storage for zero days is free.
    nothing_kept = Workload(1_000_000, item_days=0, rejected=0, review=0)
    assert bill(nothing_kept, STANDARD, TIMING, PRICES)["decisions"] == pytest.approx(5 * 0.625)


def test_a_photo_that_needs_review_changes_its_queue() -> None:
    # Changing the key of a queue's index takes two writes: 6 at $0.625 per million.
    nothing_kept = Workload(1_000_000, item_days=0, rejected=0, review=1)
    assert bill(nothing_kept, STANDARD, TIMING, PRICES)["decisions"] == pytest.approx(6 * 0.625)


def test_a_decision_is_stored_once_with_its_recovery() -> None:
    # A million of 1 KB for a month of 730 hours: 1 GB at $0.25 and $0.20.
    kept, not_kept = (Workload(1_000_000, item_kb=1, item_days=days) for days in (730 / 24, 0))
    stored = bill(kept, STANDARD, TIMING, PRICES)["decisions"] - bill(not_kept, STANDARD, TIMING, PRICES)["decisions"]
    assert stored == pytest.approx(0.45)


def test_all_of_few_photos_and_a_twentieth_of_many_are_traced() -> None:
    # At a mean of one photo per second, 63 % of photos are the first in a second and traced, and 5 % of the others.
    assert cost.traced(1) == pytest.approx(1)
    assert cost.traced(730 * 3600) == pytest.approx(0.632 + 0.05 * 0.368, abs=0.001)
    assert cost.traced(10**12) == pytest.approx(0.05, abs=0.001)


def test_an_execution_logs_at_the_templates_level_for_its_type() -> None:
    # Retention of zero days: $0.50 per GB, and the traces. At ERROR, a routed photo's execution logs nothing.
    load = Workload(1_000_000, rejected=0, review=0, log_days=0, function_log_bytes=1_000)
    traces = 1_000_000 * cost.traced(1_000_000) * 5e-6
    routed = cost.LOG_BYTES[cost.log_level("Express")]["VehicleRouted"]
    assert cost.log_level("Standard") == "ERROR"
    assert bill(load, STANDARD, TIMING, PRICES)["logs and traces"] == pytest.approx(0.5 + traces)
    assert bill(load, EXPRESS, TIMING, PRICES)["logs and traces"] == pytest.approx(0.5 + routed / 2000 + traces)


def test_run_again_costs_the_same_with_and_without_photos() -> None:
    # 43,800 runs: $1 per million and 0.3 s of 1/16 GB each, 16 reads at $0.125 and a request at $0.40 per million.
    express = 0.0438 + 43_800 * 0.3 / 16 * 0.00001667
    expected = express + 0.0438 * (16 * 0.125 + 0.40)
    for photos in (1, 10**8):
        assert bill(Workload(photos), STANDARD, TIMING, PRICES)["sweep"] == pytest.approx(expected)


def test_photos_are_kept_for_their_days() -> None:
    # Two million of 1 MB for half a month of 730 hours: 1,000 GB-months; put once, read once.
    load = Workload(2_000_000, photo_mb=1, photo_days=730 / 48)
    assert bill(load, STANDARD, TIMING, PRICES)["photos in S3"] == pytest.approx(1000 * 0.023 + 10 + 0.8)


def test_only_photos_that_need_a_person_send_mail() -> None:
    load = Workload(1_000_000, review=0.1, rejected=0)
    # A million S3 events and as many of the stack's events, at $1 per million.
    assert bill(load, STANDARD, TIMING, PRICES)["events and mails"] == pytest.approx(2 + 100_000 * 0.00002)


def test_a_bill_grows_in_proportion_except_for_fixed_costs() -> None:
    small, large = (bill(Workload(photos), SERVERLESS, TIMING, PRICES) for photos in (10_000, 1_000_000))
    for line in small.keys() - {"metrics and alarms", "sweep", "logs and traces"}:
        assert large[line] == pytest.approx(100 * small[line]), line
    assert large["logs and traces"] < 100 * small["logs and traces"]  # more photos mean a smaller traced share
    assert (large["metrics and alarms"], large["sweep"]) == (small["metrics and alarms"], small["sweep"])


def test_the_cheapest_setup_is_named() -> None:
    assert cheapest({STANDARD: {"a": 3.0, "b": 1.0}, EXPRESS: {"a": 1.0, "b": 2.0}}) is EXPRESS


def test_every_price_is_dated_sourced_and_used() -> None:
    listed = json.loads(FILE.read_text())
    code = "".join(path.read_text() for path in Path("benchmarks").glob("*.py"))

    assert date(2026, 1, 1) < PRICES.noted
    for name, price in listed["prices"].items():
        assert price["source"].startswith("https://aws.amazon.com/"), name
        assert price["confirmed_by"], name
        assert price["dated"], name
        assert price["usd"] > 0, name
        assert f'"{name}"' in code or name.startswith("hosting_ml_"), name


def test_a_deployment_and_the_bill_agree_on_instances() -> None:
    assert monthly_hosting("ml.m5.large", 2) == 2 * 730 * PRICES["hosting_ml_m5_large"]
    assert monthly_hosting("ml.c5.2xlarge", 1) == 730 * PRICES["hosting_ml_c5_2xlarge"]
    assert monthly_hosting("ml.unheard.of", 1) is None


def test_custom_metrics_are_found_where_they_are_published() -> None:
    sources = [*Path("functions").rglob("*.py"), *Path("statemachine").iterdir()]
    names = {name for path in sources for name in cost.METRIC.findall(path.read_text())}
    assert {"PhotosRejected", "Confidence", "EndpointLatency", "OldestReviewAge", "AuditErrors"} <= names


def test_the_plot_shows_every_setup(tmp_path: Path) -> None:
    cost.plot(tmp_path / "cost.svg", Timing(MappingProxyType(TIMING.functions), 10, 0.25), PRICES)
    assert (tmp_path / "cost.svg").read_text().startswith("<?xml")


def test_a_reviewed_photo_is_leased_seen_decided_announced_and_kept() -> None:
    load = Workload(1_000_000, review=0.1, photo_mb=1, item_days=730 / 24)

    lines = cost.review(load, PRICES)

    # WaitForUndo, CloseUndo, Announce, CheckVersion, KeepLabel, CheckReplaced, Confirm, Announced, and the start.
    assert lines["workflow"] == pytest.approx(100_000 * 9 * 0.025 / 1000)
    assert lines["labels"] == pytest.approx(100_000 * 0.005 / 1000 + 100 * 0.023)
    assert lines["decisions"] == pytest.approx(0.1 * 9 * 0.625 + 0.1 * 108 * 0.125)
    assert lines["calls"] == pytest.approx(0.3 * 1.2 + 100_000 * 0.7 * 1769 / 1024 * 0.0000133334)
