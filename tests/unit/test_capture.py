"""Captures have the format and folders of SageMaker data capture."""

import base64
import json
import re
from pathlib import Path

from loading_bay.local.capture import CaptureWriter


def written(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jsonl"))


def test_a_call_is_captured_completely_in_sagemaker_s_layout(tmp_path: Path) -> None:
    CaptureWriter(tmp_path, "loading-bay", "AllTraffic", 100).write("image/png", b"\x89PNG", b"[0.1, 0.9]")

    (file,) = written(tmp_path)
    layout = r"loading-bay/AllTraffic/\d{4}/\d\d/\d\d/\d\d/\d\d-\d\d-\d{3}-[0-9a-f-]{36}\.jsonl"
    assert re.fullmatch(layout, file.relative_to(tmp_path).as_posix())
    record = json.loads(file.read_text())
    asked, answered = record["captureData"]["endpointInput"], record["captureData"]["endpointOutput"]
    assert (asked["observedContentType"], asked["mode"], asked["encoding"]) == (
        "image/png",
        "INPUT",
        "BASE64",
    )
    assert base64.b64decode(asked["data"]) == b"\x89PNG"
    assert (answered["mode"], answered["encoding"], json.loads(answered["data"])) == (
        "OUTPUT",
        "JSON",
        [0.1, 0.9],
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["eventMetadata"]["inferenceTime"])
    assert record["eventVersion"] == "0"


def test_the_caller_s_name_for_a_call_is_kept(tmp_path: Path) -> None:
    capture = CaptureWriter(tmp_path, "loading-bay", "AllTraffic", 100)
    capture.write("image/png", b"x", b"[0.5, 0.5]", "a-claim")
    capture.write("image/png", b"x", b"[0.5, 0.5]")

    named, plain = [json.loads(line)["eventMetadata"] for file in written(tmp_path) for line in file.open()]
    assert named["inferenceId"] == "a-claim"
    assert "inferenceId" not in plain


def test_calls_of_one_minute_share_a_file_and_have_different_ids(tmp_path: Path) -> None:
    capture = CaptureWriter(tmp_path, "loading-bay", "AllTraffic", 100)
    for _ in range(50):
        capture.write("image/png", b"x", b"[0.5, 0.5]")

    lines = [line for file in written(tmp_path) for line in file.read_text().splitlines()]
    assert len(lines) == 50
    assert len({json.loads(line)["eventMetadata"]["eventId"] for line in lines}) == 50
    assert len(written(tmp_path)) <= 2


def test_the_sample_has_about_the_requested_share(tmp_path: Path) -> None:
    for percentage, low, high in [(0, 0, 0), (30, 200, 400), (100, 1000, 1000)]:
        folder = tmp_path / str(percentage)
        capture = CaptureWriter(folder, "loading-bay", "AllTraffic", percentage)
        for _ in range(1000):
            capture.write("image/png", b"x", b"[0.5, 0.5]")
        assert low <= sum(len(file.read_text().splitlines()) for file in written(folder)) <= high
