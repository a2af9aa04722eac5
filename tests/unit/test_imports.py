"""Imports between packages point one way, so each package can be read and changed without those above it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from loading_bay.stack.template import ROOT

# Package → the packages that it may import. Each function is deployed with its libraries; the container ships alone.
MAY_IMPORT: dict[str, set[str]] = {
    "functions.photo": set(),
    "functions.decisions": set(),
    "functions.serialize": {"functions.photo"},
    "functions.inference": {"functions.decisions"},
    "functions.threshold": {"functions.decisions"},
    "functions.web": set(),
    "functions.review": {"functions.photo", "functions.decisions", "functions.web"},
    "functions.driver": {"functions.decisions", "functions.web"},
    "training.container": set(),
    "loading_bay.stack": {"functions.decisions"},
    "loading_bay.statistics": set(),
    "loading_bay.pages": {"loading_bay.stack"},
    "loading_bay.operations": {"functions.decisions", "loading_bay.stack", "loading_bay.statistics"},
    "loading_bay.report": {
        "functions.photo", "functions.decisions", "loading_bay.pages", "loading_bay.stack", "loading_bay.statistics"
    },
    "loading_bay.model": {
        "functions.photo", "loading_bay.pages", "loading_bay.stack", "loading_bay.statistics", "training.container"
    },
    "loading_bay.endpoint": {"loading_bay.model", "loading_bay.stack", "training.container"},
    "loading_bay.local": {
        "functions.decisions", "loading_bay.model", "loading_bay.operations", "loading_bay.stack", "training.container"
    },
}  # fmt: skip
TOPS = {"functions", "loading_bay", "training", "benchmarks", "tests"}


def package_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imported(package: str) -> Iterator[tuple[str, str]]:
    """Yield each file of the package with every other package that it imports."""
    place = ROOT / package.replace(".", "/")
    for file in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.split(".")[0] in TOPS and package_of(name) != package:
                    yield file.name, package_of(name)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_packages_below_it(package: str) -> None:
    upward = {(file, other) for file, other in imported(package) if other not in MAY_IMPORT[package]}

    assert upward == set()


def test_the_allowed_imports_have_no_cycle() -> None:
    left = dict(MAY_IMPORT)
    while bottom := [package for package, below in left.items() if not below & set(left)]:
        for package in bottom:
            del left[package]

    assert left == {}


def test_every_package_has_its_place() -> None:
    def is_package(path: Path) -> bool:
        return path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))

    found = {
        f"{top}.{path.stem}"
        for top in ("functions", "loading_bay", "training")
        for path in (ROOT / top).iterdir()
        if is_package(path) and path.stem not in {"__init__", "__pycache__"}
    }

    assert found - {"loading_bay.cli"} == set(MAY_IMPORT)
