"""The settings of an endpoint, and the names of its resources."""

from dataclasses import dataclass
from typing import Any

from loading_bay.stack.deployed import client

VARIANT = "AllTraffic"  # the variant that the template's alarm and dashboard watch
POLL_SECONDS = 15
STAMP = r"\d{8}-\d{6}"


@dataclass(frozen=True)
class Clients:
    """The boto3 clients that hosting needs."""

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
    """Data capture: the percentage of calls to keep, and the S3 address to keep them under."""

    percent: int
    uri: str


@dataclass(frozen=True)
class RealTime:
    """Instances that always run, from `least` to `most`, scaled to `calls_per_instance` a minute."""

    instance_type: str
    least: int
    most: int
    calls_per_instance: int
    capture: Capture | None


@dataclass(frozen=True)
class Serverless:
    """Instances that run only during calls: their memory (megabytes) and the most calls at once."""

    memory: int
    concurrency: int


@dataclass(frozen=True)
class Hosting:
    """An endpoint to deploy: its name, model, image, role and instances."""

    endpoint: str
    image: str
    artifact: str
    role: str
    variant: RealTime | Serverless
    image_size: int | None


def alarm_names(endpoint: str) -> list[str]:
    """Return the names of an endpoint's alarms."""
    return [f"{endpoint}-errors", f"{endpoint}-latency"]
