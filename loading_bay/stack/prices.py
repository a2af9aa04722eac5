"""The dated list of AWS prices, prices.json, and the monthly cost of an endpoint."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

FILE = Path(__file__).parent / "prices.json"
HOURS_A_MONTH = 730


@dataclass(frozen=True)
class Prices:
    """US dollars per unit of everything that AWS bills, and the date of the list."""

    noted: date
    region: str
    units: Mapping[str, float]

    @classmethod
    def read(cls, path: Path = FILE) -> "Prices":
        """Read the list."""
        content = json.loads(path.read_text())
        units = {name: price["usd"] / price["per"] for name, price in content["prices"].items()}
        return cls(date.fromisoformat(content["noted"]), content["region"], units)

    def __getitem__(self, name: str) -> float:
        """Return the price of one unit."""
        return self.units[name]


def monthly_hosting(instance_type: str, instances: int) -> float | None:
    """Return the monthly cost (US dollars) of instances that run all the time; None for an unlisted type."""
    hourly = Prices.read().units.get(f"hosting_{instance_type.replace('.', '_')}")
    return None if hourly is None else hourly * HOURS_A_MONTH * instances


def hosting_sentence(instance_type: str, least: int, most: int) -> str:
    """Describe the cost of an endpoint, from its minimum to its maximum number of instances."""
    low, high = monthly_hosting(instance_type, least), monthly_hosting(instance_type, most)
    if low is None or high is None:
        return f"{instance_type} is not in our price list: see https://aws.amazon.com/sagemaker/pricing/"
    span = f"${low:.0f}" if least == most else f"${low:.0f} to ${high:.0f}"
    instances = f"{least}" if least == most else f"{least} to {most}"
    return f"{instances} × {instance_type} all the time: about {span} a month (us-east-1 list price)"
