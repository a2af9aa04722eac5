"""How fast, and in how much memory, a million captures are read, beside a plain json loop.

python benchmarks/captures.py --captures FOLDER   # varies the real captures in FOLDER
python benchmarks/captures.py                     # makes captures of noise in their size and format
"""

import base64
import io
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

CLASS_NAMES = ("bicycle", "motorcycle")
RECORDS_A_FILE = 100
START = datetime(2026, 10, 1, tzinfo=UTC)


def plain_json_loop(folder: Path) -> int:
    """Read as most people would: json.loads on each line, scores and times kept, ids in a set."""
    seen, rows = set(), []
    for path in sorted(folder.rglob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                event = record["eventMetadata"]
                if event["eventId"] in seen:
                    continue
                seen.add(event["eventId"])
                scores = json.loads(record["captureData"]["endpointOutput"]["data"])
                rows.append((event["eventId"], datetime.fromisoformat(event["inferenceTime"]), scores, max(scores)))
    return len(rows)


def streaming_pass(folder: Path) -> int:
    """The pass of the report: every line checked, each record used once, a table at the end."""
    # Imported here, so that the plain loop's memory is its own.
    from monitoring.predictions import read_predictions  # noqa: PLC0415
    from monitoring.sources import Window, capture_files  # noqa: PLC0415

    with Progress(disable=True) as progress:
        found = capture_files(str(folder), Window(), folder / "cache", progress)
        return len(read_predictions(found, CLASS_NAMES, Window()).table)


def whole_report(folder: Path) -> int:
    """The pass, and then all figures, plots, the gallery, the page and the Parquet file."""
    from monitoring.report import make_report  # noqa: PLC0415
    from monitoring.sources import Window  # noqa: PLC0415

    with Progress(disable=True) as progress, tempfile.TemporaryDirectory() as output:
        figures = make_report(
            str(folder),
            Path(output),
            window=Window(),
            class_names=CLASS_NAMES,
            threshold=0.9,
            baseline=None,
            expected_shares=None,
            decisions=None,
            cache=folder / "cache",
            progress=progress,
        )
    return figures.predictions


READERS = {"plain json loop": plain_json_loop, "streaming pass": streaming_pass, "whole report": whole_report}


def write_captures(folder: Path, records: int, captures: Path | None, progress: Progress) -> int:
    """Write captures in SageMaker's layout, each with its own id, time and scores; return the bytes."""
    chance = np.random.default_rng(0)
    photos = itertools.cycle(_real_photos(captures) if captures else _noise(chance))
    task = progress.add_task("Making captures", total=records)
    size = 0
    for first in range(0, records, RECORDS_A_FILE):
        moment = START + timedelta(seconds=2 * first)
        place = folder / f"loading-bay/AllTraffic/{moment:%Y/%m/%d/%H}"
        place.mkdir(parents=True, exist_ok=True)
        lines = [
            _line(next(photos), moment + timedelta(seconds=2 * k), chance)
            for k in range(min(RECORDS_A_FILE, records - first))
        ]
        text = "".join(lines)
        size += len(text)
        (place / f"{moment:%M-%S}-000-{first}.jsonl").write_text(text, encoding="utf-8")
        progress.advance(task, len(lines))
    return size


def _line(photo: str, moment: datetime, chance: np.random.Generator) -> str:
    score = chance.beta(0.3, 0.05) if chance.random() < 0.5 else chance.beta(0.05, 0.3)
    event = {
        "eventId": str(uuid.UUID(bytes=chance.bytes(16), version=4)),
        "inferenceTime": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
    }
    data = {
        "endpointInput": {
            "observedContentType": "image/png",
            "mode": "INPUT",
            "data": photo,
            "encoding": "BASE64",
        },
        "endpointOutput": {
            "observedContentType": "application/json",
            "mode": "OUTPUT",
            "data": json.dumps([score, 1 - score]),
            "encoding": "JSON",
        },
    }
    record = {"captureData": data, "eventMetadata": event, "eventVersion": "0"}
    return json.dumps(record, separators=(",", ":")) + "\n"


def _real_photos(captures: Path) -> list[str]:
    records = (json.loads(line) for path in captures.rglob("*.jsonl") for line in path.open(encoding="utf-8"))
    requests = [record["captureData"]["endpointInput"] for record in records]
    return [request["data"] for request in requests if request["encoding"] == "BASE64"]


def _noise(chance: np.random.Generator) -> list[str]:
    photos = []
    for _ in range(50):
        png = io.BytesIO()
        Image.frombytes("RGB", (32, 32), chance.bytes(3 * 32 * 32)).save(png, "PNG")
        photos.append(base64.b64encode(png.getvalue()).decode())
    return photos


def _measured(reader: str, folder: Path) -> tuple[int, float, float]:
    """Run a reader in a process of its own; return records, seconds without start-up, and peak MiB."""
    command = [sys.executable, __file__, "--only", reader, "--folder", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    records, seconds, peak = json.loads(found.stdout)
    return records, seconds, peak


@click.command()
@click.option("--records", default=1_000_000, show_default=True)
@click.option("--runs", default=3, show_default=True, help="The table shows medians.")
@click.option("--captures", type=click.Path(exists=True, path_type=Path), help="Folder of real captures to vary.")
@click.option("--only", type=click.Choice(list(READERS)), hidden=True)
@click.option("--folder", type=click.Path(exists=True, path_type=Path), hidden=True)
def main(*, records: int, runs: int, captures: Path | None, only: str | None, folder: Path | None) -> None:
    """Print a table of time and memory for reading many captures."""
    if only is not None and folder is not None:
        start = time.perf_counter()
        count = READERS[only](folder)
        seconds = time.perf_counter() - start
        click.echo(json.dumps([count, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
        return
    with (
        tempfile.TemporaryDirectory() as made,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        size = write_captures(Path(made), records, captures, progress)
        # Rounds, not blocks: what else the machine does then falls on all readers alike.
        task = progress.add_task("Reading them", total=runs * len(READERS))
        found: dict[str, list[tuple[int, float, float]]] = {reader: [] for reader in READERS}
        for _ in range(runs):
            for reader in READERS:
                found[reader].append(_measured(reader, Path(made)))
                progress.advance(task)
    table = Table(title=f"{records:,} captures, {size / 1e9:.1f} GB, warm; medians of {runs}", title_justify="left")
    for name in ("reader", "records", "seconds", "records/s", "peak MiB"):
        table.add_column(name, justify="left" if name == "reader" else "right")
    for reader, results in found.items():
        seconds = statistics.median(each[1] for each in results)
        peak = statistics.median(each[2] for each in results)
        table.add_row(reader, f"{results[0][0]:,}", f"{seconds:.1f}", f"{records / seconds:,.0f}", f"{peak:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
