"""The code in each function's package, as functions/Makefile copies it."""

import re
from pathlib import Path

from loading_bay.stack.template import ROOT

FOLDER = ROOT / "functions"
CODE: dict[str, str] = dict(re.findall(r"^build-(\w+): CODE = (.+)$", (FOLDER / "Makefile").read_text(), re.MULTILINE))


def packages_of(function: str) -> list[str]:
    """The function's own package, then its libraries."""
    return CODE[function].split()


def modules_of(function: str) -> list[Path]:
    """The modules that the function's handler imports, and the handler."""
    found: list[Path] = []
    waiting = [FOLDER / packages_of(function)[0] / "app.py"]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.append(module)
        text = module.read_text()
        waiting += [module.with_name(f"{name}.py") for name in re.findall(r"^from \.(\w+) import", text, re.MULTILINE)]
        absolute = re.findall(r"^from functions\.(\w+)\.(\w+) import", text, re.MULTILINE)
        waiting += [FOLDER / package / f"{name}.py" for package, name in absolute]
    return found
