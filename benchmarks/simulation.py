"""A burst of photos, simulated event by event: python -m benchmarks simulation --photos 1000000.

Photos arrive over an hour. In turn, they meet the quotas of Step Functions and Lambda, the write limits of a DynamoDB
table and an index key, and an endpoint that scales with its load. Service times are measured, and retries come from the
workflow's definition. The simulation covers waiting but not failing machines: a photo fails only when its retries run
out, and then RunAgain runs it again.
"""

import json
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import simpy
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.progress import Progress
from rich.table import Table

from loading_bay.stack.prices import Prices
from loading_bay.stack.template import read_definition

from .cost import (
    DEFINITION,
    INSTANCE,
    INSTANCE_CORES,
    SETUPS,
    Timing,
    Workload,
    bill,
    console,
    dollars,
    memory_sizes,
    states_on_the_way,
)
from .figures import ROOT
from .results import FOLDER

PLOT = ROOT / "docs" / "simulation.svg"
BATCH_DEFINITION = ROOT / "statemachine" / "classify_batch.asl.yaml"
# Photos in the batches that validate the simulation.
BATCH = 100
HOUR = 3600.0
SAMPLE_SECONDS = 10.0
# A longer delay counts as waiting.
NOTICEABLE = 1.0
# The function's client gives the endpoint 5 s twice; then the workflow waits.
PATIENCE = 10.0
# A direct service call by the workflow: assumed.
CALL_SECONDS = 0.015
# RunAgain looks for due photos every minute. A failed photo is due after five minutes, then after as long as it has
# been failing, but at most ten minutes. A photo that could not be claimed is due after a minute.
SWEEP_SECONDS = 60.0
SET_ASIDE_SECONDS = 60.0
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 300.0, 600.0
GIVE_UP_SECONDS = 24 * HOUR
# The shards of the queue's index.
SHARDS = 16

Steps = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Quotas:
    """An account's quotas in us-east-1, before any is raised.

    https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html and
    https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html. The scaling rate of Lambda, 1,000 per
    function every 10 s, never binds below a concurrency of 1,000. Express workflows have no state transition quota.
    """

    starts_at_once: float = 1_300
    starts_a_second: float = 300
    transitions_at_once: float = 5_000
    transitions_a_second: float = 5_000
    concurrency: int = 1_000
    table_writes: float = 4_000
    key_writes: float = 1_000

    @classmethod
    def express(cls, table_writes: float = 4_000) -> "Quotas":
        """Return the quotas of Express workflows."""
        return cls(6_000, 6_000, math.inf, math.inf, table_writes=table_writes)

    @property
    def are_express(self) -> bool:
        """Whether these are the quotas of Express workflows."""
        return math.isinf(self.transitions_a_second)


@dataclass(frozen=True)
class EndpointScaling:
    """Target tracking of the endpoint by calls per minute and instance, as `loading-bay model deploy` configures it.

    It acts after three minutes above the target; a new instance then takes a few minutes to start serving.
    """

    least: int = 1
    most: int = 2
    calls_a_minute: float = 1_000
    alarm_minutes: int = 3
    launch_seconds: float = 300


@dataclass(frozen=True)
class Scenario:
    """A number of photos in an hour; the share `peak` arrives around its middle, within about ten minutes."""

    name: str
    photos: int
    quotas: Quotas = Quotas()
    hosting: EndpointScaling = EndpointScaling()
    peak: float = 0.5

    def arrivals(self, chance: np.random.Generator) -> NDArray[np.float64]:
        """Return the arrival times of the photos (s), in order."""
        at_the_peak = chance.binomial(self.photos, self.peak)
        steady = chance.uniform(0, HOUR, self.photos - at_the_peak)
        rush = np.clip(chance.normal(HOUR / 2, 150, at_the_peak), 0, HOUR)
        return np.sort(np.concatenate([steady, rush]))


class Retries:
    """The retries of a state of ClassifyPhoto after an error: the longest wait before each attempt (s)."""

    def __init__(self, state: str, error: str) -> None:
        retriers = read_definition(DEFINITION)["States"][state]["Retry"]
        retry = next(each for each in retriers if {error, "States.ALL"} & set(each["ErrorEquals"]))
        first, rate = retry.get("IntervalSeconds", 1), retry.get("BackoffRate", 2)
        longest = retry.get("MaxDelaySeconds", math.inf)
        self.waits: list[float] = [
            min(first * rate**attempt, longest) for attempt in range(retry.get("MaxAttempts", 3))
        ]

    @property
    def patience(self) -> float:
        """The mean of their sum; full jitter halves the waits."""
        return sum(self.waits) / 2.0


