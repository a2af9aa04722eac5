"""The estimate of errors among the accepted photos: its interval holds for every sampled share."""

import json
import re
from datetime import timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from functions.decisions.chance import is_drawn
from functions.decisions.decision import Decision
from loading_bay.cli.main import main
from loading_bay.report.figures import measure_audit
from loading_bay.statistics import sampled_share

from .captures import lines, place, record, write
from .test_decisions import NAME, NOW, put

pytestmark = pytest.mark.usefixtures("undrawn")
GUESS = {"bicycle": 0.04, "motorcycle": 0.96}


def accepted(
    number: int, share: float, *, wrong: bool, salt: str, audited: bool = True, driver: str | None = None
) -> Decision:
    """Return the record of a photo that the model took for a motorcycle; a person has audited it if it was chosen."""
    photo = f"s3://inbox/uploads/driver-7/{number}.jpg#{number:032x}"
    chosen = is_drawn(photo, share, salt)
    seen = "bicycle" if wrong and chosen and audited else "motorcycle"
    return Decision(
        photo=photo,
        status="ROUTED",
        claimed_at=NOW + timedelta(seconds=number),
        claim=str(number),
        driver=driver,
        vehicle=seen,
        probabilities=GUESS,
        audit_share=share if chosen else None,
        reviewed_by="ana" if chosen and audited else None,
    )


@pytest.mark.parametrize(("error", "reviewer", "share"), [(0.01, 0, 0.1), (0.05, 0.02, 0.5), (0.3, 0.1, 0.2)])
def test_the_interval_holds_in_95_of_100_runs(error: float, reviewer: float, share: float) -> None:
    """People who err would disagree about these photos if they saw all of them; the interval is about that share."""
    chance, held, runs = np.random.default_rng(7), 0, 500
    interval = cache(sampled_share)
    for _ in range(runs):
        disagreed = (chance.random(150) < error) ^ (chance.random(150) < reviewer)
        audited = chance.random(150) < share
        found = interval(int(disagreed[audited].sum()), int(audited.sum()), 150)
        held += found.low <= disagreed.mean() <= found.high

    # If the chance of holding is 0.95, one simulation in a thousand has fewer than this.
    assert held >= NormalDist(0.95 * runs, (0.95 * 0.05 * runs) ** 0.5).inv_cdf(0.001)


def test_where_every_photo_is_drawn_the_error_is_known() -> None:
    found = measure_audit([accepted(number, 1, wrong=number < 7, salt="") for number in range(100)])

    assert found is not None
    assert (found.wrong.low, found.wrong.value, found.wrong.high) == (0.07, 0.07, 0.07)


def test_only_the_present_share_counts_and_what_is_not_audited_yet_is_counted_apart() -> None:
    before = [accepted(number, 1, wrong=True, salt="") for number in range(50)]
    now = [accepted(50 + number, 0.5, wrong=False, salt="", audited=number < 100) for number in range(200)]

    found = measure_audit([*before, *now])

    assert found is not None
    assert found.wrong.count == 0
    assert found.wrong.of + found.waiting == sum(each.audit_share is not None for each in now)
    assert found.waiting > 0


def test_errors_are_told_by_the_drivers_depot_and_too_few_are_not_judged() -> None:
    photos = [
        *(accepted(n, 1, wrong=n < 6, salt="", driver=f"north-{n}") for n in range(60)),
        *(accepted(60 + n, 1, wrong=True, salt="", driver=f"south-{n}") for n in range(9)),
        accepted(69, 1, wrong=False, salt=""),
    ]
    unsure = replace(photos[0], photo="s3://inbox/unsure#0", status="REVIEW", audit_share=None, reviewed_by=None)

    found = measure_audit([*photos, unsure], re.compile("^([a-z]+)-"))

    assert found is not None
    told = {name: (each.wrong.count, each.wrong.of, each.is_enough) for name, each in found.by_group.items()}
    assert told == {"": (0, 1, False), "north": (6, 60, True), "south": (9, 9, False)}
    assert (found.by_group["north"].coverage.count, found.by_group["north"].coverage.of) == (60, 61)


def test_without_audits_nothing_is_said() -> None:
    assert measure_audit([accepted(number, 0, wrong=True, salt="") for number in range(50)]) is None


@pytest.mark.parametrize(("audits", "said"), [(40, "of the accepted photos are wrong"), (20, "Too few to say")])
def test_the_report_says_how_often_the_model_is_wrong(table: Any, tmp_path: Path, audits: int, said: str) -> None:
    audit: dict[str, Any] = {"audit_share": Decimal("0.5"), "probabilities": {"bicycle": Decimal(1)}}
    for number in range(100):
        more = audit | {"reviewed_by": "ann"} if number < audits else {"probabilities": audit["probabilities"]}
        vehicle = "motorcycle" if number in {1, 2, 70} else "bicycle"
        put(
            table,
            f"{number}.jpg",
            "ROUTED",
            timedelta(minutes=100 - number),
            vehicle=vehicle,
            claim=str(number),
            driver=f"north-{number}",
            **more,
        )
    put(table, "unsure.jpg", "REVIEW", timedelta(minutes=1))
    request = record()
    request["eventMetadata"]["inferenceId"] = "2"
    write(tmp_path, f"captures/{place()}", lines(request))

    command = ["report", str(tmp_path / "captures"), "--output", str(tmp_path / "out"), "--table", NAME]
    command += ["--group-by", "^[a-z]+"]
    done = CliRunner().invoke(main, command)

    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "out/metrics.json").read_text())["decisions"]
    assert (figures["audit"]["wrong"]["count"], figures["audit"]["wrong"]["of"]) == (2, audits)
    assert (figures["audit"]["accepted"], figures["audit"]["claims"]) == (100, ["1", "2"])
    assert figures["review_rate"]["count"] == 1  # an audit does not mean that the model was unsure
    assert figures["agreement"] is None
    page = (tmp_path / "out/report.html").read_text()
    assert said in page
    assert (">north<" in page) == (audits >= 30)
