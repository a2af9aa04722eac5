"""History: what was trained and measured so far."""

import json
from collections.abc import Mapping
from dataclasses import asdict

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from stack.commands import Command
from stack.text import percent, shortened

from .. import history as past
from .options import console

# The figures that say most; --json prints all.
SHOWN = {
    "accuracy": "right",
    "coverage": "accepted",
    "selective_accuracy": "of these",
    "outliers_accepted": "others",
}
# From this width of the terminal on, the digest of the data is shown.
WIDE = 96


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
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    wide = console.width >= WIDE
    for name in ("when", "what", "model", *(["data"] if wide else [])):
        table.add_column(name, no_wrap=True)
    for name in SHOWN.values():
        table.add_column(name, justify="right", no_wrap=True)
    for run in found:
        model = shortened(run.model, max(console.width - (72 if wide else 63), 10))
        digest = [run.data_digest.removeprefix("sha256:")[:8]] if wide else []
        table.add_row(run.time[5:16].replace("T", " "), run.command, model, *digest, *_figures(run.figures))
    console.print(table)


def _figures(figures: Mapping[str, float | None]) -> list[str]:
    values = [figures.get(key, figures.get(f"test/{key}")) for key in SHOWN]  # a retraining measures several sets
    return ["–" if value is None else percent(value) for value in values]
