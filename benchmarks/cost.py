"""The monthly bill of this stack at list prices: python -m benchmarks cost --photos-per-month N.

The usage per photo is counted where possible: state transitions from the workflow's definition, alarms and metrics from
the template, durations from the measurements. The fields of Workload hold the assumptions.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loading_bay.stack.prices import HOURS_A_MONTH, Prices
from loading_bay.stack.template import read_definition, read_template

from .figures import ROOT
from .results import FOLDER
from .sizing import WAITING, Work

DEFINITION = ROOT / "statemachine" / "classify_photo.asl.yaml"
REVIEW_DEFINITION = ROOT / "statemachine" / "announce_review.asl.yaml"
PLOT = ROOT / "docs" / "cost.svg"
SIZES = tuple(10**exponent for exponent in range(3, 9))
SECONDS_A_MONTH = HOURS_A_MONTH * 3600
# Step Functions bills Express in steps of 64 MB and 100 ms; this workflow never fills the first 64 MB.
EXPRESS_GB = 64 / 1024
EXPRESS_STEP = 0.1
# RunAgain starts every minute, and reads sixteen shards of both queues; a small read takes half a unit.
SWEEPS_A_MONTH = SECONDS_A_MONTH // 60
READS_OF_A_QUEUE = 16 * 0.5
READS_OF_A_SWEEP = 2 * READS_OF_A_QUEUE
# The default rule of X-Ray: the first request per second, and 5 % of the others.
# https://docs.aws.amazon.com/xray/latest/devguide/xray-console-sampling.html
TRACED_BEYOND_THE_FIRST = 0.05
INSTANCE = "hosting_ml_m5_large"
# vCPUs of ml.m5.large.
INSTANCE_CORES = 2
SERVERLESS_GB = 2.0
console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=140)


@dataclass(frozen=True)
class Workload:
    """The photos of a month, and the billed quantities that the project's files do not give.

    `peak_factor` is the ratio of the busiest minute to the mean, which decides the number of instances. `item_kb` is
    the size of a decision. The functions' logs are in bytes per photo, measured on the sample photos.
    """

    photos: int
    rejected: float = 0.02
    review: float = 0.08
    photo_mb: float = 3.0
    photo_days: float = 30
    item_kb: float = 0.8
    item_days: float = 365
    log_days: float = 30
    function_log_bytes: int = 2_200
    peak_factor: float = 3.0
    mails: bool = True

    @property
    def shares(self) -> dict[str, float]:
        """The share of photos for each end of an execution."""
        return {
            "VehicleRouted": 1 - self.review - self.rejected,
            "LowConfidence": self.review,
            "PhotoRejected": self.rejected,
        }


@dataclass(frozen=True)
class Setup:
    """One way to run the stack: the workflow's type, and how the endpoint is hosted."""

    workflow: str
    hosting: str

    def __str__(self) -> str:
        """Name the setup."""
        return f"{self.workflow} workflow, {self.hosting} endpoint"


SETUPS = tuple(
    Setup(workflow, hosting) for workflow in ("Standard", "Express") for hosting in ("real-time", "serverless")
)


@dataclass(frozen=True)
class Timing:
    """Measured times: the work of each function, the endpoint's processor time per image (ms), the workflow (s)."""

    functions: Mapping[str, Work]
    image_cpu: float
    workflow_seconds: float

    @classmethod
    def read(cls, folder: Path = FOLDER) -> "Timing":
        """Read the figures of the last kept runs of the benchmarks."""
        sizing, endpoint = (_medians(folder / f"{name}.json") for name in ("sizing", "endpoint"))
        functions = {
            name: Work(sizing[f"{name}, warm"], sizing[f"{name}, cold"], waiting) for name, waiting in WAITING.items()
        }
        image = 1000 / endpoint["1 core, 16 clients, images/s"]
        memories = memory_sizes()
        work = sum(each.milliseconds(memories[name]) for name, each in functions.items())
        # Assumed: six direct service calls by the workflow, about 15 ms each.
        return cls(functions, image, work / 1000 + image / 1000 + 6 * 0.015)


