"""Commands for messages to print: they work from any folder, and are quoted for a shell."""

import shlex
import shutil
import sys
from pathlib import Path

from .template import ROOT

PROGRAM = "loading-bay"


def command(*words: str) -> str:
    """Return a command of this program: by name if the shell finds it, else by path."""
    typed, found = Path(sys.argv[0]), shutil.which(PROGRAM)
    is_elsewhere = typed.name == PROGRAM and not (found and typed.samefile(found))
    return shlex.join([str(typed.absolute()) if is_elsewhere else PROGRAM, *words])


def make(target: str) -> str:
    """Return the `make` command for a target of this checkout."""
    return shlex.join(["make", "-C", str(ROOT), target])
