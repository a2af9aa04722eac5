"""Shows the current step of a command, and the time that each step took."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from loading_bay.stack.text import duration


class _Took(ProgressColumn):
    """The time that a step has taken."""

    def render(self, task: Task) -> Text:
        took = task.elapsed if task.finished_time is None else task.finished_time
        return Text(duration(took or 0), style="dim")


@contextmanager
def steps(console: Console) -> Iterator[Callable[[str], None]]:
    """Yield a function that ends the last step and begins a new one; outside a terminal it only prints a line."""
    if not console.is_terminal:
        yield lambda step: console.print(step, highlight=False)
        return
    with Progress(
        SpinnerColumn("line", finished_text="+"), TextColumn("{task.description}"), _Took(), console=console
    ) as progress:

        def end_last() -> None:
            for task in progress.task_ids[-1:]:
                progress.update(task, completed=1)

        def begin(step: str) -> None:
            end_last()
            progress.add_task(step, total=1)

        yield begin
        end_last()