def _medians(path: Path) -> dict[str, float]:
    return {row["case"]: row["measured"]["median"] for row in json.loads(path.read_text())["rows"]}


@cache
def resources() -> dict[str, dict[str, Any]]:
    """Return the resources in the template."""
    found: dict[str, dict[str, Any]] = read_template()["Resources"]
    return found


def memory_sizes() -> dict[str, int]:
    """Return each function's memory from the template (MB)."""
    return {name: resources()[f"{name.capitalize()}Function"]["Properties"]["MemorySize"] for name in WAITING}


# Bytes that an execution logs without its data, by log level and end, measured with the sample photos.
LOG_BYTES: Mapping[str, Mapping[str, int]] = {
    "ERROR": {"VehicleRouted": 0, "LowConfidence": 2_700, "PhotoRejected": 3_000},
    "ALL": {"VehicleRouted": 18_100, "LowConfidence": 19_200, "PhotoRejected": 15_200},
}

# The end of an execution, and the state that fails on the way there.
OUTCOMES: Mapping[str, str | None] = {
    "VehicleRouted": None,
    "LowConfidence": "CheckConfidence",
    "PhotoRejected": "SerializePhoto",
}


def states_on_the_way(definition: Mapping[str, Any], outcome: str, fails_at: str | None = None) -> list[str]:
    """Return the states of an execution that ends in the state `outcome`, after at most one failure.

    A choice takes the branch to the outcome, or else its first branch that does not end the execution.
    """
    states, ends = definition["States"], {"Succeed", "Fail"}
    way = [definition["StartAt"]]
    while (state := states[way[-1]])["Type"] not in ends:
        if way[-1] == fails_at:
            following = state["Catch"][0]["Next"]
        elif state["Type"] == "Choice":
            branches = [choice["Next"] for choice in state["Choices"]]
            following = next(
                (name for name in branches if name == outcome),
                next((name for name in branches if states[name]["Type"] not in ends), branches[0]),
            )
        else:
            following = state["Next"]
        way.append(following)
    if way[-1] != outcome:
        raise ValueError(f"an execution that fails at {fails_at} ends in {way[-1]}, not in {outcome}")
    return way


def transitions_of_a_photo(load: Workload) -> float:
    """Return the mean number of billed state transitions per photo: every state and the start, but no retries.

    https://aws.amazon.com/step-functions/pricing/ counts the start in its examples.
    """
    definition = read_definition(DEFINITION)
    return sum(
        share * (1 + len(states_on_the_way(definition, outcome, OUTCOMES[outcome])))
        for outcome, share in load.shares.items()
    )


def bill(load: Workload, setup: Setup, timing: Timing, prices: Prices) -> dict[str, float]:
    """Return the lines of the monthly bill (US dollars)."""
    asked = load.photos * (1 - load.rejected)
    return {
        "workflow": _workflow(load, setup, timing, prices),
        "functions": _functions(load, timing, prices),
        "endpoint": _endpoint(asked, load, setup, timing, prices),
        "decisions": _decisions(load, prices),
        "photos in S3": load.photos
        * (
            prices["s3_put"]
            + prices["s3_get"]
            + load.photo_mb / 1000 * prices["s3_storage"] * load.photo_days / (HOURS_A_MONTH / 24)
        ),
        "events and mails": load.photos * (prices["eventbridge_data_event"] + prices["eventbridge_event"])
        + (load.photos * (load.review + load.rejected) * prices["sns_email"] if load.mails else 0),
        "logs and traces": _logs(load, setup, prices),
        "sweep": _sweep(prices),
        "metrics and alarms": _watching(prices),
    }


