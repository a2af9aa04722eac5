"""Describes the machine behind a figure: enough to judge the figure, but without a host name."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("pillow", "pillow-heif", "onnxruntime", "boto3", "aws-lambda-powertools", "awslambdaric", "uvicorn")


@dataclass(frozen=True)
class Machine:
    """Processor, cores, memory (GiB), system, interpreter and package versions."""

    processor: str
    cores: int
    memory: float
    system: str
    python: str
    packages: dict[str, str]


def describe() -> Machine:
    """Describe this machine."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory=round(pages * page / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
    )


def load() -> float:
    """Return the load average of the last minute: above about 1, other programs ran, and times are too long."""
    return round(os.getloadavg()[0], 2)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
