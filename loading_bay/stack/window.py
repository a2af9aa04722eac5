"""A span of time."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time in UTC, from `since` (inclusive) to `until` (exclusive); None leaves an end open."""

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, moment: datetime) -> bool:
        """Tell whether a time is in the span."""
        return (self.since is None or moment >= self.since) and (self.until is None or moment < self.until)
