"""How records and reports are written: JSON that every reader reads, into a folder that takes it."""

import json
import math
import tempfile
from pathlib import Path
from typing import Any

from stack.errors import UserError


def write(path: Path, content: Any) -> None:
    """Write JSON that a person can read and git can compare; what is no number (NaN) becomes null."""
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


def finite(content: Any) -> Any:
    """Return the content with null in place of what is no number."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def require_writable(folder: Path) -> None:
    """Make a folder for what a long computation will write, before it starts.

    Raises:
        UserError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error.strerror}): give another with --output") from error