def _workflow(load: Workload, setup: Setup, timing: Timing, prices: Prices) -> float:
    if setup.workflow == "Standard":
        return load.photos * transitions_of_a_photo(load) * prices["standard_transition"]
    return _express(load.photos, timing.workflow_seconds, prices)


def _express(executions: float, seconds: float, prices: Prices) -> float:
    billed = math.ceil(seconds / EXPRESS_STEP) * EXPRESS_STEP
    return executions * (prices["express_request"] + billed * EXPRESS_GB * prices["express_gb_second"])


def _functions(load: Workload, timing: Timing, prices: Prices) -> float:
    reached = {"serialize": 1.0, "inference": 1 - load.rejected, "threshold": 1 - load.rejected}
    return sum(
        load.photos * share / 1e6 * timing.functions[name].price_of_a_million(memory_sizes()[name], prices)
        for name, share in reached.items()
    )


def _endpoint(asked: float, load: Workload, setup: Setup, timing: Timing, prices: Prices) -> float:
    data = asked * 4e-6 * prices["hosting_data"]  # a small PNG in, two numbers out: 4 KB
    if setup.hosting == "serverless":
        return asked * timing.image_cpu / 1000 * SERVERLESS_GB * prices["hosting_serverless"] + data
    return instances(asked, load, timing) * HOURS_A_MONTH * prices[INSTANCE] + data


def instances(asked: float, load: Workload, timing: Timing) -> int:
    """Return the number of instances for the busiest minute, each at no more than 70 % of its capacity."""
    busiest = asked / SECONDS_A_MONTH * load.peak_factor
    return max(1, math.ceil(busiest / (0.7 * INSTANCE_CORES * 1000 / timing.image_cpu)))


def _decisions(load: Workload, prices: Prices) -> float:
    """Claim, record and confirm each write the item, and also each index that contains it.

    The claim adds the item to the queue's index (one write). The confirmation removes it (one) or moves it to the
    review queue (two). The index by batch does not contain uploads.
    """
    table, index = 3, 2 + load.review
    writes = load.photos * math.ceil(load.item_kb) * (table + index)
    stored = load.photos * load.item_kb / 1e6 * load.item_days / (HOURS_A_MONTH / 24)
    return writes * prices["dynamodb_write"] + stored * (prices["dynamodb_storage"] + prices["dynamodb_recovery"])


def review(load: Workload, prices: Prices) -> dict[str, float]:
    """Return the cost of people's decisions beside the bill, with labels stored for as long as decisions.

    A photo takes three calls of the page's API: to get it, to see it (half a second of a core) and to decide it. It is
    leased, decided, closed and confirmed, with four writes to the queue's index and one to the day's index.
    """
    photos = load.photos * load.review
    way = states_on_the_way(read_definition(REVIEW_DEFINITION), "Announced")
    memory = resources()["ReviewFunction"]["Properties"]["MemorySize"] / 1024
    calls = 3 * (prices["http_api_request"] + prices["lambda_request"]) + 0.7 * memory * prices["lambda_gb_second"]
    writes, reads = 4 + 4 + 1, READS_OF_A_QUEUE + 100  # each request for photos reads up to a hundred records
    label_months = load.item_days / (HOURS_A_MONTH / 24)
    return {
        "calls": photos * calls,
        "workflow": photos * (1 + len(way)) * prices["standard_transition"],
        "decisions": photos * (writes * prices["dynamodb_write"] + reads * prices["dynamodb_read"]),
        "labels": photos * (prices["s3_put"] + load.photo_mb / 1000 * prices["s3_storage"] * label_months),
    }


def _logs(load: Workload, setup: Setup, prices: Prices) -> float:
    logged = LOG_BYTES[log_level(setup.workflow)]
    workflow = sum(share * logged[outcome] for outcome, share in load.shares.items())
    gigabytes = load.photos * (load.function_log_bytes + workflow) / 1e9
    # Logs are kept compressed, to about 15 % of their size.
    stored = gigabytes * 0.15 * load.log_days / (HOURS_A_MONTH / 24)
    traces = load.photos * traced(load.photos) * prices["xray_trace"]
    return gigabytes * prices["logs_ingested"] + stored * prices["logs_stored"] + traces


