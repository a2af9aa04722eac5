"""What was trained and measured on this machine, a line a run; MLflow gets the same where it is set up."""

import importlib.util
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from stack.errors import UserError

from .records import finite

HISTORY = Path("data") / "history.jsonl"
EXPERIMENT = "loading-bay"


@dataclass(frozen=True)
class Run:
    """One run: `command` made or measured `model` on the data set with `data_digest`; figures by key."""

    time: str
    command: str
    model: str
    data_digest: str
    settings: Mapping[str, Any]
    figures: Mapping[str, float]


def remember(
    command: str,
    model: str,
    data_digest: str,
    settings: Mapping[str, Any],
    figures: Mapping[str, float],
    path: Path | None = None,
) -> None:
    """Add a run to the history, and to MLflow if it is installed and `MLFLOW_TRACKING_URI` is set."""
    path = path or HISTORY
    run = Run(datetime.now(UTC).isoformat(timespec="seconds"), command, model, data_digest, settings, figures)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(finite(asdict(run)), allow_nan=False) + "\n")
    if "MLFLOW_TRACKING_URI" in os.environ and importlib.util.find_spec("mlflow"):
        _tell_mlflow(run)


def runs(path: Path | None = None) -> list[Run]:
    """Return the history, oldest run first; an empty list where there is none yet.

    Raises:
        UserError: a line is not a run.
    """
    path = path or HISTORY
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found.append(Run(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}, line {number}, is not a run: {error}; remove the line") from error
    return found


def _tell_mlflow(run: Run) -> None:
    import mlflow  # noqa: PLC0415 - takes seconds to import, and is never required

    try:
        mlflow.set_experiment(EXPERIMENT)
        with mlflow.start_run(run_name=f"{run.command} {run.model}"):
            about = {"command": run.command, "model": run.model, "data_digest": run.data_digest}
            mlflow.log_params({**about, **run.settings})
            mlflow.log_metrics({key: value for key, value in run.figures.items() if math.isfinite(value)})
    except Exception as error:  # a server of any kind may be behind it; the history here has the run already
        click.echo(f"MLflow was not told: {' '.join(str(error).split())[:200]}", err=True)
