"""The result of a check."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "failed", "not checked"]


@dataclass(frozen=True)
class Result:
    """One check's finding, or the reason for its failure with a remedy."""

    check: str
    status: Status
    seconds: float
    detail: str
