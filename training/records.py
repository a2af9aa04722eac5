"""How records are written: JSON that every reader reads."""

import json
import math
from pathlib import Path
from typing import Any


def write(path: Path, content: Any) -> None:
    """Write JSON that a person can read and git can compare; what is no number (NaN) becomes null."""
    path.write_text(json.dumps(_finite(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
