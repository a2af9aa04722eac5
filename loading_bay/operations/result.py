"""What a check says."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "failed", "not checked"]


@dataclass(frozen=True)
class Result:
    """What one check saw, or why it failed and what to do."""

    check: str
    status: Status
    seconds: float
    detail: str
