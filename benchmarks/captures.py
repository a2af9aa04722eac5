"""A million captures: time and peak memory of the monitoring report and of its reader, beside a plain json loop."""

import base64
import io
import itertools
import json
import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from . import machine
from .figures import Figure, fresh_process
from .results import Reading, Result, Row

CLASS_NAMES = ("bicycle", "motorcycle")
RECORDS = 1_000_000
RECORDS_A_FILE = 100
START = datetime(2026, 10, 1, tzinfo=UTC)
# Runs one reader in a process of its own, so that its memory is its own; prints seconds and peak MiB.
MEASURE = """
import resource, sys, time
from pathlib import Path
from benchmarks.captures import READERS
started = time.perf_counter()
READERS[sys.argv[1]](Path(sys.argv[2]))
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def run(runs: int) -> Result:
    """Read the same captures with each reader, in rounds; they are long, so there are few."""
    before = machine.load()
    found: dict[str, list[list[float]]] = {reader: [] for reader in READERS}
    with tempfile.TemporaryDirectory() as made:
        size = write_captures(Path(made), RECORDS)
        for _ in range(max(1, runs // 5)):
            for reader, measured in found.items():
                measured.append(fresh_process(MEASURE, reader, made))
    figures = {
        unit: {reader: Figure.of([each[index] for each in measured]) for reader, measured in found.items()}
        for index, unit in enumerate(("s", "MiB"))
    }
    rows = [
        Row(reader, unit, each[reader], Reading(PLAIN, each[PLAIN]))
        for unit, each in figures.items()
        for reader in READERS
        if reader != PLAIN
    ]
    return Result("captures", f"{RECORDS:,} captures, {size / 1e9:.1f} GB, warm", rows, before)


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
    """Make the pass of the report: every line checked, each record used once, a table at the end."""
    # Imported here, so that the plain loop's memory is its own.
    from rich.progress import Progress  # noqa: PLC0415

    from monitoring.predictions import read_predictions  # noqa: PLC0415
    from monitoring.sources import capture_files  # noqa: PLC0415
    from stack.window import Window  # noqa: PLC0415

    with Progress(disable=True) as progress:
        found = capture_files(str(folder), Window(), folder / "cache", progress)
        return len(read_predictions(found, CLASS_NAMES, Window()).table)


def whole_report(folder: Path) -> int:
    """Make the pass, and then all figures, plots, the gallery, the page and the Parquet file."""
    from rich.progress import Progress  # noqa: PLC0415

    from monitoring.report import make_report  # noqa: PLC0415
    from stack.window import Window  # noqa: PLC0415

    with Progress(disable=True) as progress, tempfile.TemporaryDirectory() as output:
        figures = make_report(
            str(folder),
            Path(output),
            window=Window(),
            class_names=CLASS_NAMES,
            threshold=0.9,
            baseline=None,
            baseline_name=None,
            expected_shares=None,
            decisions=None,
            cache=folder / "cache",
            progress=progress,
        )
    return figures.predictions


PLAIN = "plain json loop"
READERS = {PLAIN: plain_json_loop, "streaming pass": streaming_pass, "whole report": whole_report}


def write_captures(folder: Path, records: int) -> int:
    """Write captures of noise in SageMaker's layout, each with its own id, time and scores; return the bytes."""
    chance = np.random.default_rng(0)
    photos = itertools.cycle(_noise(chance))
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


def _noise(chance: np.random.Generator) -> list[str]:
    photos = []
    for _ in range(50):
        png = io.BytesIO()
        Image.frombytes("RGB", (32, 32), chance.bytes(3 * 32 * 32)).save(png, "PNG")
        photos.append(base64.b64encode(png.getvalue()).decode())
    return photos
