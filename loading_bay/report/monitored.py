"""The subject of a report: captures, decisions and model settings, from a deployed stack or from files."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from functions.decisions.classes import parse_classes
from functions.decisions.decision import Decision, SkippedDecision
from functions.decisions.table import DecisionsTable
from loading_bay.stack.captures import SHIPPED_BASELINE, baseline_of, capture_source
from loading_bay.stack.decisions import decisions_in_file, decisions_in_table
from loading_bay.stack.deployed import Deployed, client
from loading_bay.stack.window import Window


@dataclass(frozen=True)
class Monitored:
    """`captures` is a folder, a file or `s3://bucket/prefix`; unknown values are None."""

    captures: str
    decisions: Iterable[Decision | SkippedDecision] | None = None
    class_names: tuple[str, ...] | None = None
    threshold: float | None = None
    baseline: Path | None = SHIPPED_BASELINE

    @classmethod
    def stack(cls, deployed: Deployed, window: Window) -> "Monitored":
        """Return the subject that a stack's outputs, parameters and endpoint describe.

        Raises:
            UserError: its endpoint does not exist or does not capture data.
        """
        outputs = deployed.outputs
        return cls(
            captures=capture_source(deployed),
            decisions=decisions_in_table(
                DecisionsTable(deployed.client("dynamodb"), outputs["DecisionsTable"]), window
            ),
            class_names=tuple(parse_classes(outputs["VehicleClasses"])),
            threshold=float(deployed.parameters["ConfidenceThreshold"]),
            baseline=baseline_of(deployed),
        )

    @classmethod
    def files(
        cls, captures: str, table: str | None, decisions: Path | None, region: str | None, window: Window
    ) -> "Monitored":
        """Return a subject from files, with the decisions of the window from the table or from a file of its items.

        Raises:
            UserError: the file cannot be read.
        """
        if table is not None:
            return cls(captures, decisions_in_table(DecisionsTable(client("dynamodb", region), table), window))
        return cls(captures, decisions_in_file(decisions, window) if decisions is not None else None)
