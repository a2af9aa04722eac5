"""The deployed stack that integration tests share, with an endpoint that they control."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from loading_bay.local.stack import Options, Stack

from .bay import NO_DRAWS, Bay
from .endpoint import Endpoint
from .faults import FaultyAws

HALF_AUDITED = NO_DRAWS | {"AuditShare": "0.5"}


@pytest.fixture(scope="session")
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture(scope="session")
def bay(standard_bay: Bay) -> Bay:
    """The stack with default parameters, but with a digest of reviews every minute and a queue for consumers."""
    return standard_bay


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("standard_bay", id="standard"),
        pytest.param("express_bay", id="express", marks=pytest.mark.long),
    ],
)
def either_bay(request: pytest.FixtureRequest) -> Bay:
    """One stack of each workflow type after the other."""
    found: Bay = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def standard_bay(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bay]:
    folder: Path = tmp_path_factory.mktemp("stack")
    # Every sweep may send its digest.
    parameters = {"NotifyMinutes": "1", "DecisionQueue": "true"} | NO_DRAWS
    options = Options(endpoint_url=endpoint.url, wait_scale=0, parameters=parameters)
    stack = Stack.up(folder, options, say=print)
    yield Bay(stack)
    stack.down()


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> FaultyAws:
    return FaultyAws(tmp_path_factory.mktemp("faults") / "aws")


@pytest.fixture(scope="session")
def express_aws(tmp_path_factory: pytest.TempPathFactory) -> FaultyAws:
    return FaultyAws(tmp_path_factory.mktemp("express") / "aws")


@pytest.fixture(scope="session")
def express_bay(express_aws: FaultyAws, endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bay]:
    """A stack that classifies photos with Express executions."""
    folder: Path = tmp_path_factory.mktemp("stack")
    # Thousands of photos take longer here than on AWS.
    wait_scale = 0.3 if "CAMPAIGN_PHOTOS" in os.environ else 0.02
    parameters = {"WorkflowType": "EXPRESS", "NotifyMinutes": "0"} | HALF_AUDITED
    options = Options(endpoint_url=endpoint.url, wait_scale=wait_scale, parameters=parameters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loading_bay.local.stack.AWS_COMMAND", express_aws.command)
        stack = Stack.up(folder, options, say=print)
    yield Bay(stack, express_aws.folder)
    stack.down()


@pytest.fixture(scope="session")
def troubled_bay(aws: FaultyAws, endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bay]:
    """A separate stack, on a local AWS with injectable failures."""
    folder: Path = tmp_path_factory.mktemp("stack")
    options = Options(endpoint_url=endpoint.url, wait_scale=0.05, parameters=HALF_AUDITED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loading_bay.local.stack.AWS_COMMAND", aws.command)
        stack = Stack.up(folder, options, say=print)
    yield Bay(stack, aws.folder)
    stack.down()
