"""Writes the endpoint's requests and answers in the format and folders of SageMaker data capture.

https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture-endpoint.html
"""

import base64
import json
import random
import uuid
from datetime import UTC, datetime
from pathlib import Path


class CaptureWriter:
    """Appends records to `{folder}/{endpoint}/{variant}/yyyy/mm/dd/hh/mm-ss-fff-uuid.jsonl`, one file per minute."""

    def __init__(self, folder: Path, endpoint: str, variant: str, percentage: int) -> None:
        self._folder = folder / endpoint / variant
        self._percentage = percentage
        self._minute = ""
        self._file = folder

    def write(self, content_type: str, body: bytes, answer: bytes, inference_id: str | None = None) -> None:
        """Record one successful invocation, or leave it out of the sample."""
        if random.uniform(0, 100) >= self._percentage:  # noqa: S311 - a sample, not a secret
            return
        now = datetime.now(UTC)
        record = {
            "captureData": {
                "endpointInput": {
                    "observedContentType": content_type,
                    "mode": "INPUT",
                    "data": base64.b64encode(body).decode(),
                    "encoding": "BASE64",
                },
                "endpointOutput": {
                    "observedContentType": "application/json",
                    "mode": "OUTPUT",
                    "data": answer.decode(),
                    "encoding": "JSON",
                },
            },
            "eventMetadata": {
                "eventId": str(uuid.uuid4()),
                **({"inferenceId": inference_id} if inference_id else {}),
                "inferenceTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
            "eventVersion": "0",
        }
        with self._path(now).open("a") as file:
            file.write(json.dumps(record, separators=(",", ":")) + "\n")

    def _path(self, now: datetime) -> Path:
        if now.strftime("%Y%m%d%H%M") != self._minute:
            self._minute = now.strftime("%Y%m%d%H%M")
            hour = self._folder / now.strftime("%Y/%m/%d/%H")
            hour.mkdir(parents=True, exist_ok=True)
            name = f"{now.strftime('%M-%S')}-{now.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
            self._file = hour / name
        return self._file
