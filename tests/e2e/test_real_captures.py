"""Captures of real endpoints, read from the folder in CAPTURES_DIR, which is not part of this project."""

import json
import os
import re
from pathlib import Path

import pytest
from arro3.io import read_parquet
from click.testing import CliRunner

from loading_bay.cli.main import main

FOLDER = os.environ.get("CAPTURES_DIR")

pytestmark = pytest.mark.skipif(FOLDER is None, reason="CAPTURES_DIR does not name a folder of real captures")


def test_every_real_record_is_used_once_or_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(FOLDER), "--output", str(tmp_path), "--no-baseline"])

    assert result.exit_code == 0
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert (found["records"], found["ids"], found["predictions"]) == (73, 73, 72)
    assert found["skipped"] == {"not_an_image": 1}
    ids = read_parquet(tmp_path / "predictions.parquet").read_all()["event_id"]
    assert len({ids[k].as_py() for k in range(len(ids))}) == 72
    assert len(found["variants"]) == 7
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(re.findall('<img src="data:image/png;base64,', page)) == 12 + 6 + 6
    assert "no picture in the capture" not in page
