"""The deployed stack that the integration tests share, with an endpoint that they control."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.stack import Options, Stack
from tests.integration.bay import Bay
from tests.integration.endpoint import Endpoint


@pytest.fixture(scope="session")
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture(scope="session")
def bay(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bay]:
    folder: Path = tmp_path_factory.mktemp("stack")
    options = Options(endpoint_url=endpoint.url, wait_scale=0)
    stack = Stack.up(folder, options, say=print)
    yield Bay(stack)
    stack.down()