def log_level(workflow: str) -> str:
    """Return the log level of a workflow of this type in the template."""
    _, express, standard = resources()["ClassifyPhoto"]["Properties"]["LoggingConfiguration"]["Level"]["Fn::If"]
    return str(express if workflow == "Express" else standard)


def traced(photos: int) -> float:
    """Return the share of traced photos at so many photos per month, arriving at random."""
    rate = photos / SECONDS_A_MONTH
    first_of_its_second = -math.expm1(-rate) / rate
    return first_of_its_second + TRACED_BEYOND_THE_FIRST * (1 - first_of_its_second)


def _sweep(prices: Prices) -> float:
    """Return the bill of RunAgain when nothing is due: it reads its queues and the dead-letter queue."""
    reads = SWEEPS_A_MONTH * READS_OF_A_SWEEP * prices["dynamodb_read"]
    return _express(SWEEPS_A_MONTH, 0.3, prices) + reads + SWEEPS_A_MONTH * prices["sqs_request"]


def _watching(prices: Prices) -> float:
    """Alarms and the dashboard are in the template; the functions and workflows name the custom metrics."""
    deployed = [resource for resource in resources().values() if resource.get("Condition") != "HasDecisionQueue"]
    alarms = [resource["Properties"] for resource in deployed if resource["Type"] == "AWS::CloudWatch::Alarm"]
    watched = sum(
        len([each for each in alarm.get("Metrics", [{"MetricStat": 1}]) if "MetricStat" in each]) for alarm in alarms
    )
    dashboards: int = sum(resource["Type"] == "AWS::CloudWatch::Dashboard" for resource in deployed)
    sources = [*(ROOT / "functions").rglob("*.py"), *(ROOT / "statemachine").iterdir()]
    named = {name for path in sources for name in re.findall(METRIC, path.read_text())}
    return watched * prices["alarm_metric"] + dashboards * prices["dashboard"] + len(named) * prices["metric"]


METRIC = re.compile(r"(?:add_metric\(\"|\$metric\('|\$count\('|MetricName: )(\w+)")


def cheapest(bills: Mapping[Setup, Mapping[str, float]]) -> Setup:
    """Return the setup with the smallest bill."""
    return min(bills, key=lambda setup: sum(bills[setup].values()))


def bills_of(load: Workload, timing: Timing, prices: Prices) -> dict[Setup, dict[str, float]]:
    """Return the bill of every setup."""
    return {setup: bill(load, setup, timing, prices) for setup in SETUPS}


def dollars(amount: float) -> str:
    """Format an amount, with cents if it is small."""
    return f"${amount:,.0f}" if amount >= 100 else f"${amount:,.2f}"


