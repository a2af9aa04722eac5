"""The notebook for newcomers, run as Jupyter runs it."""

import os
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from loading_bay.local import processes
from loading_bay.stack.template import ROOT

NOTEBOOK = ROOT / "training" / "walkthrough.ipynb"
SECONDS = 900  # for one cell; more than a busy machine needs
LARGEST_BYTES = 60_000


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of the notebook's temporary files; a stack that it left there is ended."""
    yield tmp_path
    for made in tmp_path.iterdir():
        processes.end(made / "stack")


def test_the_walkthrough_runs_to_its_end_and_cleans_up(folder: Path) -> None:
    """Its assertions are in its cells, and a failing cell raises here."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(ROOT)}})

    client.execute(env=os.environ | {"TMPDIR": str(folder)})

    assert list(folder.glob("loading-bay-*")) == []


def test_the_walkthrough_is_kept_as_it_ran_and_small() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]

    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert NOTEBOOK.stat().st_size < LARGEST_BYTES
