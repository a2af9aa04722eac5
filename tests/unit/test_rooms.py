"""Imports between the rooms point one way, so that each can be read and changed without those above it."""

import ast
from collections.abc import Iterator

import pytest

from stack.template import ROOT

# Room → what it may import of others. The functions are packed alone; the container ships alone.
MAY_IMPORT: dict[str, set[str]] = {
    "functions/serialize": set(),
    "functions/inference": set(),
    "functions/threshold": set(),
    "functions/review": {"functions.serialize"},
    "stack": set(),
    "pages": {"stack"},
    "training/container": set(),
    "training": {"functions.serialize", "pages", "stack"},
    "monitoring": {"functions.serialize", "pages", "stack"},
    "operate": {"functions.review", "stack"},
    "local": {"stack", "training"},
    "benchmarks": {"functions.review", "functions.serialize", "local", "monitoring", "operate", "stack", "training"},
}
ROOMS = {room.split("/")[0] for room in MAY_IMPORT}


def imported(room: str) -> Iterator[tuple[str, str]]:
    """Yield each file of the room with each other room that it imports."""
    for file in sorted((ROOT / room).rglob("*.py")):
        if room == "training" and "container" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                package, _, rest = name.partition(".")
                if package in ROOMS and not f"{name}.".startswith(f"{room.replace('/', '.')}."):
                    yield file.name, f"functions.{rest.split('.')[0]}" if package == "functions" else package


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    upward = {(file, other) for file, other in imported(room) if other not in MAY_IMPORT[room]}

    assert upward == set()


def test_every_folder_with_code_is_a_room() -> None:
    folders = {file.relative_to(ROOT).parts[0] for file in ROOT.glob("*/**/*.py") if ".venv" not in str(file)}

    assert {name for name in folders if not name.startswith(".")} - ROOMS == {"docs", "events", "tests"} & folders
