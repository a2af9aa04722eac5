"""What is hosted, and how: the settings of an endpoint, and the names of what belongs to it."""

from dataclasses import dataclass
from typing import Any

from loading_bay.stack.deployed import client

# The variant that the stack's alarms and its monitoring look at.
VARIANT = "AllTraffic"  # as the template's alarm and dashboard name it
POLL_SECONDS = 15
STAMP = r"\d{8}-\d{6}"


@dataclass(frozen=True)
class Clients:
    """The AWS services that hosting takes, as boto3 clients."""

    sagemaker: Any
    autoscaling: Any
    cloudwatch: Any
    s3: Any

    @classmethod
    def connect(cls, region: str | None) -> "Clients":
        """Connect to one region.

        Raises:
            UserError: no region is set.
        """
        names = ("sagemaker", "application-autoscaling", "cloudwatch", "s3")
        return cls(*(client(name, region) for name in names))


@dataclass(frozen=True)
class Capture:
    """Data capture: what percentage of calls is kept, and below which S3 address."""

    percent: int
    uri: str


@dataclass(frozen=True)
class RealTime:
    """Instances that are always there, from least to most, so that each gets so many calls a minute."""

    instance_type: str
    least: int
    most: int
    calls_per_instance: int
    capture: Capture | None


@dataclass(frozen=True)
class Serverless:
    """No instances while nobody calls; memory in megabytes, at most so many calls at once."""

    memory: int
    concurrency: int


@dataclass(frozen=True)
class Hosting:
    """What is to be hosted, how, and under which name."""

    endpoint: str
    image: str
    artifact: str
    role: str
    variant: RealTime | Serverless
    image_size: int | None


def alarm_names(endpoint: str) -> list[str]:
    """Return the names of an endpoint's alarms."""
    return [f"{endpoint}-errors", f"{endpoint}-latency"]
