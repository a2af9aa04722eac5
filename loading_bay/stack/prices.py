"""The one dated list of AWS's prices, prices.json, from which bills are made and endpoints are priced."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

FILE = Path(__file__).parent / "prices.json"
HOURS_A_MONTH = 730


@dataclass(frozen=True)
class Prices:
    """US dollars for one unit of each thing that AWS bills, and when they were noted."""

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
