"""A span of time."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time, in UTC; `since` belongs to it, `until` does not, None is open."""

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, moment: datetime) -> bool:
        """Tell whether the moment lies within."""
        return (self.since is None or moment >= self.since) and (self.until is None or moment < self.until)
