"""No AWS account, a decisions table on an AWS in memory, and reproducible examples for property tests.

Long runs (`make fuzz`, which sets FUZZ_EXAMPLES) search for new examples; their findings become explicit examples.
"""

import os
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.loaders import create_loader
from hypothesis import HealthCheck, settings
from moto import mock_aws

from loading_bay.pages.drawings import Drawing
from loading_bay.report import plots

# A busy machine takes long to draw an example, too.
settings.register_profile("repeatable", derandomize=True, suppress_health_check=[HealthCheck.too_slow])
if "FUZZ_EXAMPLES" not in os.environ:
    settings.load_profile("repeatable")


@pytest.fixture(scope="package", autouse=True)
def no_account() -> Iterator[None]:
    """Replace this machine's AWS settings, because no unit test may reach an account."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, "/nonexistent")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield


@pytest.fixture(scope="session", autouse=True)
def services_are_read_once() -> Iterator[None]:
    """Share the service models of botocore: each session would spend 0.2 s to read megabytes again."""
    loader = create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", lambda search_path: loader)
        yield


@pytest.fixture
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the plots empty, which take most of a report's time, but for tests marked `drawn`."""
    if not request.node.get_closest_marker("drawn"):
        monkeypatch.setattr(plots, "draw", lambda name, summary, *_, **__: Drawing(name, summary, "<svg/>", "<svg/>"))


@pytest.fixture
def table() -> Iterator[Any]:
    with mock_aws():
        yield boto3.resource("dynamodb").create_table(
            TableName="decisions",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "photo", "AttributeType": "S"},
                {"AttributeName": "queue", "AttributeType": "S"},
                {"AttributeName": "due_at", "AttributeType": "N"},
            ],
            KeySchema=[{"AttributeName": "photo", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by_queue",
                    "KeySchema": [
                        {"AttributeName": "queue", "KeyType": "HASH"},
                        {"AttributeName": "due_at", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
        )
