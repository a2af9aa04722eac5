"""Records `make demo` as an animation for the README: python docs/recording.py docs/images/demo.svg."""

import html
import os
import pty
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby, pairwise
from pathlib import Path

import click
import pyte

from loading_bay.stack.template import ROOT

COLUMNS, ROWS = 88, 38
SHOWN_ROOT = b"/home/you/loading-bay"
FRAME_SECONDS = 0.25
LONGEST_PAUSE = 1.5  # seconds; longer pauses are cut
LAST_FRAME_SECONDS = 6.0
WIDTH, HEIGHT, MARGIN = 8.4, 18, 14  # of a character and of the margin, in pixels
COLOURS = {
    "default": "#d4d7dd",
    "green": "#5fd38d",
    "brown": "#e5c07b",  # as pyte calls yellow
    "magenta": "#d787d7",
    "red": "#ff7b72",
    "blue": "#79b8ff",
    "cyan": "#76d9e6",
}
Frame = tuple[str, ...]  # lines of markup


def record(command: list[str]) -> Iterator[tuple[float, Frame]]:
    """Run a command in a terminal; yields each screen with the seconds since the start.

    Raises:
        CalledProcessError: the command failed.
    """
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    stream.feed(f"$ {' '.join(command)}\r\n".encode())
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    size = {"COLUMNS": str(COLUMNS), "LINES": str(ROWS), "TERM": "xterm-256color"}
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | size, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    began = time.monotonic()
    is_over = False
    while not is_over:
        is_over = process.poll() is not None
        time.sleep(FRAME_SECONDS)
        with suppress(OSError):  # nothing was written
            # Replaced before the terminal wraps, where a line break may divide the path.
            stream.feed(os.read(ours, 1 << 20).replace(str(ROOT).encode(), SHOWN_ROOT))
        yield time.monotonic() - began, tuple(_markup(screen, row) for row in range(ROWS))
    os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _markup(screen: pyte.Screen, row: int) -> str:
    """Return a line of the screen as SVG's text, one span for each run of one colour and weight."""
    cells = [screen.buffer[row][column] for column in range(COLUMNS)]
    spans = []
    position = 0
    for (colour, is_bold), run in groupby(cells, lambda cell: (cell.fg, cell.bold)):
        text = "".join(cell.data for cell in run)
        if text.strip():
            weight = ' font-weight="bold"' if is_bold else ""
            fill = COLOURS.get(colour, COLOURS["default"])
            spans.append(f'<tspan x="{position * WIDTH:.1f}" fill="{fill}"{weight}>{html.escape(text)}</tspan>')
        position += len(text)
    return "".join(spans)


def moving(frames: list[tuple[float, Frame]]) -> str:
    """Return the frames as an SVG that shows one after the other, again and again; without motion it shows the last."""
    kept = [frame for k, frame in enumerate(frames) if not k or frame[1] != frames[k - 1][1]]
    pauses = [min(later[0] - each[0], LONGEST_PAUSE) for each, later in pairwise(kept)]
    total = sum(pauses) + LAST_FRAME_SECONDS
    lines = sorted({line for _, frame in kept for line in frame if line})
    numbers = {line: number for number, line in enumerate(lines)}
    width, height = COLUMNS * WIDTH + 2 * MARGIN, ROWS * HEIGHT + 2 * MARGIN
    defined = "".join(f'<text id="l{number}">{line}</text>' for line, number in numbers.items())
    strip, steps, elapsed = "", "", 0.0
    for k, (_, frame) in enumerate(kept):
        shown = "".join(
            f'<use href="#l{numbers[line]}" y="{(row + 1) * HEIGHT}"/>' for row, line in enumerate(frame) if line
        )
        strip += f'<g transform="translate({MARGIN + k * width:.0f} {MARGIN - 4})">{shown}</g>'
        steps += f"{100 * elapsed / total:.3f}%{{transform:translateX({-k * width:.0f}px)}}"
        elapsed += pauses[k] if k < len(pauses) else 0
    last = -(len(kept) - 1) * width
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}"
 viewBox="0 0 {width:.0f} {height}" role="img" aria-label="A recording of make demo">
<style>
text {{ font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; white-space: pre }}
.strip {{ transform: translateX({last:.0f}px) }}
@media (prefers-reduced-motion: no-preference) {{ .strip {{ animation: play {total:.1f}s steps(1, end) infinite }} }}
@keyframes play {{ {steps}100%{{transform:translateX({last:.0f}px)}} }}
</style>
<defs>{defined}</defs>
<rect width="100%" height="100%" rx="10" fill="#15181e"/>
<g class="strip">{strip}</g>
</svg>
"""


@click.command()
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
def main(output: Path) -> None:
    """Run make demo in a terminal, and write its recording to OUTPUT."""
    frames = list(record(["make", "demo"]))
    output.write_text(moving(frames))
    click.echo(f"{output}: {frames[-1][0]:.0f} s, {output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
