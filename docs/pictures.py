"""Takes the README's pictures of the report: python docs/pictures.py report/report.html docs/images."""

import tempfile
from pathlib import Path
from subprocess import run

import click

# Keep headless Chromium from using the network and writing elsewhere.
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
# Name → width and height in CSS pixels, dark or not.
SHOTS = {
    "report-light": (1200, 1500, False),
    "report-dark": (1200, 1500, True),
    "report-phone": (500, 1100, False),  # the narrowest window Chromium opens
}


def take(page: Path, picture: Path, width: int, height: int, *, dark: bool) -> None:
    """Photograph the top `height` pixels of a page as PNG. Raises CalledProcessError where Chromium fails."""
    with tempfile.TemporaryDirectory() as profile:
        run(
            [
                "chromium",
                *QUIET,
                f"--user-data-dir={profile}",
                f"--blink-settings=preferredColorScheme={0 if dark else 1}",
                f"--window-size={width},{height}",
                f"--screenshot={picture.resolve()}",
                page.resolve().as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


@click.command()
@click.argument("page", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("output", type=click.Path(file_okay=False, path_type=Path))
def main(page: Path, output: Path) -> None:
    """Photograph PAGE, a report.html, in light, in dark and as on a phone, into OUTPUT. Needs Chromium."""
    output.mkdir(parents=True, exist_ok=True)
    for name, (width, height, dark) in SHOTS.items():
        take(page, output / f"{name}.png", width, height, dark=dark)
        click.echo(output / f"{name}.png")


if __name__ == "__main__":
    main()