class Bucket:
    """A token bucket: reservations wait in order until there are tokens."""

    def __init__(self, size: float, rate: float) -> None:
        self._size, self._rate = size, rate
        self._tokens, self._at = size, 0.0

    def reserve(self, now: float, tokens: float = 1) -> float:
        """Take tokens; return the wait for them (s)."""
        if math.isinf(self._rate):
            return 0.0
        wait = self.wait(now, tokens)
        self._tokens = min(self._size, self._tokens + (now - self._at) * self._rate) - tokens
        self._at = now
        return wait

    def wait(self, now: float, tokens: float = 1) -> float:
        """Return the wait for tokens (s) without taking them."""
        if math.isinf(self._rate):
            return 0.0
        left = min(self._size, self._tokens + (now - self._at) * self._rate) - tokens
        return max(0.0, -left / self._rate)


class Pool:
    """Equal servers, to which more may be added; a caller waits in order for a free one, or gives up."""

    def __init__(self, env: simpy.Environment, servers: int) -> None:
        self._env = env
        self._free = servers
        # A plain dict finds its first entry more slowly after many removals.
        self._waiting: OrderedDict[simpy.Event, None] = OrderedDict()
        self.servers = servers

    @property
    def waiting(self) -> int:
        """The number of waiting callers."""
        return len(self._waiting)

    def take(self, patience: float = math.inf) -> Generator[simpy.Event, Any, bool]:
        """Wait for a server, at most `patience` seconds; return whether one was free."""
        if self._free:
            self._free -= 1
            return True
        turn = self._env.event()
        self._waiting[turn] = None
        if math.isinf(patience):
            yield turn
        else:
            yield turn | self._env.timeout(patience)
        if turn.triggered:
            return True
        del self._waiting[turn]
        return False

    def give(self) -> None:
        """Release a server to the caller that has waited longest."""
        if self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            turn.succeed()
        else:
            self._free += 1

    def grow(self, servers: int) -> None:
        """Add servers."""
        self.servers += servers
        for _ in range(servers):
            self.give()


@dataclass
class Outcome:
    """The outcomes of a scenario's photos.

    `delays` are from upload to outcome (s). `again` counts the photos that RunAgain ran again. `waits` is the longest
    wait at each limit, and `first` the time of the first noticeable wait there (s). `queues` and `instances` are
    sampled every SAMPLE_SECONDS.
    """

    scenario: Scenario
    delays: list[float] = field(default_factory=list)
    failed: int = 0
    again: int = 0
    waits: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    waited: Counter[str] = field(default_factory=Counter)
    queues: list[int] = field(default_factory=list)
    instances: list[int] = field(default_factory=list)
    cost: float = 0.0

    def note(self, limit: str, wait: float, now: float) -> None:
        """Record a wait at one of the limits."""
        if wait > NOTICEABLE:
            self.waited[limit] += 1
            self.first.setdefault(limit, now)
        self.waits[limit] = max(self.waits.get(limit, 0.0), wait)

    def first_limit(self) -> str:
        """Return the limit that photos waited for first."""
        return min(self.first, key=self.first.__getitem__) if self.first else "none"


