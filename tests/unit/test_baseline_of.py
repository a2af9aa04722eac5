"""The baseline that a report compares with belongs to the model of the stack."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loading_bay.stack.captures import SHIPPED_BASELINE, baseline_of


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the local stack's model."""
    path = tmp_path / "own" / "model.onnx"
    path.parent.mkdir()
    record = tmp_path / "stack.json"
    record.write_text(json.dumps({"model": str(path)}))
    monkeypatch.setattr("loading_bay.stack.captures.LOCAL_RECORD", record)
    return path


def stack(endpoint_url: str | None) -> Any:
    return SimpleNamespace(endpoint_url=endpoint_url)


def test_on_this_machine_it_lies_beside_the_model(model: Path) -> None:
    assert baseline_of(stack("http://127.0.0.1:1")) is None
    (model.parent / "baseline.json").touch()
    assert baseline_of(stack("http://127.0.0.1:1")) == model.parent / "baseline.json"


@pytest.mark.usefixtures("model")
def test_on_aws_it_is_the_shipped_one() -> None:
    assert baseline_of(stack(None)) == SHIPPED_BASELINE
    assert SHIPPED_BASELINE.is_file()
