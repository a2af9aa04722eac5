"""Other classes need only parameters: three classes, each with its own bay."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from starlette.responses import Response

from loading_bay.local.stack import Options, Stack

from .bay import Bay, picture, wait_for
from .endpoint import Endpoint, scores

pytestmark = pytest.mark.long
CLASSES = "bicycle:A:near,cargo-bike:B2:mid-range,motorcycle:C:far"


@pytest.fixture(scope="module")
def bay(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bay]:
    folder: Path = tmp_path_factory.mktemp("three-classes")
    parameters = {"VehicleClasses": CLASSES, "ConfidenceThreshold": "0.6", "NotifyMinutes": "0"}
    stack = Stack.up(folder, Options(endpoint_url=endpoint.url, wait_scale=0, parameters=parameters), say=print)
    yield Bay(stack)
    stack.down()


def _always(answer: Response, body: bytes) -> Response:
    return answer


def test_each_of_three_classes_has_its_bay_and_orders(bay: Bay, endpoint: Endpoint) -> None:
    for answer, vehicle, place in [
        (scores(0.7, 0.2, 0.1), "bicycle", "A (near)"),
        (scores(0.2, 0.7, 0.1), "cargo-bike", "B2 (mid-range)"),
        (scores(0.1, 0.2, 0.7), "motorcycle", "C (far)"),
    ]:
        with endpoint.answering(partial(_always, answer)):
            decision = bay.outcome(bay.upload(picture("red")))
        assert (decision.status, decision.vehicle, decision.place) == ("ROUTED", vehicle, place)


def test_two_probabilities_are_invalid_for_three_classes(bay: Bay, endpoint: Endpoint) -> None:
    with endpoint.answering(lambda body: scores(0.9, 0.1)):
        decision = bay.outcome(bay.upload(picture("red")))

    assert (decision.status, decision.error) == ("FAILED", "InvalidPrediction")


def test_the_threshold_is_a_parameter_too_and_a_review_names_every_score(bay: Bay, endpoint: Endpoint) -> None:
    with endpoint.answering(lambda body: scores(0.5, 0.3, 0.2)):
        key = bay.upload(picture("red"))
        assert bay.outcome(key).status == "REVIEW"

    (message,) = wait_for(lambda: bay.notified(key))
    assert "bicycle 0.5000, cargo-bike 0.3000, motorcycle 0.2000: none reaches 0.6" in message
