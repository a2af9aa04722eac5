"""The command line of the benchmarks: python -m benchmarks."""

from collections.abc import Callable
from importlib import import_module
from typing import cast

import click
from rich.console import Console

from loading_bay.cli.commands import CommandLine
from loading_bay.cli.local import unwinding_at_signals

from . import cost, simulation
from .document import stale_pages, written
from .results import FOLDER, Result, save, show

# The order of a full run: quick benchmarks first.
NAMES = ("packages", "serialize", "cold_start", "sizing", "endpoint", "path", "batch")
console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=180)  # in a file or a pipe, tables may be wide
messages = Console(highlight=False, stderr=True)


@click.group(cls=CommandLine)
def main() -> None:
    """Measure speed, memory and size, each beside a named baseline from the same run."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--runs", type=click.IntRange(1), default=15, show_default=True, help="Runs; tables show their medians.")
@click.option("--save/--no-save", "keep", default=True, help=f"Keep the figures in {FOLDER.name}/ for the next run.")
def run(names: tuple[str, ...], runs: int, keep: bool) -> None:
    """Run the named benchmarks, or all."""
    for name in names or NAMES:
        measure = cast(Callable[[int], Result], import_module(f"benchmarks.{name}").run)
        # The servers that a benchmark starts end with it, also at SIGTERM.
        with messages.status(f"{name} …"), unwinding_at_signals():
            result = measure(runs)
        show(result, console)
        if keep:
            save(result)


@main.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if a page shows other figures.")
def document(check: bool) -> None:
    """Write the kept figures into README.md, docs/model.md and docs/performance.md."""
    stale = stale_pages()
    names = ", ".join(page.name for page in stale)
    if stale and check:
        raise click.ClickException(f"other figures are kept than shown in {names}: python -m benchmarks document")
    for page in stale:
        page.write_text(written(page.read_text()))
    messages.print(f"written: {names}" if stale else "every page shows the kept figures")


main.add_command(cost.main, "cost")
main.add_command(simulation.main, "simulation")

if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
