"""History: what was trained and measured so far."""

import json
from collections.abc import Mapping
from dataclasses import asdict

import click
from rich.table import Table

from stack.commands import Command
from stack.text import percent

from .. import history as past
from .options import console

# The figures that say most; --json prints all.
SHOWN = {
    "accuracy": "accuracy",
    "coverage": "coverage",
    "selective_accuracy": "of accepted",
    "outliers_accepted": "others accepted",
}


@click.command(cls=Command, examples=["", "--json"])
@click.option("--json", "as_json", is_flag=True, help="Print every line in full, with settings and all figures.")
def history(*, as_json: bool) -> None:
    """List what was trained and measured on this machine, the newest last."""
    found = past.runs()
    if as_json:
        for run in found:
            click.echo(json.dumps(asdict(run)))
        return
    if not found:
        console.print(f"Nothing yet: train and evaluate write {past.HISTORY}.")
        return
    table = Table("when", "what", "model", "data", *SHOWN.values())
    for run in found:
        table.add_row(run.time[:16], run.command, run.model, _digest(run.data_digest), *_figures(run.figures))
    console.print(table)


def _digest(digest: str) -> str:
    return digest.removeprefix("sha256:")[:8]


def _figures(figures: Mapping[str, float | None]) -> list[str]:
    values = [figures.get(key) for key in SHOWN]
    return ["–" if value is None else percent(value) for value in values]
