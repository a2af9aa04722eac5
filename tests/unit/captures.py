"""Makes capture files in the format and layout of SageMaker."""

import base64
import io
import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

HOUR = datetime(2026, 11, 20, 4, tzinfo=UTC)


def photo(colour: tuple[int, int, int] = (200, 60, 30)) -> bytes:
    """Return a PNG of 32 × 32 pixels in one colour."""
    png = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(png, "PNG")
    return png.getvalue()


def record(
    scores: object = (0.95, 0.05),
    *,
    event_id: str | None = None,
    time: str | None = "2026-11-20T04:10:00Z",
    body: bytes | None = None,
    request_type: str = "image/png",
    encoding: str = "JSON",
) -> dict[str, Any]:
    """Return a capture record; `scores` go into the answer as JSON, or unchanged if they are text."""
    body = photo() if body is None else body
    answer = scores if isinstance(scores, str) else json.dumps(scores)
    event: dict[str, Any] = {"eventId": event_id or str(uuid.uuid4())}
    if time is not None:
        event["inferenceTime"] = time
    return {
        "captureData": {
            "endpointInput": {
                "observedContentType": request_type,
                "mode": "INPUT",
                "data": base64.b64encode(body).decode(),
                "encoding": "BASE64",
            },
            "endpointOutput": {
                "observedContentType": "application/json",
                "mode": "OUTPUT",
                "data": answer,
                "encoding": encoding,
            },
        },
        "eventMetadata": event,
        "eventVersion": "0",
    }


def lines(*records: object) -> bytes:
    """Return records as JSON Lines; bytes are kept unchanged."""
    return b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in records)


def place(
    *,
    endpoint: str = "loading-bay",
    variant: str = "AllTraffic",
    hour: datetime = HOUR,
    name: str = "10-00.jsonl",
) -> str:
    """Return a file's path below the root of data capture."""
    return f"{endpoint}/{variant}/{hour:%Y/%m/%d/%H}/{name}"


def write(folder: Path, path: str, content: bytes) -> Path:
    """Write a file below `folder` and return its path."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def baseline(scores: Sequence[Sequence[float]], class_names: Sequence[str] = ("bicycle", "motorcycle")) -> bytes:
    """Return a baseline file with these validation scores, balanced between the classes."""
    share = 1 / len(class_names)
    return json.dumps(
        {
            "class_names": list(class_names),
            "class_balance": dict.fromkeys(class_names, share),
            "scores": [list(each) for each in scores],
        }
    ).encode()
