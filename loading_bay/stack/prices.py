"""The dated list of AWS prices, prices.json, for bills and endpoint prices."""

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
