"""The result of a check."""

from dataclasses import dataclass
from typing import Literal

CheckStatus = Literal["ok", "failed", "not checked"]


@dataclass(frozen=True)
class CheckResult:
    """One check's finding, or the reason for its failure with a remedy."""

    check: str
    status: CheckStatus
    seconds: float
    detail: str