class Burst:
    """The run of a scenario."""

    def __init__(self, scenario: Scenario, timing: Timing, seed: int = 0) -> None:
        self.env = simpy.Environment()
        self.outcome = Outcome(scenario)
        self._scenario = scenario
        self._chance = np.random.default_rng(seed)
        self._starts = Bucket(scenario.quotas.starts_at_once, scenario.quotas.starts_a_second)
        self._transitions = Bucket(scenario.quotas.transitions_at_once, scenario.quotas.transitions_a_second)
        self._table = Bucket(scenario.quotas.table_writes, scenario.quotas.table_writes)
        key = scenario.quotas.key_writes
        self._index = [Bucket(key, key) for _ in range(SHARDS)]
        self._slots = Pool(self.env, scenario.quotas.concurrency)
        self._throttled = Retries("SerializePhoto", "Lambda.TooManyRequestsException")
        self._unavailable = Retries("InferVehicle", "EndpointUnavailable")
        self._unwritten = Retries("ClaimPhoto", "DynamoDB.AmazonDynamoDBException")
        # The time after the endpoint's answer.
        self._last_states = len(states_on_the_way(read_definition(DEFINITION), "VehicleRouted")) - 4
        self._image_seconds = timing.image_cpu / 1000
        self._cores = Pool(self.env, scenario.hosting.least * INSTANCE_CORES)
        memories = memory_sizes()
        self._function_seconds = {
            name: work.milliseconds(memories[name]) / 1000 for name, work in timing.functions.items()
        }
        self._calls = 0
        self._open = 0
        self._arrived = False

    def run(self, advance: Callable[[int], object] = lambda _: None) -> Outcome:
        """Simulate until every photo has an outcome; call `advance` for every thousandth of the photos."""
        self.env.process(self._arrive(advance))
        self.env.process(self._sample())
        self.env.process(self._scale())
        self.env.run()
        return self.outcome

    def _arrive(self, advance: Callable[[int], object]) -> Steps:
        for index, moment in enumerate(self._scenario.arrivals(self._chance)):
            yield self.env.timeout(moment - self.env.now)
            self._open += 1
            self.env.process(self._photo())
            if index % 1000 == 999:
                advance(1000)
        self._arrived = True

    def _photo(self) -> Steps:
        uploaded, again = self.env.now, 0
        shard = int(self._chance.integers(SHARDS))
        while (waits := (yield from self._execution(uploaded, shard))) and self.env.now - uploaded < GIVE_UP_SECONDS:
            again = 1
            due = self.env.now + waits
            yield self.env.timeout(math.ceil(due / SWEEP_SECONDS) * SWEEP_SECONDS - self.env.now)
        self.outcome.again += again
        self.outcome.failed += waits > 0
        self.outcome.delays.append(self.env.now - uploaded)
        self._open -= 1

    def _execution(self, uploaded: float, shard: int) -> Generator[simpy.Event, Any, float]:
        """Classify a photo; return the seconds until it runs again, or 0 if it was decided."""
        wait = self._starts.reserve(self.env.now)
        self.outcome.note("StartExecution", wait, self.env.now)
        if wait:
            yield self.env.timeout(wait)
        yield from self._enter(3)
        if not (yield from self._write(shard)):
            return SET_ASIDE_SECONDS
        yield from self._enter(1)
        decided = yield from self._function("serialize")
        if decided:
            yield from self._enter(1)
            decided = yield from self._infer()
        # CheckConfidence takes a millisecond; then the photo is recorded, announced, and confirmed in its queue.
        yield from self._enter(self._last_states)
        recorded = yield from self._write(None)
        yield self.env.timeout(CALL_SECONDS)
        recorded = recorded and (yield from self._write(shard))
        failing = self.env.now - uploaded
        return 0.0 if decided and recorded else min(LONGEST_RETRY_SECONDS, max(RETRY_SECONDS, failing))

    def _write(self, shard: int | None) -> Generator[simpy.Event, Any, bool]:
        """Write an item, and the index if its queue changes; return whether the retries were enough."""
        buckets = {"table": self._table} | ({} if shard is None else {"index": self._index[shard]})
        waits = {name: bucket.wait(self.env.now) for name, bucket in buckets.items()}
        wait = max(waits.values())
        for name, each in waits.items():
            self.outcome.note(name, min(each, self._unwritten.patience), self.env.now)
        if wait > self._unwritten.patience:
            yield self.env.timeout(self._unwritten.patience)
            return False
        for bucket in buckets.values():
            bucket.reserve(self.env.now)
        yield self.env.timeout(wait + CALL_SECONDS)
        return True

    def _enter(self, states: int) -> Steps:
        wait = self._transitions.reserve(self.env.now, states)
        self.outcome.note("state transitions", wait, self.env.now)
        if wait:
            yield self.env.timeout(wait)

    def _slot(self) -> Generator[simpy.Event, Any, bool]:
        asked = self.env.now
        taken = yield from self._slots.take(self._throttled.patience)
        self.outcome.note("Lambda concurrency", self.env.now - asked, asked)
        return taken

    def _function(self, name: str) -> Generator[simpy.Event, Any, bool]:
        taken = yield from self._slot()
        if taken:
            yield self.env.timeout(self._function_seconds[name])
            self._slots.give()
        return taken

    def _infer(self) -> Generator[simpy.Event, Any, bool]:
        """Call the endpoint; the waiting function occupies a Lambda slot."""
        for longest in [*self._unavailable.waits, None]:
            taken = yield from self._slot()
            if not taken:
                return False
            asked = self.env.now
            self._calls += 1
            answered = yield from self._cores.take(PATIENCE)
            self.outcome.note("endpoint", self.env.now - asked, asked)
            if answered:
                yield self.env.timeout(self._image_seconds)
                self._cores.give()
                yield self.env.timeout(self._function_seconds["inference"])
            self._slots.give()
            if answered:
                return True
            if longest is not None:
                yield self.env.timeout(self._chance.uniform(0, longest))
        return False

    def _sample(self) -> Steps:
        while self._open or not self._arrived:
            self.outcome.queues.append(self._open)
            self.outcome.instances.append(self._cores.servers // INSTANCE_CORES)
            yield self.env.timeout(SAMPLE_SECONDS)

    def _scale(self) -> Steps:
        hosting, above, wanted = self._scenario.hosting, 0, self._scenario.hosting.least
        while self._open or not self._arrived:
            self._calls = 0
            yield self.env.timeout(60)
            serving = self._cores.servers // INSTANCE_CORES
            above = above + 1 if self._calls / serving > hosting.calls_a_minute else 0
            needed = min(hosting.most, math.ceil(self._calls / hosting.calls_a_minute))
            if above >= hosting.alarm_minutes and needed > wanted:
                self.env.process(self._launch(needed - wanted))
                wanted = needed

    def _launch(self, instances: int) -> Steps:
        yield self.env.timeout(self._scenario.hosting.launch_seconds)
        self._cores.grow(instances * INSTANCE_CORES)


def price(outcome: Outcome, timing: Timing, prices: Prices) -> float:
    """Return the cost of the scenario (US dollars): that of the photos, and of the instances for its duration."""
    express = outcome.scenario.quotas.are_express
    setup = next(s for s in SETUPS if s.hosting == "real-time" and (s.workflow == "Express") == express)
    lines = bill(Workload(outcome.scenario.photos), setup, timing, prices)
    by_photo = sum(amount for line, amount in lines.items() if line not in {"endpoint", "metrics and alarms"})
    return by_photo + sum(outcome.instances) * SAMPLE_SECONDS / HOUR * prices[INSTANCE]


def local_rate(concurrency: int, cores: int, cpu: float, waiting: float, photos: int) -> float:
    """Simulate a batch on one machine; return photos per second.

    The concurrent photos each take `cpu` seconds of a core, in slices, and `waiting` idle seconds.
    """
    env = simpy.Environment()
    machine = Pool(env, cores)
    left = deque(range(photos))
    slices = 10

    def worker() -> Steps:
        while left:
            left.pop()
            for _ in range(slices):
                yield env.timeout(waiting / slices)
                yield from machine.take()
                yield env.timeout(cpu / slices)
                machine.give()

    for _ in range(concurrency):
        env.process(worker())
    env.run()
    return photos / float(env.now)


def scenarios(photos: int) -> list[Scenario]:
    """Return the scenarios to compare: the default of `deploy`, then the removal of one limit after another."""
    large = EndpointScaling(least=32, most=40, calls_a_minute=2_500)
    more_starts = Quotas(starts_at_once=1_500, starts_a_second=1_500)
    return [
        Scenario("a tenth of the photos, as deployed by default", photos // 10),
        Scenario("a tenth of the photos, Express, 1 to 2 instances", photos // 10, Quotas.express()),
        Scenario("32 instances", photos, hosting=large),
        Scenario("1,500 starts per second, 32 instances", photos, more_starts, large),
        Scenario("Express, 32 instances", photos, Quotas.express(), large),
        Scenario("Express, 32 instances, warm table", photos, Quotas.express(table_writes=8_000), large),
    ]


def show(outcomes: list[Outcome]) -> None:
    """Print the results of every scenario."""
    table = Table(title="Photos within an hour, half of them around its middle", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("scenario")
    for heading in ("photos", "delay p50", "p99", "longest", "queue", "run again", "failed", "instances", "cost"):
        table.add_column(heading, justify="right")
    table.add_column("waited first for")
    for outcome in outcomes:
        p50, p99 = np.percentile(outcome.delays, (50, 99))
        table.add_row(
            outcome.scenario.name,
            f"{outcome.scenario.photos:,}",
            f"{p50:.2f} s",
            f"{p99:,.1f} s",
            f"{max(outcome.delays):,.0f} s",
            f"{max(outcome.queues):,}",
            f"{outcome.again:,}",
            f"{outcome.failed:,}",
            str(max(outcome.instances)),
            dollars(outcome.cost),
            outcome.first_limit(),
        )
    console.print(table)
    for outcome in outcomes:
        waits = ", ".join(f"{limit} {wait:,.1f} s ({outcome.waited[limit]:,})" for limit, wait in outcome.waits.items())
        console.print(f"  {outcome.scenario.name}, {outcome.scenario.photos:,}: longest wait (photos waiting): {waits}")


def check(folder: Path = FOLDER) -> list[tuple[int, float, float]]:
    """Return concurrency, and measured and simulated photos per second, of the last kept batches on this machine.

    The fixed time of a batch, the wait for the index in its definition, is subtracted first.
    """
    kept = json.loads((folder / "batch.json").read_text())
    rows: Mapping[str, Any] = {row["case"]: row for row in kept["rows"]}
    aside: float = read_definition(BATCH_DEFINITION)["States"]["LetIndexCatchUp"]["Seconds"]

    def measured(concurrency: int) -> float:
        whole: float = rows[f"{BATCH} photos, {concurrency} at once"]["measured"]["median"]
        return BATCH / (BATCH / whole - aside)

    cores = kept["machine"]["cores"]
    cpu = cores / rows[f"{BATCH} photos, 1 at once"]["limit"]["figure"]["median"]
    waiting = 1 / measured(1) - cpu
    return [
        (concurrency, measured(concurrency), local_rate(concurrency, cores, cpu, waiting, BATCH))
        for concurrency in (1, 4, 8, 16)
    ]


def show_check() -> None:
    """Print the difference between the simulation and the batches on this machine."""
    table = Table(title=f"{BATCH} photos on the local stack, photos/s", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("at once", "measured", "simulated", "ratio"):
        table.add_column(heading, justify="right")
    for concurrency, found, simulated in check():
        table.add_row(str(concurrency), f"{found:.1f}", f"{simulated:.1f}", f"{simulated / found:.2f}")
    console.print(table)


def plot(path: Path, outcomes: list[Outcome]) -> None:
    """Draw queue and instances over time."""
    from matplotlib import rc_context  # noqa: PLC0415 - only a plot needs it
    from matplotlib.figure import Figure  # noqa: PLC0415

    with rc_context({"svg.hashsalt": "simulation", "font.size": 11}):
        drawing = Figure(figsize=(8, 5.6), layout="constrained")
        queue, instances = drawing.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        for number, outcome in enumerate(outcomes):
            minutes = np.arange(len(outcome.queues)) * SAMPLE_SECONDS / 60
            style = "--" if outcome.scenario.quotas.are_express else "-"
            label = outcome.scenario.name + (f" ({outcome.failed:,} photos fail)" if outcome.failed else "")
            queue.plot(minutes, np.maximum(outcome.queues, 1), style, color=f"C{number}", label=label, lw=1.8)
            instances.step(minutes, outcome.instances, style, color=f"C{number}", where="post", lw=1.8)
        photos = max(outcome.scenario.photos for outcome in outcomes)
        queue.set(yscale="log", ylabel="photos without an outcome")
        queue.set_title(f"Up to {photos:,} photos in an hour, half of them around its middle", loc="left", fontsize=11)
        drawing.legend(frameon=False, loc="outside lower center", ncols=2, fontsize=9)
        instances.set(xlabel="minutes", ylabel="instances")
        instances.set_ylim(bottom=0)
        for axes in (queue, instances):
            axes.grid(visible=True, alpha=0.3)
        drawing.savefig(path, metadata={"Date": None})


@click.command()
@click.option("--photos", type=click.IntRange(1000), default=1_000_000, show_default=True, help="Photos in the hour.")
@click.option("--check", "check_only", is_flag=True, help="Only validate with the last kept batches on this machine.")
@click.option("--plot", "draw", is_flag=True, help=f"Draw queue and instances into {PLOT.relative_to(ROOT)}.")
def main(photos: int, check_only: bool, draw: bool) -> None:
    """Simulate a burst of photos under AWS quotas, with the measured service times."""
    if check_only:
        show_check()
        return
    timing, prices = Timing.read(), Prices.read()
    outcomes = []
    with Progress(console=console, transient=True) as progress:
        for scenario in scenarios(photos):
            task = progress.add_task(scenario.name, total=photos)
            outcome = Burst(scenario, timing).run(lambda done, task=task: progress.advance(task, done))  # type: ignore[misc]
            outcome.cost = price(outcome, timing, prices)
            outcomes.append(outcome)
    show(outcomes)
    if draw:
        plot(PLOT, outcomes)
        console.print(f"drawn: {PLOT.relative_to(ROOT)}")
