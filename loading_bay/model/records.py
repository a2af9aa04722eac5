"""Records and reports, in JSON that every parser accepts."""

import json
import math
from pathlib import Path
from typing import Any

from loading_bay.stack.errors import UserError


def write(path: Path, content: object) -> None:
    """Write JSON that a person can read and git can compare; NaN becomes null."""
    path.write_text(json.dumps(finite(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read(path: Path) -> Any:
    """Return the content of a record.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a record: {error}") from error


def finite(content: object) -> object:
    """Return the content with null in place of NaN and infinities."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
