"""A photo is explained in the same way from a Standard execution's history and from an Express execution's log."""

import re
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result
from starlette.responses import Response

from loading_bay.cli.main import main

from .bay import Bay, picture
from .endpoint import Endpoint, by_colour, failure

Explain = Callable[[str], Result]
WAY = ["ReadInput", "ClaimPhoto", "SerializePhoto", "InferVehicle", "CheckConfidence"]
WAY += ["RecordOutcome", "AnnounceOutcome", "ConfirmAnnouncement", "EndByOutcome"]


@pytest.fixture
def bay(either_bay: Bay) -> Bay:
    return either_bay


@pytest.fixture
def explain(bay: Bay, monkeypatch: pytest.MonkeyPatch) -> Explain:
    for name, value in bay.stack.environment().items():
        monkeypatch.setenv(name, value)
    return lambda photo: CliRunner().invoke(main, ["explain", photo])


def states(output: str) -> list[str]:
    return re.findall(r"^ *[0-9.]+ s  (\w+)", output, re.MULTILINE)


def test_a_routed_photo_is_explained_with_times(bay: Bay, explain: Explain) -> None:
    key = bay.upload(picture("red"))
    bay.ended(bay.outcome(key).execution_arn)

    done = explain(key)

    assert done.exit_code == 0, done.output
    assert states(done.output) == [*WAY, "VehicleRouted"]
    assert done.output.splitlines()[:2] == [bay.outcome(key).photo, "ROUTED bicycle 1 (near)"]
    assert re.search(r"^succeeded after [0-9.]+ s$", done.output, re.MULTILINE)


def test_a_failed_photo_is_explained_with_the_errors_of_each_state(
    bay: Bay, endpoint: Endpoint, explain: Explain
) -> None:
    def away_twice(body: bytes) -> Response:
        return failure(503, "ServiceUnavailable") if endpoint.calls <= 2 else by_colour(body)

    with endpoint.answering(away_twice):
        key = bay.upload(picture("grey"))
        bay.ended(bay.outcome(key).execution_arn)

    done = explain(bay.outcome(key).photo)

    assert states(done.output) == [*WAY, "LowConfidence"]
    lines = {line.split()[2]: line for line in done.output.splitlines() if " s  " in line}
    assert re.search(r"EndpointUnavailable( × \d)?$", lines["InferVehicle"])
    assert lines["CheckConfidence"].endswith("LowConfidence")
    assert re.search(r"^failed after [0-9.]+ s: LowConfidence$", done.output, re.MULTILINE)


def test_an_unknown_photo_is_reported_in_one_line(explain: Explain) -> None:
    done = explain("uploads/nothing-recorded-of-it.jpg")

    assert done.exit_code == 1
    assert "no record of uploads/nothing-recorded-of-it.jpg" in done.output
    assert "Traceback" not in done.output