def show_bill(load: Workload, timing: Timing, prices: Prices) -> None:
    """Print the bill of one month for every setup."""
    bills = bills_of(load, timing, prices)
    table = Table(title=f"{load.photos:,} photos per month", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("US dollars per month")
    for setup in SETUPS:
        table.add_column(str(setup).replace(", ", "\n"), justify="right")
    for line in bills[SETUPS[0]]:
        table.add_row(line, *(dollars(bills[setup][line]) for setup in SETUPS))
    table.add_section()
    table.add_row("total", *(f"[bold]{dollars(sum(bills[setup].values()))}[/bold]" for setup in SETUPS))
    each = (f"${1000 * sum(bills[setup].values()) / load.photos:,.3f}" for setup in SETUPS)
    table.add_row("per 1,000 photos", *each)
    console.print(table)
    console.print(f"cheapest: {cheapest(bills)}")
    beside = review(load, prices)
    parts = ", ".join(f"{name} {dollars(amount)}" for name, amount in beside.items())
    console.print(f"beside it, where people decide {load.review:.0%}: {dollars(sum(beside.values()))} ({parts})")
    standard = SETUPS[0]
    console.print(
        f"{transitions_of_a_photo(load):.2f} state transitions per photo;  {instances(load.photos, load, timing)} × "
        f"ml.m5.large for a busiest minute of {load.peak_factor:g} times the mean; "
        f"the endpoint is {bills[standard]['endpoint'] / sum(bills[standard].values()):.0%} of the first bill"
    )


def show_sizes(timing: Timing, prices: Prices) -> None:
    """Print the totals from a thousand to a hundred million photos."""
    table = Table(title="US dollars per month, by photos per month", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("photos", *map(str, SETUPS), "cheapest"):
        table.add_column(heading.replace(", ", "\n"), justify="left" if heading == "cheapest" else "right")
    for photos in SIZES:
        bills = bills_of(Workload(photos), timing, prices)
        table.add_row(f"{photos:,}", *(dollars(sum(bills[setup].values())) for setup in SETUPS), str(cheapest(bills)))
    console.print(table)


def plot(path: Path, timing: Timing, prices: Prices) -> None:
    """Draw the totals of every setup over photos per month."""
    from matplotlib import rc_context  # noqa: PLC0415 - only a plot needs it
    from matplotlib.figure import Figure  # noqa: PLC0415

    sizes = [round(10 ** (exponent / 10)) for exponent in range(30, 81)]
    with rc_context({"svg.hashsalt": "cost", "font.size": 11}):
        drawing = Figure(figsize=(8, 4.8), layout="constrained")
        axes = drawing.add_subplot()
        for setup, style in zip(SETUPS, ("-", "--", "-", "--"), strict=True):
            totals = [sum(bill(Workload(size), setup, timing, prices).values()) for size in sizes]
            colour = "#c2410c" if setup.workflow == "Standard" else "#0369a1"
            axes.plot(sizes, totals, style, color=colour, label=str(setup), linewidth=2)
        axes.set(xscale="log", yscale="log", xlabel="photos per month", ylabel="US dollars per month")
        axes.set_xticks(SIZES, ["1 k", "10 k", "100 k", "1 M", "10 M", "100 M"])
        axes.set_yticks([10, 100, 1_000, 10_000, 100_000], ["$10", "$100", "$1,000", "$10,000", "$100,000"])
        axes.minorticks_off()
        axes.grid(visible=True, alpha=0.3)
        axes.legend(frameon=False)
        axes.set_title(f"Bill at list prices of {prices.noted:%B %Y}, {prices.region}", loc="left", fontsize=11)
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing.savefig(path, metadata={"Date": None})


@click.command()
@click.option("--photos-per-month", type=click.IntRange(1), help="Photos in the bill.  [default: 1 k to 100 M]")
@click.option("--photo-mb", type=float, default=Workload.photo_mb, show_default=True, help="Size of a photo.")
@click.option("--plot", "draw", is_flag=True, help=f"Draw the bills into {PLOT.relative_to(ROOT)}.")
def main(photos_per_month: int | None, photo_mb: float, draw: bool) -> None:
    """Print the monthly bill at list prices, Standard against Express and real-time against serverless hosting."""
    prices, timing = Prices.read(), Timing.read()
    console.print(f"list prices of {prices.region}, noted on {prices.noted}; no free tier, no data to the internet")
    if photos_per_month:
        show_bill(Workload(photos_per_month, photo_mb=photo_mb), timing, prices)
    else:
        show_sizes(timing, prices)
    console.print(
        "A serverless endpoint captures no data. The parameter WorkflowType sets the workflow type: "
        "docs/performance.md compares both."
    )
    if draw:
        plot(PLOT, timing, prices)
        console.print(f"drawn: {PLOT.relative_to(ROOT)}")
